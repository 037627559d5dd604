//! `semver('1.2.3')`: versions, compared as Semantic Versioning says.
//!
//! Kubernetes documentation, "Kubernetes semver library" (KEP-5003).

use cel::common::types::{CelBool, CelInt, CelString};
use cel::{DeclarationError, Env, ExecutionError, add_member_overload, add_overload};

use crate::quantity::order;
use crate::types::value_type;

/// A version; what follows a `+` does not count.
#[derive(Clone, Debug)]
pub(crate) struct Semver(semver::Version);

impl PartialEq for Semver {
    fn eq(&self, other: &Self) -> bool {
        self.0.cmp_precedence(&other.0).is_eq()
    }
}

value_type!(Semver, "kubernetes.Semver");

pub(crate) fn library(env: &mut Env) -> Result<(), DeclarationError> {
    add_overload!(env, fn semver: (CelString<'_>) -> Result<Semver>)?;
    add_overload!(env, fn lenient: (CelString<'_>, CelBool) -> Result<Semver>, name = "semver")?;
    add_overload!(env, fn is_semver: (CelString<'_>) -> CelBool)?;
    add_overload!(env, fn is_lenient: (CelString<'_>, CelBool) -> CelBool, name = "isSemver")?;
    add_member_overload!(env, fn major: (Semver) -> CelInt)?;
    add_member_overload!(env, fn minor: (Semver) -> CelInt)?;
    add_member_overload!(env, fn patch: (Semver) -> CelInt)?;
    add_member_overload!(env, fn is_greater_than: (Semver, Semver) -> CelBool)?;
    add_member_overload!(env, fn is_less_than: (Semver, Semver) -> CelBool)?;
    add_member_overload!(env, fn compare_to: (Semver, Semver) -> CelInt)?;
    Ok(())
}

/// `v1.02` as `1.2.0`.
fn normalized(text: &str) -> String {
    let text = text.strip_prefix('v').unwrap_or(text);
    let end = text.find(['-', '+']).unwrap_or(text.len());
    let (core, rest) = text.split_at(end);
    let bare = |part: &str| match part.trim_start_matches('0') {
        "" if !part.is_empty() => "0".to_owned(),
        bare => bare.to_owned(),
    };
    let mut parts: Vec<String> = core.split('.').map(bare).collect();
    while parts.len() < 3 {
        parts.push("0".to_owned());
    }
    parts.join(".") + rest
}

fn parse(text: &str, normalize: bool) -> Result<Semver, ExecutionError> {
    let text = if normalize { normalized(text) } else { text.to_owned() };
    semver::Version::parse(&text).map(Semver).map_err(|error| ExecutionError::function_error("semver", error))
}

fn semver(text: &CelString<'_>) -> Result<Semver, ExecutionError> {
    parse(text.inner(), false)
}

fn lenient(text: &CelString<'_>, normalize: &CelBool) -> Result<Semver, ExecutionError> {
    parse(text.inner(), *normalize.inner())
}

fn is_semver(text: &CelString<'_>) -> CelBool {
    semver(text).is_ok().into()
}

fn is_lenient(text: &CelString<'_>, normalize: &CelBool) -> CelBool {
    lenient(text, normalize).is_ok().into()
}

fn int(number: u64) -> CelInt {
    i64::try_from(number).unwrap_or(i64::MAX).into()
}

fn major(this: &Semver) -> CelInt {
    int(this.0.major)
}

fn minor(this: &Semver) -> CelInt {
    int(this.0.minor)
}

fn patch(this: &Semver) -> CelInt {
    int(this.0.patch)
}

fn is_greater_than(this: &Semver, other: &Semver) -> CelBool {
    this.0.cmp_precedence(&other.0).is_gt().into()
}

fn is_less_than(this: &Semver, other: &Semver) -> CelBool {
    this.0.cmp_precedence(&other.0).is_lt().into()
}

fn compare_to(this: &Semver, other: &Semver) -> CelInt {
    order(this.0.cmp_precedence(&other.0))
}
