//! The types of expressions, as far as they can be told before there are values.
//!
//! What depends on values is `dyn`, which every function takes. Refusals are in the words of Kubernetes, which shows them to people in the
//! status of policies and in the answer to a definition.

use std::sync::Arc;

use apimachinery::schema::{FieldType, Type};
use cel::common::ast::operators;
use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, SelectExpr, SourceInfo};

use crate::signatures::{self, Signature};
use crate::{depth, libraries};

/// The type of a value.
#[derive(Clone, Debug)]
pub enum Ty {
    /// By its name in the table of signatures; `dyn` is any.
    Named(&'static str),
    List(Box<Ty>),
    /// From texts.
    Map(Box<Ty>),
    Object(Arc<Type>),
    /// An object with these fields.
    Fields(Vec<(String, Ty)>),
}

pub const DYN: Ty = Ty::Named("dyn");
const BOOL: Ty = Ty::Named("bool");
const INT: Ty = Ty::Named("int");

impl Ty {
    /// The name in the table of signatures.
    pub fn name(&self) -> &'static str {
        match self {
            Ty::Named(name) => name,
            Ty::List(_) => "list",
            Ty::Map(_) | Ty::Object(_) | Ty::Fields(_) => "map",
        }
    }

    fn is_dyn(&self) -> bool {
        self.name() == "dyn"
    }

    /// The type in messages.
    fn shown(&self) -> String {
        match self {
            Ty::Named("null") => "null_type".to_owned(),
            Ty::Named(name) => (*name).to_owned(),
            Ty::List(item) => format!("list({})", item.shown()),
            Ty::Map(value) => format!("map(string, {})", value.shown()),
            Ty::Object(ty) => ty.name.clone(),
            Ty::Fields(_) => "object".to_owned(),
        }
    }

    fn of_result(name: &'static str) -> Ty {
        match name {
            "list" => Ty::List(Box::new(DYN)),
            "map" => Ty::Map(Box::new(DYN)),
            name => Ty::Named(name),
        }
    }

    /// What a field of an object holds. Quantities and times may be written in several ways.
    pub fn of_field(ty: &FieldType) -> Ty {
        match ty {
            FieldType::Bool => BOOL,
            FieldType::Int32 | FieldType::Int64 => INT,
            FieldType::Double => Ty::Named("double"),
            FieldType::String => Ty::Named("string"),
            FieldType::Message(link) => Ty::Object(link.arc().clone()),
            FieldType::List(item) => Ty::List(Box::new(Ty::of_field(&item.ty))),
            FieldType::Map(value) => Ty::Map(Box::new(Ty::of_field(&value.ty))),
            _ => DYN,
        }
    }

    /// The type that values of both have.
    fn joined(self, other: Ty) -> Ty {
        match (self, other) {
            (Ty::List(a), Ty::List(b)) => Ty::List(Box::new(a.joined(*b))),
            (Ty::Map(a), Ty::Map(b)) => Ty::Map(Box::new(a.joined(*b))),
            (a, b) if a.name() == b.name() && !matches!(a, Ty::Object(_) | Ty::Fields(_)) => a,
            _ => DYN,
        }
    }
}

/// The variables that an expression may use.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    names: Vec<(String, Ty)>,
}

impl Scope {
    /// Variables whose types are not known.
    pub fn of(names: &[&str]) -> Self {
        Scope { names: names.iter().map(|name| ((*name).to_owned(), DYN)).collect() }
    }

    /// With a variable, in place of one of that name.
    #[must_use]
    pub fn with(mut self, name: &str, ty: Ty) -> Self {
        self.names.push((name.to_owned(), ty));
        self
    }

    /// All variables but one.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.names.retain(|(known, _)| known != name);
        self
    }

    fn get(&self, name: &str) -> Option<&Ty> {
        self.names.iter().rev().find(|(known, _)| known == name).map(|(_, ty)| ty)
    }
}

