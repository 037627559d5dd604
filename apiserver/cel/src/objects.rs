//! `Object{spec: Object.spec{…}}` and `JSONPatch{op: …}`: how mutations of admission policies are written down.
//!
//! Kubernetes documentation, "Mutating Admission Policy". The types have no declarations: a literal is a map, and its name must say where in
//! the object it stands.

use cel::common::ast::{EntryExpr, Expr, IdedEntryExpr, IdedExpr, LiteralValue, MapEntryExpr, MapExpr, StructExpr};
use cel::common::types::CelString;
use cel::{DeclarationError, Env, add_overload};

pub(crate) fn library(env: &mut Env) -> Result<(), DeclarationError> {
    add_overload!(env, fn escape_key: (CelString<'_>) -> CelString<'_>, name = "jsonpatch.escapeKey")
}

/// A key as a JSON pointer writes it (RFC 6901).
fn escape_key(key: &CelString<'_>) -> CelString<'static> {
    key.inner().replace('~', "~0").replace('/', "~1").into()
}

const OBJECT: &str = "Object";
const PATCH: &str = "JSONPatch";
/// The fields of a `JSONPatch`.
const PATCH_FIELDS: [&str; 4] = ["op", "path", "from", "value"];

/// Makes maps of the literals in an expression.
///
/// # Errors
/// Literals of other types, and those whose name is not that of the field they stand in.
pub(crate) fn rewrite(expression: &mut IdedExpr) -> Result<(), String> {
    if let Expr::Struct(literal) = &mut expression.expr {
        let literal = std::mem::take(literal);
        expression.expr = Expr::Map(as_map(literal)?);
    }
    children_mut(expression).into_iter().try_for_each(rewrite)
}

fn as_map(literal: StructExpr) -> Result<MapExpr, String> {
    let name = literal.type_name.as_str();
    if name != PATCH && name != OBJECT && !name.starts_with("Object.") {
        return Err(format!("undeclared reference to '{name}' (in container '')"));
    }
    let mut entries = Vec::with_capacity(literal.entries.len());
    for entry in literal.entries {
        let EntryExpr::StructField(field) = entry.expr else { continue };
        if name == PATCH && !PATCH_FIELDS.contains(&field.field.as_str()) {
            return Err(format!("undefined field '{}'", field.field));
        }
        if name != PATCH {
            check_names(&field.value, &format!("{name}.{}", field.field))?;
        }
        let key = IdedExpr { id: entry.id, expr: Expr::Literal(LiteralValue::String(CelString::from(field.field))) };
        let expr = EntryExpr::MapEntry(MapEntryExpr { key, value: field.value, optional: field.optional });
        entries.push(IdedEntryExpr { id: entry.id, expr });
    }
    Ok(MapExpr { entries })
}

/// A literal in a field, or in a list in it, is named after the field.
fn check_names(value: &IdedExpr, wanted: &str) -> Result<(), String> {
    match &value.expr {
        Expr::Struct(literal) if literal.type_name != wanted => Err(format!(
            "unexpected type name {:?}, expected {wanted:?}, which matches field name path from root Object type",
            literal.type_name
        )),
        Expr::List(list) => list.elements.iter().try_for_each(|element| check_names(element, wanted)),
        _ => Ok(()),
    }
}

fn entry_mut(entry: &mut EntryExpr) -> Vec<&mut IdedExpr> {
    match entry {
        EntryExpr::StructField(field) => vec![&mut field.value],
        EntryExpr::MapEntry(entry) => vec![&mut entry.key, &mut entry.value],
    }
}

fn children_mut(expression: &mut IdedExpr) -> Vec<&mut IdedExpr> {
    match &mut expression.expr {
        Expr::Call(call) => call.target.as_deref_mut().into_iter().chain(&mut call.args).collect(),
        Expr::Comprehension(it) => {
            let it = &mut **it;
            vec![&mut it.iter_range, &mut it.accu_init, &mut it.loop_cond, &mut it.loop_step, &mut it.result]
        }
        Expr::List(list) => list.elements.iter_mut().collect(),
        Expr::Select(select) => vec![&mut *select.operand],
        Expr::Map(map) => map.entries.iter_mut().flat_map(|entry| entry_mut(&mut entry.expr)).collect(),
        Expr::Struct(it) => it.entries.iter_mut().flat_map(|entry| entry_mut(&mut entry.expr)).collect(),
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => Vec::new(),
    }
}
