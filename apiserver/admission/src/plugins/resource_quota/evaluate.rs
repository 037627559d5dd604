//! Whether a request fits into the quotas of its namespace, and what they are charged for it: pure.

use std::collections::BTreeSet;

use apimachinery::quantity::Quantity;
use component_base::quota::{Amounts, Object, add, missing, scopes};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ResourceQuotaSpec, ScopedResourceSelectorRequirement as Requirement};
use serde_json::{Map, Value};

use super::configuration::Limited;
use super::request::Request;

/// A quota with what is used of it.
#[derive(Clone, Debug)]
pub(super) struct Quota {
    pub(super) name: String,
    spec: ResourceQuotaSpec,
    /// What it limits, as its status says: what has been looked at by those who count.
    hard: Amounts,
    pub(super) used: Amounts,
}

impl Quota {
    pub(super) fn of(object: &Value) -> Result<Self, serde_json::Error> {
        let spec = object.get("spec").filter(|spec| spec.is_object());
        Ok(Quota {
            name: apimachinery::meta::name(object).to_owned(),
            spec: spec.map(|spec| serde_json::from_value(spec.clone())).transpose()?.unwrap_or_default(),
            hard: amounts(object, "/status/hard"),
            used: amounts(object, "/status/used"),
        })
    }

    /// What it limits of what such an object can use; none if it is not for the object.
    fn limits_on(&self, object: Object<'_>) -> Option<Vec<&str>> {
        let limits: Vec<&str> = self.hard.keys().map(String::as_str).filter(|limit| object.can_use(limit)).collect();
        (!limits.is_empty() && scopes::selects(&self.spec, object)).then_some(limits)
    }

    /// What can be said against the object before anything is added up.
    fn fault(&self, object: Object<'_>, limits: &[&str]) -> Option<String> {
        if let Object::Pod(pod) = object {
            let missing = missing(pod, limits);
            let join = |names: &BTreeSet<&str>| names.iter().copied().collect::<Vec<_>>().join(",");
            let said: Vec<String> =
                missing.iter().map(|(limit, containers)| format!("{limit} for: {}", join(containers))).collect();
            if !said.is_empty() {
                return Some(format!("failed quota: {}: must specify {}", self.name, said.join("; ")));
            }
        }
        let is_counted = limits.iter().all(|limit| self.used.contains_key(*limit));
        (!is_counted).then(|| format!("status unknown for quota: {}, resources: {}", self.name, limits.join(",")))
    }

    /// What is used once the request is done, or why that is too much.
    fn charged(&self, delta: &Amounts) -> Result<Option<Amounts>, String> {
        let requested: Amounts = pick(delta, |name| self.hard.contains_key(name));
        if requested.is_empty() {
            return Ok(None);
        }
        let mut used = self.used.clone();
        add(&mut used, requested.clone());
        let is_exceeded = |name: &str| match (used.get(name), self.hard.get(name)) {
            (Some(used), Some(hard)) => requested.contains_key(name) && used > hard,
            _ => false,
        };
        let exceeded = |amounts: &Amounts| shown(&pick(amounts, is_exceeded));
        if requested.keys().any(|name| is_exceeded(name)) {
            return Err(format!(
                "exceeded quota: {}, requested: {}, used: {}, limited: {}",
                self.name,
                exceeded(&requested),
                exceeded(&self.used),
                exceeded(&self.hard)
            ));
        }
        Ok(Some(used))
    }
}

/// What quotas have used once the request is done, by their place in the list; or why it cannot be done.
pub(super) fn check(
    quotas: &[Quota],
    request: &Request,
    limited: &[Limited],
    now: Timestamp,
) -> Result<Vec<(usize, Amounts)>, String> {
    let object = request.new.view();
    let mut concerned = Vec::new();
    for (at, quota) in quotas.iter().enumerate() {
        let Some(limits) = quota.limits_on(object) else { continue };
        match quota.fault(object, &limits) {
            Some(fault) => return Err(fault),
            None => concerned.push((at, limits)),
        }
    }
    let usage = object.usage(now);
    let negative: Vec<&str> = names(&usage, |amount| amount.sign() < 0);
    if !negative.is_empty() {
        return Err(format!("quota usage is negative for resource(s): {}", negative.join(",")));
    }
    let old = request.old.as_ref().map(|old| old.view());
    let growth = old.map_or_else(|| usage.clone(), |old| growth(&usage, &old.usage(now)));
    // A quota that was not for the object before is charged for all of it.
    let delta = |quota: &Quota| match old {
        Some(old) if quota.limits_on(old).is_none() => positive(&usage),
        _ => positive(&growth),
    };
    let deltas: Vec<(usize, Amounts)> =
        concerned.iter().map(|(at, _)| (*at, delta(&quotas[*at]))).filter(|(_, delta)| !delta.is_empty()).collect();
    if deltas.is_empty() && (!concerned.is_empty() || positive(&growth).is_empty()) {
        return Ok(Vec::new());
    }
    let covered: BTreeSet<&str> = concerned.iter().flat_map(|(_, limits)| limits.iter().copied()).collect();
    check_covered(request, quotas, limited, &usage, &covered)?;
    let mut charges = Vec::new();
    for (at, delta) in deltas {
        charges.extend(quotas[at].charged(&delta)?.map(|used| (at, used)));
    }
    Ok(charges)
}

