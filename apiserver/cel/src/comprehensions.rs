//! Comprehensions with two variables: `all(k, v, …)`, `exists`, `existsOne`, `transformList`, `transformMap` and
//! `transformMapEntry`, over the indexes and items of lists and the keys and values of maps.
//!
//! CEL's extension "TwoVarComprehensions" (Kubernetes 1.33). The evaluator knows one variable: each macro loops over a list of pairs and
//! binds the two.

use cel::common::ast::{CallExpr, ComprehensionExpr, Expr, IdedExpr, ListExpr, LiteralValue, MapExpr, operators};
use cel::common::types::{CelInt, CelList, CelMap, CelMapKey, DYN_TYPE, LIST_TYPE, MAP_TYPE};
use cel::common::value::{CowVal, Val};
use cel::parser::{Macro, MacroExprHelper, ParseError};
use cel::{DeclarationError, Env, ExecutionError};

use crate::types::{Answer, Arguments, arguments, items};

/// Functions that no expression can name.
const PAIRS: &str = "@pairs";
const INSERT: &str = "@insert";
const MERGE: &str = "@merge";
/// Variables that no expression can name.
const PAIR: &str = "@pair";
const RESULT: &str = "@result";

pub(crate) fn library(env: &mut Env) -> Result<(), DeclarationError> {
    env.add_overload(PAIRS, "list_pairs", vec![LIST_TYPE], list_pairs)?;
    env.add_overload(PAIRS, "map_pairs", vec![MAP_TYPE], map_pairs)?;
    env.add_overload(INSERT, "map_insert", vec![MAP_TYPE, DYN_TYPE, DYN_TYPE], insert)?;
    env.add_overload(MERGE, "map_merge", vec![MAP_TYPE, MAP_TYPE], merge)?;
    for (name, arity, step) in [
        ("all", 3, all as Step),
        ("exists", 3, exists),
        ("existsOne", 3, exists_one),
        ("exists_one", 3, exists_one),
        ("transformList", 3, transform_list),
        ("transformList", 4, transform_list),
        ("transformMap", 3, transform_map),
        ("transformMap", 4, transform_map),
        ("transformMapEntry", 3, transform_map_entry),
        ("transformMapEntry", 4, transform_map_entry),
    ] {
        env.add_macro(Macro::receiver(name, arity, move |helper, target, args| expand(helper, target, args, step)))?;
    }
    Ok(())
}

fn pair<'v>(key: Box<dyn Val + 'v>, value: &(dyn Val + 'v)) -> Box<dyn Val + 'v> {
    Box::new(CelList::from(vec![key, value.clone_as_boxed()]))
}

fn list_pairs<'b, 'v>(all: Arguments<'b, 'v>) -> Answer<'b, 'v> {
    let [list] = arguments(all)?;
    let items = items(list.as_ref())?;
    let pairs: Vec<Box<dyn Val + 'v>> =
        (0..).zip(items).map(|(i, item)| pair(Box::new(CelInt::from(i)), item)).collect();
    Ok(CowVal::owned(CelList::from(pairs)))
}

fn key<'v>(key: &CelMapKey<'v>) -> Box<dyn Val + 'v> {
    match key.clone() {
        CelMapKey::Bool(key) => Box::new(key),
        CelMapKey::Int(key) => Box::new(key),
        CelMapKey::UInt(key) => Box::new(key),
        CelMapKey::String(key) => Box::new(key),
    }
}

fn as_map<'b, 'v>(map: &'b (dyn Val + 'v)) -> Result<&'b CelMap<'v>, ExecutionError> {
    map.downcast_ref::<CelMap<'v>>()
        .ok_or_else(|| ExecutionError::UnexpectedType { got: map.get_type().name().to_owned(), want: "map".to_owned() })
}

fn map_pairs<'b, 'v>(all: Arguments<'b, 'v>) -> Answer<'b, 'v> {
    let [map] = arguments(all)?;
    let pairs: Vec<Box<dyn Val + 'v>> =
        as_map(map.as_ref())?.inner().iter().map(|(name, value)| pair(key(name), value.as_ref())).collect();
    Ok(CowVal::owned(CelList::from(pairs)))
}

