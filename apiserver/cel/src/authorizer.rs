//! `authorizer`: what the user of a request, or a service account, may do.
//!
//! Kubernetes documentation, "Kubernetes authorizer library"; selectors are KEP-4601.

use std::fmt;
use std::sync::Arc;

use apimachinery::names;
use cel::common::types::{CelBool, CelString};
use cel::{DeclarationError, Env, ExecutionError, add_member_overload};

use crate::types::value_type;

/// A question: may the user, or the service account, do this?
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Check {
    /// Namespace and name of the service account that is asked about instead of the user.
    pub account: Option<(String, String)>,
    pub verb: String,
    /// Where it is set, nothing below counts.
    pub path: Option<String>,
    pub group: String,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    pub field_selector: String,
    pub label_selector: String,
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    pub allowed: bool,
    pub reason: String,
    pub error: Option<String>,
}

value_type!(Decision, "kubernetes.authorization.Decision");

/// Who answers.
pub trait Authorize: Send + Sync {
    fn decide(&self, check: &Check) -> Decision;
}

/// The value of the variable `authorizer`.
#[derive(Clone)]
pub struct Authorizer {
    by: Arc<dyn Authorize>,
    account: Option<(String, String)>,
}

impl Authorizer {
    /// Asks about the user of the request.
    pub fn new(by: Arc<dyn Authorize>) -> Self {
        Authorizer { by, account: None }
    }

    /// A question about the resource of a request, as `authorizer.requestResource`.
    pub fn about(&self, check: Check) -> ResourceCheck {
        ResourceCheck(Question { by: self.clone(), check })
    }

    fn question(&self, check: Check) -> Question {
        Question { by: self.clone(), check: Check { account: self.account.clone(), ..check } }
    }
}

impl fmt::Debug for Authorizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorizer").field("account", &self.account).finish_non_exhaustive()
    }
}

impl PartialEq for Authorizer {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.by, &other.by) && self.account == other.account
    }
}

value_type!(Authorizer, "kubernetes.authorization.Authorizer");

#[derive(Clone, Debug, PartialEq)]
struct Question {
    by: Authorizer,
    check: Check,
}

impl Question {
    fn with(&self, change: impl FnOnce(&mut Check)) -> Self {
        let mut question = self.clone();
        change(&mut question.check);
        question
    }

    fn ask(&self, verb: &CelString<'_>) -> Decision {
        let asked = self.with(|check| check.verb = verb.inner().to_owned());
        asked.by.by.decide(&asked.check)
    }
}

/// A question about a path.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PathCheck(Question);
/// A question about a group, not yet about a resource of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct GroupCheck(Question);
/// A question about a resource.
#[derive(Clone, Debug, PartialEq)]
pub struct ResourceCheck(Question);

value_type!(PathCheck, "kubernetes.authorization.PathCheck");
value_type!(GroupCheck, "kubernetes.authorization.GroupCheck");
value_type!(ResourceCheck, "kubernetes.authorization.ResourceCheck");

pub(crate) fn library(env: &mut Env) -> Result<(), DeclarationError> {
    add_member_overload!(env, fn path: (Authorizer, CelString<'_>) -> Result<PathCheck>)?;
    add_member_overload!(env, fn group: (Authorizer, CelString<'_>) -> GroupCheck)?;
    add_member_overload!(env, fn service_account: (Authorizer, CelString<'_>, CelString<'_>) -> Result<Authorizer>)?;
    add_member_overload!(env, fn resource: (GroupCheck, CelString<'_>) -> ResourceCheck)?;
    add_member_overload!(env, fn subresource: (ResourceCheck, CelString<'_>) -> ResourceCheck)?;
    add_member_overload!(env, fn namespace: (ResourceCheck, CelString<'_>) -> ResourceCheck)?;
    add_member_overload!(env, fn name: (ResourceCheck, CelString<'_>) -> ResourceCheck)?;
    add_member_overload!(env, fn field_selector: (ResourceCheck, CelString<'_>) -> ResourceCheck)?;
    add_member_overload!(env, fn label_selector: (ResourceCheck, CelString<'_>) -> ResourceCheck)?;
    add_member_overload!(env, fn check_path: (PathCheck, CelString<'_>) -> Decision, name = "check")?;
    add_member_overload!(env, fn check_resource: (ResourceCheck, CelString<'_>) -> Decision, name = "check")?;
    add_member_overload!(env, fn allowed: (Decision) -> CelBool)?;
    add_member_overload!(env, fn reason: (Decision) -> CelString<'_>)?;
    add_member_overload!(env, fn errored: (Decision) -> CelBool)?;
    add_member_overload!(env, fn error: (Decision) -> CelString<'_>)?;
    Ok(())
}

fn path(this: &Authorizer, path: &CelString<'_>) -> Result<PathCheck, ExecutionError> {
    if path.inner().is_empty() {
        return Err(ExecutionError::function_error("path", "path must not be empty"));
    }
    Ok(PathCheck(this.question(Check { path: Some(path.inner().to_owned()), ..Check::default() })))
}

fn group(this: &Authorizer, group: &CelString<'_>) -> GroupCheck {
    GroupCheck(this.question(Check { group: group.inner().to_owned(), ..Check::default() }))
}

fn service_account(
    this: &Authorizer,
    namespace: &CelString<'_>,
    name: &CelString<'_>,
) -> Result<Authorizer, ExecutionError> {
    let refused =
        |what: &str| ExecutionError::function_error("serviceAccount", format!("Invalid service account {what}"));
    if !names::dns1123_label(namespace.inner()).is_empty() {
        return Err(refused("namespace"));
    }
    if !names::dns1123_subdomain(name.inner()).is_empty() {
        return Err(refused("name"));
    }
    Ok(Authorizer { account: Some((namespace.inner().to_owned(), name.inner().to_owned())), by: this.by.clone() })
}

fn resource(this: &GroupCheck, resource: &CelString<'_>) -> ResourceCheck {
    ResourceCheck(this.0.with(|check| check.resource = resource.inner().to_owned()))
}

fn subresource(this: &ResourceCheck, subresource: &CelString<'_>) -> ResourceCheck {
    ResourceCheck(this.0.with(|check| check.subresource = subresource.inner().to_owned()))
}

fn namespace(this: &ResourceCheck, namespace: &CelString<'_>) -> ResourceCheck {
    ResourceCheck(this.0.with(|check| check.namespace = namespace.inner().to_owned()))
}

fn name(this: &ResourceCheck, name: &CelString<'_>) -> ResourceCheck {
    ResourceCheck(this.0.with(|check| check.name = name.inner().to_owned()))
}

fn field_selector(this: &ResourceCheck, selector: &CelString<'_>) -> ResourceCheck {
    ResourceCheck(this.0.with(|check| check.field_selector = selector.inner().to_owned()))
}

fn label_selector(this: &ResourceCheck, selector: &CelString<'_>) -> ResourceCheck {
    ResourceCheck(this.0.with(|check| check.label_selector = selector.inner().to_owned()))
}

fn check_path(this: &PathCheck, verb: &CelString<'_>) -> Decision {
    this.0.ask(verb)
}

fn check_resource(this: &ResourceCheck, verb: &CelString<'_>) -> Decision {
    this.0.ask(verb)
}

fn allowed(this: &Decision) -> CelBool {
    this.allowed.into()
}

fn reason(this: &Decision) -> CelString<'static> {
    this.reason.clone().into()
}

fn errored(this: &Decision) -> CelBool {
    this.error.is_some().into()
}

fn error(this: &Decision) -> CelString<'static> {
    this.error.clone().unwrap_or_default().into()
}