/// Whether everything that may not be used without a quota has one.
fn check_covered(
    request: &Request,
    quotas: &[Quota],
    limited: &[Limited],
    usage: &Amounts,
    covered: &BTreeSet<&str>,
) -> Result<(), String> {
    let limited = || limited.iter().filter(|l| l.api_group == request.group && l.resource == request.resource);
    let is_limited = |name: &str| limited().flat_map(|l| &l.match_contains).any(|part| name.contains(part.as_str()));
    let used = names(usage, |amount| amount.sign() > 0);
    let bare: Vec<&str> = used.into_iter().filter(|name| is_limited(name) && !covered.contains(name)).collect();
    if !bare.is_empty() {
        return Err(format!("insufficient quota to consume: {}", bare.join(",")));
    }
    let object = request.new.view();
    let is_in = |requirement: &Requirement| scopes::matches(requirement, object);
    let granted: Vec<Requirement> = quotas.iter().flat_map(|quota| scopes::of(&quota.spec)).filter(is_in).collect();
    let is_granted = |scope: &Requirement| granted.iter().any(|granted| granted.scope_name == scope.scope_name);
    let bare: Vec<String> = limited()
        .flat_map(|l| &l.match_scopes)
        .filter(|scope| is_in(scope) && !is_granted(scope))
        .map(|scope| {
            let values = scope.values.as_deref().unwrap_or_default().join(" ");
            format!("{{{} {} [{values}]}}", scope.scope_name, scope.operator)
        })
        .collect();
    if bare.is_empty() {
        return Ok(());
    }
    Err(format!("insufficient quota to match these scopes: [{}]", bare.join(" ")))
}

fn pick(amounts: &Amounts, wanted: impl Fn(&str) -> bool) -> Amounts {
    amounts.iter().filter(|(name, _)| wanted(name)).map(|(name, amount)| (name.clone(), *amount)).collect()
}

fn positive(amounts: &Amounts) -> Amounts {
    pick(amounts, |name| amounts[name].sign() > 0)
}

/// How much more is used of what is used.
fn growth(new: &Amounts, old: &Amounts) -> Amounts {
    let less = |name: &str, amount: &Quantity| old.get(name).map_or(*amount, |old| *amount - *old);
    new.iter().map(|(name, amount)| (name.clone(), less(name, amount))).collect()
}

fn names(amounts: &Amounts, wanted: impl Fn(&Quantity) -> bool) -> Vec<&str> {
    amounts.iter().filter(|(_, amount)| wanted(amount)).map(|(name, _)| name.as_str()).collect()
}

/// As messages show amounts.
fn shown(amounts: &Amounts) -> String {
    amounts.iter().map(|(name, amount)| format!("{name}={amount}")).collect::<Vec<_>>().join(",")
}

fn amounts(object: &Value, pointer: &str) -> Amounts {
    let empty = Map::new();
    let map = object.pointer(pointer).and_then(Value::as_object).unwrap_or(&empty);
    map.iter().filter_map(|(name, amount)| Some((name.clone(), amount.as_str()?.parse().ok()?))).collect()
}

/// The quota's object with what is used of it.
pub(super) fn with_used(object: &Value, used: &Amounts) -> Value {
    let mut object = object.clone();
    let used: Map<String, Value> =
        used.iter().map(|(name, amount)| (name.clone(), amount.to_string().into())).collect();
    crate::object::object_mut(&mut object, "status")["used"] = used.into();
    object
}
