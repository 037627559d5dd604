//! `find` and `findAll`: what of a text a regular expression matches.
//!
//! Kubernetes documentation, "Kubernetes regex library".

use cel::common::types::{CelInt, CelList, CelString};
use cel::common::value::Val;
use cel::{DeclarationError, Env, ExecutionError, add_member_overload};
use regex::Regex;

pub(crate) fn library(env: &mut Env) -> Result<(), DeclarationError> {
    add_member_overload!(env, fn find: (CelString<'_>, CelString<'_>) -> Result<CelString<'_>>)?;
    add_member_overload!(env, fn find_all: (CelString<'_>, CelString<'_>) -> Result<CelList<'_>>)?;
    add_member_overload!(env, fn find_some: (CelString<'_>, CelString<'_>, CelInt) -> Result<CelList<'_>>, name = "findAll")?;
    Ok(())
}

fn compiled(pattern: &CelString<'_>) -> Result<Regex, ExecutionError> {
    Regex::new(pattern.inner())
        .map_err(|error| ExecutionError::function_error("find", format!("illegal regex: {error}")))
}

fn find(this: &CelString<'_>, pattern: &CelString<'_>) -> Result<CelString<'static>, ExecutionError> {
    let found = compiled(pattern)?.find(this.inner()).map_or(String::new(), |found| found.as_str().to_owned());
    Ok(found.into())
}

fn all(this: &CelString<'_>, pattern: &CelString<'_>, limit: usize) -> Result<CelList<'static>, ExecutionError> {
    let owned = |text: &str| Box::new(CelString::from(text.to_owned())) as Box<dyn Val>;
    let found: Vec<Box<dyn Val>> =
        compiled(pattern)?.find_iter(this.inner()).take(limit).map(|found| owned(found.as_str())).collect();
    Ok(found.into())
}

fn find_all(this: &CelString<'_>, pattern: &CelString<'_>) -> Result<CelList<'static>, ExecutionError> {
    all(this, pattern, usize::MAX)
}

/// A negative limit is none.
fn find_some(
    this: &CelString<'_>,
    pattern: &CelString<'_>,
    limit: &CelInt,
) -> Result<CelList<'static>, ExecutionError> {
    all(this, pattern, usize::try_from(*limit.inner()).unwrap_or(usize::MAX))
}