/// Names of types, which are values too.
const TYPES: [&str; 11] =
    ["bool", "int", "uint", "double", "string", "bytes", "list", "map", "null_type", "type", "dyn"];

/// The type of an expression.
///
/// # Errors
/// What is not CEL, names that are not there, and functions that do not take what they are called with.
pub fn check(text: &str, scope: &Scope) -> Result<Ty, String> {
    depth::check(text)?;
    let parsed = libraries().parser().parse_with_source_info(text);
    let (tree, source) = parsed.map_err(|errors| errors.to_string())?;
    let mut checker = Checker { source: &source, scope: scope.clone() };
    checker.ty(&tree)
}

struct Checker<'a> {
    source: &'a SourceInfo,
    scope: Scope,
}

type Outcome = Result<Ty, String>;

impl Checker<'_> {
    /// A message with its place.
    fn error(&self, id: u64, message: &str) -> String {
        let start = self.source.offset_for(id).map_or(0, |(start, _)| start as usize);
        let before = self.source.source.get(..start).unwrap_or_default();
        let line = before.matches('\n').count();
        let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count());
        let text = self.source.source.lines().nth(line).unwrap_or_default();
        format!("ERROR: <input>:{}:{}: {message}\n | {text}\n | {}^", line + 1, column + 1, ".".repeat(column))
    }

    fn ty(&mut self, expression: &IdedExpr) -> Outcome {
        match &expression.expr {
            Expr::Literal(literal) => Ok(literal_type(literal)),
            Expr::Ident(name) => self.name(expression.id, name),
            Expr::Select(select) => self.select(expression.id, select),
            Expr::Call(call) => self.call(expression.id, call),
            Expr::List(list) => self.list(&list.elements),
            Expr::Map(map) => {
                let entries = map.entries.iter().map(|entry| &entry.expr).collect::<Vec<_>>();
                self.entries(&entries).map(|value| Ty::Map(Box::new(value)))
            }
            Expr::Struct(it) => {
                let name = &it.type_name;
                if name != "JSONPatch" && name != "Object" && !name.starts_with("Object.") {
                    let message = format!("undeclared reference to '{name}' (in container '')");
                    return Err(self.error(expression.id, &message));
                }
                let entries = it.entries.iter().map(|entry| &entry.expr).collect::<Vec<_>>();
                self.entries(&entries).map(|_| DYN)
            }
            Expr::Comprehension(it) => self.comprehension(expression.id, it),
            Expr::Unspecified => Ok(DYN),
        }
    }

    fn name(&self, id: u64, name: &str) -> Outcome {
        match self.scope.get(name) {
            Some(ty) => Ok(ty.clone()),
            None if TYPES.contains(&name) => Ok(Ty::Named("type")),
            None => Err(self.error(id, &format!("undeclared reference to '{name}' (in container '')"))),
        }
    }

    fn list(&mut self, elements: &[IdedExpr]) -> Outcome {
        let mut joined: Option<Ty> = None;
        for element in elements {
            let ty = self.ty(element)?;
            joined = Some(joined.map_or(ty.clone(), |before| before.joined(ty)));
        }
        Ok(Ty::List(Box::new(joined.unwrap_or(DYN))))
    }

    fn entries(&mut self, entries: &[&EntryExpr]) -> Outcome {
        let mut joined: Option<Ty> = None;
        for entry in entries {
            let value = match entry {
                EntryExpr::StructField(field) => self.ty(&field.value)?,
                EntryExpr::MapEntry(entry) => {
                    self.ty(&entry.key)?;
                    self.ty(&entry.value)?
                }
            };
            joined = Some(joined.map_or(value.clone(), |before| before.joined(value)));
        }
        Ok(joined.unwrap_or(DYN))
    }

    fn select(&mut self, id: u64, select: &SelectExpr) -> Outcome {
        if let Expr::Ident(name) = &select.operand.expr
            && self.scope.get(name).is_some()
            && let Some(ty) = self.scope.get(&format!("{name}.{}", select.field))
        {
            return Ok(ty.clone());
        }
        let operand = self.ty(&select.operand)?;
        let found = self.field(id, &operand, &select.field)?;
        Ok(if select.test { BOOL } else { found })
    }

    fn field(&self, id: u64, operand: &Ty, field: &str) -> Outcome {
        let undefined = || Err(self.error(id, &format!("undefined field '{field}'")));
        match operand {
            Ty::Named("dyn" | "optional") => Ok(operand.clone()),
            Ty::Map(value) => Ok((**value).clone()),
            Ty::Object(ty) => match ty.field(field) {
                Some(field) => Ok(Ty::of_field(&field.ty)),
                None if ty.preserve_unknown => Ok(DYN),
                None => undefined(),
            },
            Ty::Fields(fields) => {
                let found = fields.iter().rev().find(|(known, _)| known == field);
                found.map_or_else(undefined, |(_, ty)| Ok(ty.clone()))
            }
            other => Err(self.error(id, &format!("type '{}' does not support field selection", other.shown()))),
        }
    }

    fn call(&mut self, id: u64, call: &CallExpr) -> Outcome {
        if let Some(target) = &call.target {
            return self.member(id, call, target);
        }
        let arguments = call.args.iter().map(|argument| self.ty(argument)).collect::<Result<Vec<_>, _>>()?;
        match (call.func_name.as_str(), arguments.as_slice()) {
            (operators::CONDITIONAL, [condition, yes, no]) => {
                self.demand_bool(id, operators::CONDITIONAL, condition, &arguments)?;
                Ok(yes.clone().joined(no.clone()))
            }
            (operators::EQUALS | operators::NOT_EQUALS, [a, b]) if comparable(a, b) => Ok(BOOL),
            (operators::LESS | operators::LESS_EQUALS | operators::GREATER | operators::GREATER_EQUALS, [a, b])
                if ordered(a, b) =>
            {
                Ok(BOOL)
            }
            (operators::INDEX, [Ty::List(item), _]) => Ok((**item).clone()),
            (operators::INDEX, [Ty::Map(value), _]) => Ok((**value).clone()),
            (operators::INDEX, [Ty::Object(_) | Ty::Fields(_) | Ty::Named("dyn" | "optional"), _]) => Ok(DYN),
            (operators::OPT_INDEX | operators::OPT_SELECT, _) => Ok(Ty::Named("optional")),
            (operators::ADD, [a @ Ty::List(_), b @ Ty::List(_)]) => Ok(added(a, b)),
            (name, _) => {
                let ways = signatures::of(name).iter().filter(|way| way.target.is_none());
                self.resolved(id, name, ways, &arguments, None)
            }
        }
    }

    fn demand_bool(&self, id: u64, name: &str, condition: &Ty, all: &[Ty]) -> Result<(), String> {
        if matches!(condition.name(), "bool" | "dyn") { Ok(()) } else { Err(self.no_overload(id, name, all, None)) }
    }

    fn member(&mut self, id: u64, call: &CallExpr, target: &IdedExpr) -> Outcome {
        let arguments = call.args.iter().map(|argument| self.ty(argument)).collect::<Result<Vec<_>, _>>()?;
        let ways = signatures::of(&call.func_name);
        // `sets.contains(…)`: a function of a library, unless a variable has the library's name.
        if let Expr::Ident(library) = &target.expr
            && self.scope.get(library).is_none()
            && ways.iter().any(|way| way.target == Some(library.as_str()))
        {
            let own = ways.iter().filter(|way| way.target == Some(library.as_str()));
            return self.resolved(id, &format!("{library}.{}", call.func_name), own, &arguments, None);
        }
        let target = self.ty(target)?;
        let own = ways.iter().filter(|way| way.target.is_some_and(|wanted| target.is_dyn() || wanted == target.name()));
        self.resolved(id, &call.func_name, own, &arguments, Some(&target))
    }

    /// The result of the way in which a function is called.
    fn resolved<'w>(
        &self,
        id: u64,
        name: &str,
        ways: impl Iterator<Item = &'w Signature>,
        arguments: &[Ty],
        target: Option<&Ty>,
    ) -> Outcome {
        let fits = |way: &&Signature| {
            way.arguments.len() == arguments.len()
                && way.arguments.iter().zip(arguments).all(|(wanted, ty)| takes(wanted, ty))
        };
        let found: Vec<&'static str> = ways.filter(fits).map(|way| way.result).collect();
        match found.as_slice() {
            [] if !name.starts_with('_') && signatures::of(name.rsplit('.').next().unwrap_or(name)).is_empty() => {
                Err(self.error(id, &format!("undeclared reference to '{name}' (in container '')")))
            }
            [] => Err(self.no_overload(id, name, arguments, target)),
            [first, rest @ ..] if rest.iter().all(|other| other == first) => Ok(Ty::of_result(first)),
            _ => Ok(DYN),
        }
    }

    fn no_overload(&self, id: u64, name: &str, arguments: &[Ty], target: Option<&Ty>) -> String {
        let arguments = arguments.iter().map(Ty::shown).collect::<Vec<_>>().join(", ");
        let applied = target.map_or(format!("({arguments})"), |target| format!("{}.({arguments})", target.shown()));
        self.error(id, &format!("found no matching overload for '{name}' applied to '{applied}'"))
    }

    fn comprehension(&mut self, id: u64, it: &ComprehensionExpr) -> Outcome {
        let item = match self.ty(&it.iter_range)? {
            Ty::List(item) => *item,
            Ty::Map(_) => Ty::Named("string"),
            Ty::Named("dyn") | Ty::Object(_) | Ty::Fields(_) => DYN,
            other => {
                let message = format!(
                    "expression of type '{}' cannot be range of a comprehension (must be list, map, or dynamic)",
                    other.shown()
                );
                return Err(self.error(id, &message));
            }
        };
        let start = self.ty(&it.accu_init)?;
        let outside = self.scope.clone();
        self.scope = self.scope.clone().with(&it.accu_var, start).with(&it.iter_var, item);
        self.ty(&it.loop_cond)?;
        let step = self.ty(&it.loop_step)?;
        self.scope = self.scope.clone().with(&it.accu_var, step);
        let result = self.ty(&it.result);
        self.scope = outside;
        result
    }
}

