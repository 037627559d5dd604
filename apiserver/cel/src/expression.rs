//! Expressions: compiled once, evaluated with variables.

use std::collections::BTreeSet;

use cel::common::ast::{EntryExpr, Expr, IdedExpr};
use cel::common::value::CowVal;
use cel::{Context, ExecutionError, Value};

use crate::{depth, libraries, objects};

/// Why a text is no expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompileError(String);

impl std::fmt::Display for CompileError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CompileError {}

/// An expression, ready to be evaluated.
#[derive(Debug)]
pub struct Expression {
    text: String,
    tree: IdedExpr,
    /// How deep its loops are nested.
    loops: u32,
}

impl Expression {
    /// Reads an expression.
    ///
    /// # Errors
    /// What is not CEL, or nested too deeply to be evaluated.
    pub fn compile(text: &str) -> Result<Self, CompileError> {
        depth::check(text).map_err(CompileError)?;
        let tree = libraries().parser().parse(text).map_err(|errors| CompileError(errors.to_string()))?;
        Ok(Expression { text: text.trim().to_owned(), loops: loops(&tree), tree })
    }

    /// Reads an expression that makes an apply configuration, or a list of JSON patches.
    ///
    /// # Errors
    /// What is not CEL, and objects that do not say where they stand.
    pub fn compile_mutation(text: &str) -> Result<Self, CompileError> {
        let mut expression = Expression::compile(text)?;
        objects::rewrite(&mut expression.tree).map_err(CompileError)?;
        Ok(expression)
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it looks at a variable.
    pub fn uses(&self, variable: &str) -> bool {
        self.tree.references().has_variable(variable)
    }

    /// The fields of a variable that it looks at.
    pub fn fields_of(&self, variable: &str) -> BTreeSet<&str> {
        let mut found = BTreeSet::new();
        collect_fields(&self.tree, variable, &mut found);
        found
    }

    /// What an evaluation costs at most, with so many values that a loop may look at.
    pub fn cost(&self, values: u64) -> u64 {
        values.saturating_mul(values.saturating_pow(self.loops.saturating_sub(1))).max(1)
    }

    /// Evaluates it.
    ///
    /// # Errors
    /// Values that are not there, or not of the types that functions take.
    pub fn evaluate<'e, 'v>(&'e self, context: &'e Context<'_, 'v>) -> Result<CowVal<'e, 'v>, ExecutionError> {
        Value::resolve_val(&self.tree, context)
    }

    /// Why an evaluation failed, in CEL's words.
    pub fn describe(error: &ExecutionError) -> String {
        match error {
            ExecutionError::NoSuchKey(key) => format!("no such key: {key}"),
            ExecutionError::NoSuchOverload(_)
            | ExecutionError::UnsupportedBinaryOperator(..)
            | ExecutionError::UnexpectedType { .. }
            | ExecutionError::ValuesNotComparable(..) => "no such overload".to_owned(),
            ExecutionError::UndeclaredReference(name) => format!("no such attribute(s): {name}"),
            ExecutionError::DivisionByZero(_) => "division by zero".to_owned(),
            ExecutionError::RemainderByZero(_) => "modulus by zero".to_owned(),
            ExecutionError::FunctionError { message, .. } => message.clone(),
            other => other.to_string(),
        }
    }
}

fn entry(entry: &EntryExpr) -> Vec<&IdedExpr> {
    match entry {
        EntryExpr::StructField(field) => vec![&field.value],
        EntryExpr::MapEntry(entry) => vec![&entry.key, &entry.value],
    }
}

/// The expressions that an expression is made of.
fn children(expression: &IdedExpr) -> Vec<&IdedExpr> {
    match &expression.expr {
        Expr::Call(call) => call.target.as_deref().into_iter().chain(&call.args).collect(),
        Expr::Comprehension(it) => vec![&it.iter_range, &it.accu_init, &it.loop_cond, &it.loop_step, &it.result],
        Expr::List(list) => list.elements.iter().collect(),
        Expr::Select(select) => vec![&*select.operand],
        Expr::Map(map) => map.entries.iter().flat_map(|it| entry(&it.expr)).collect(),
        Expr::Struct(it) => it.entries.iter().flat_map(|it| entry(&it.expr)).collect(),
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => Vec::new(),
    }
}

/// How deep loops are nested in each other.
fn loops(expression: &IdedExpr) -> u32 {
    let deepest = |all: Vec<&IdedExpr>| all.into_iter().map(loops).max().unwrap_or(0);
    match &expression.expr {
        Expr::Comprehension(it) => {
            let inside = deepest(vec![&it.loop_cond, &it.loop_step]);
            // The empty range of a binding is no loop.
            let own = u32::from(!matches!(&it.iter_range.expr, Expr::List(list) if list.elements.is_empty()));
            deepest(vec![&it.iter_range, &it.accu_init, &it.result]).max(inside + own)
        }
        _ => deepest(children(expression)),
    }
}

fn collect_fields<'e>(expression: &'e IdedExpr, variable: &str, found: &mut BTreeSet<&'e str>) {
    if let Expr::Select(select) = &expression.expr
        && matches!(&select.operand.expr, Expr::Ident(name) if name == variable)
    {
        found.insert(&select.field);
    }
    for child in children(expression) {
        collect_fields(child, variable, found);
    }
}