fn insert<'b, 'v>(all: Arguments<'b, 'v>) -> Answer<'b, 'v> {
    let [map, key, value] = arguments(all)?;
    let mut entries = as_map(map.as_ref())?.clone().into_inner();
    entries.insert(key.try_into()?, value.into_owned());
    Ok(CowVal::owned(CelMap::from(entries)))
}

fn merge<'b, 'v>(all: Arguments<'b, 'v>) -> Answer<'b, 'v> {
    let [map, other] = arguments(all)?;
    let mut entries = as_map(map.as_ref())?.clone().into_inner();
    for (key, value) in as_map(other.as_ref())?.clone().into_inner() {
        if entries.insert(key, value).is_some() {
            return Err(ExecutionError::function_error("transformMapEntry", "insert failed: key already exists"));
        }
    }
    Ok(CowVal::owned(CelMap::from(entries)))
}

/// The parts of a loop: where it starts, while what it goes on, its step, and its result.
struct Loop {
    start: IdedExpr,
    condition: IdedExpr,
    step: IdedExpr,
    result: IdedExpr,
}

/// Makes the loop of a macro; the body is without the macro's variables bound, the condition of a transformation is among the arguments.
type Step = fn(&mut Tree<'_, '_>, Bound) -> Loop;

/// What a macro is called with.
struct Bound {
    key: String,
    value: String,
    filter: Option<IdedExpr>,
    body: IdedExpr,
}

/// Makes nodes of the tree.
struct Tree<'h, 'p>(&'h mut MacroExprHelper<'p>);

impl Tree<'_, '_> {
    fn name(&mut self, name: &str) -> IdedExpr {
        self.0.next_expr(Expr::Ident(name.to_owned()))
    }

    fn truth(&mut self, value: bool) -> IdedExpr {
        self.0.next_expr(Expr::Literal(LiteralValue::Boolean(value.into())))
    }

    fn int(&mut self, value: i64) -> IdedExpr {
        self.0.next_expr(Expr::Literal(LiteralValue::Int(value.into())))
    }

    fn list(&mut self, elements: Vec<IdedExpr>) -> IdedExpr {
        self.0.next_expr(Expr::List(ListExpr::new(elements)))
    }

    fn call(&mut self, function: &str, args: Vec<IdedExpr>) -> IdedExpr {
        self.0.next_expr(Expr::Call(CallExpr { func_name: function.to_owned(), target: None, args }))
    }

    /// An expression in which a name stands for another one: a loop that is never run.
    fn bind(&mut self, name: &str, value: IdedExpr, result: IdedExpr) -> IdedExpr {
        let (iter_range, loop_cond, loop_step) = (self.list(Vec::new()), self.truth(false), self.name(name));
        self.0.next_expr(Expr::Comprehension(Box::new(ComprehensionExpr {
            iter_range,
            iter_var: "#unused".to_owned(),
            iter_var2: None,
            accu_var: name.to_owned(),
            accu_init: value,
            loop_cond,
            loop_step,
            result,
        })))
    }

    /// An expression with the two variables taken of the pair.
    fn with_pair(&mut self, key: &str, value: &str, result: IdedExpr) -> IdedExpr {
        let mut bound = result;
        for (place, name) in [(1, value), (0, key)] {
            let (pair, place) = (self.name(PAIR), self.int(place));
            let element = self.call(operators::INDEX, vec![pair, place]);
            bound = self.bind(name, element, bound);
        }
        bound
    }

    fn body(&mut self, bound: Bound) -> IdedExpr {
        self.with_pair(&bound.key, &bound.value, bound.body)
    }

    /// The step where the filter lets it.
    fn filtered(&mut self, bound: &mut Bound, step: IdedExpr) -> IdedExpr {
        let Some(filter) = bound.filter.take() else { return step };
        let filter = self.with_pair(&bound.key, &bound.value, filter);
        let unchanged = self.name(RESULT);
        self.call(operators::CONDITIONAL, vec![filter, step, unchanged])
    }
}

fn name_of(expression: &IdedExpr, helper: &MacroExprHelper<'_>) -> Result<String, ParseError> {
    match &expression.expr {
        Expr::Ident(name) => Ok(name.clone()),
        _ => Err(helper.new_error(expression.id, "argument must be a simple name")),
    }
}