fn literal_type(literal: &LiteralValue) -> Ty {
    Ty::Named(match literal {
        LiteralValue::Boolean(_) => "bool",
        LiteralValue::Bytes(_) => "bytes",
        LiteralValue::Double(_) => "double",
        LiteralValue::Int(_) => "int",
        LiteralValue::Null => "null",
        LiteralValue::String(_) => "string",
        LiteralValue::UInt(_) => "uint",
    })
}

fn takes(wanted: &str, ty: &Ty) -> bool {
    wanted == "dyn" || ty.is_dyn() || wanted == ty.name()
}

fn is_number(ty: &Ty) -> bool {
    matches!(ty.name(), "int" | "uint" | "double")
}

/// What an empty list gets of the items of another.
fn added(a: &Ty, b: &Ty) -> Ty {
    match (a, b) {
        (Ty::List(item), other) if item.is_dyn() => other.clone(),
        (a, b) => a.clone().joined(b.clone()),
    }
}

fn comparable(a: &Ty, b: &Ty) -> bool {
    let nothing = |ty: &Ty| matches!(ty.name(), "dyn" | "null");
    nothing(a) || nothing(b) || a.name() == b.name() || is_number(a) && is_number(b)
}

fn ordered(a: &Ty, b: &Ty) -> bool {
    const ORDERED: [&str; 8] = ["bool", "int", "uint", "double", "string", "bytes", "timestamp", "duration"];
    let orderable = |ty: &Ty| ty.is_dyn() || ORDERED.contains(&ty.name());
    orderable(a) && orderable(b) && (a.is_dyn() || b.is_dyn() || a.name() == b.name() || is_number(a) && is_number(b))
}