fn expand(
    helper: &mut MacroExprHelper<'_>,
    target: &mut Option<IdedExpr>,
    args: &mut Vec<IdedExpr>,
    step: Step,
) -> Result<Option<IdedExpr>, ParseError> {
    let (key, value) = (name_of(&args[0], helper)?, name_of(&args[1], helper)?);
    let (Some(target), Some(body)) = (target.take(), args.pop()) else { return Ok(None) };
    let filter = if args.len() == 3 { args.pop() } else { None };
    let mut tree = Tree(helper);
    let Loop { start, condition, step, result } = step(&mut tree, Bound { key, value, filter, body });
    let pairs = tree.call(PAIRS, vec![target]);
    Ok(Some(tree.0.next_expr(Expr::Comprehension(Box::new(ComprehensionExpr {
        iter_range: pairs,
        iter_var: PAIR.to_owned(),
        iter_var2: None,
        accu_var: RESULT.to_owned(),
        accu_init: start,
        loop_cond: condition,
        loop_step: step,
        result,
    })))))
}

fn fold(tree: &mut Tree<'_, '_>, bound: Bound, operator: &str, start: bool) -> Loop {
    let body = tree.body(bound);
    let (accumulated, so_far) = (tree.name(RESULT), tree.name(RESULT));
    let going_on = if start { accumulated } else { tree.call(operators::LOGICAL_NOT, vec![accumulated]) };
    Loop {
        start: tree.truth(start),
        condition: tree.call(operators::NOT_STRICTLY_FALSE, vec![going_on]),
        step: tree.call(operator, vec![so_far, body]),
        result: tree.name(RESULT),
    }
}

fn all(tree: &mut Tree<'_, '_>, bound: Bound) -> Loop {
    fold(tree, bound, operators::LOGICAL_AND, true)
}

fn exists(tree: &mut Tree<'_, '_>, bound: Bound) -> Loop {
    fold(tree, bound, operators::LOGICAL_OR, false)
}

fn exists_one(tree: &mut Tree<'_, '_>, bound: Bound) -> Loop {
    let body = tree.body(bound);
    let (counted, unchanged, one) = (tree.name(RESULT), tree.name(RESULT), tree.int(1));
    let counted = tree.call(operators::ADD, vec![counted, one]);
    let (count, wanted) = (tree.name(RESULT), tree.int(1));
    Loop {
        start: tree.int(0),
        condition: tree.truth(true),
        step: tree.call(operators::CONDITIONAL, vec![body, counted, unchanged]),
        result: tree.call(operators::EQUALS, vec![count, wanted]),
    }
}

/// A transformation: what of the result so far and the body becomes the result.
fn transform(
    tree: &mut Tree<'_, '_>,
    mut bound: Bound,
    start: IdedExpr,
    add: impl FnOnce(&mut Tree<'_, '_>, IdedExpr, IdedExpr) -> IdedExpr,
) -> Loop {
    let body = std::mem::take(&mut bound.body);
    let body = tree.with_pair(&bound.key, &bound.value, body);
    let so_far = tree.name(RESULT);
    let step = add(tree, so_far, body);
    Loop { start, condition: tree.truth(true), step: tree.filtered(&mut bound, step), result: tree.name(RESULT) }
}

fn transform_list(tree: &mut Tree<'_, '_>, bound: Bound) -> Loop {
    let start = tree.list(Vec::new());
    transform(tree, bound, start, |tree, so_far, body| {
        let one = tree.list(vec![body]);
        tree.call(operators::ADD, vec![so_far, one])
    })
}

fn transform_map(tree: &mut Tree<'_, '_>, bound: Bound) -> Loop {
    let start = tree.0.next_expr(Expr::Map(MapExpr::default()));
    transform(tree, bound, start, |tree, so_far, body| {
        let (pair, first) = (tree.name(PAIR), tree.int(0));
        let key = tree.call(operators::INDEX, vec![pair, first]);
        tree.call(INSERT, vec![so_far, key, body])
    })
}

fn transform_map_entry(tree: &mut Tree<'_, '_>, bound: Bound) -> Loop {
    let start = tree.0.next_expr(Expr::Map(MapExpr::default()));
    transform(tree, bound, start, |tree, so_far, body| tree.call(MERGE, vec![so_far, body]))
}
