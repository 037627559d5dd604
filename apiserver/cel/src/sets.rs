//! `sets.contains`, `sets.equivalent` and `sets.intersects`: lists as sets.
//!
//! Kubernetes documentation, "Common Expression Language in Kubernetes", CEL's own extension of sets.

use cel::common::types::{CelBool, LIST_TYPE};
use cel::common::value::{CowVal, Val};
use cel::{DeclarationError, Env};

use crate::types::{Answer, Arguments, arguments, items};

type Items<'b, 'v> = [&'b (dyn Val + 'v)];

pub(crate) fn library(env: &mut Env) -> Result<(), DeclarationError> {
    let lists = || vec![LIST_TYPE, LIST_TYPE];
    env.add_overload("sets.contains", "list_sets_contains_list", lists(), |all| asked(all, contains))?;
    env.add_overload("sets.equivalent", "list_sets_equivalent_list", lists(), |all| {
        asked(all, |a, b| contains(a, b) && contains(b, a))
    })?;
    env.add_overload("sets.intersects", "list_sets_intersects_list", lists(), |all| {
        asked(all, |a, b| b.iter().any(|item| has(a, *item)))
    })?;
    Ok(())
}

fn asked<'b, 'v>(all: Arguments<'b, 'v>, question: fn(&Items<'_, '_>, &Items<'_, '_>) -> bool) -> Answer<'b, 'v> {
    let [a, b] = arguments(all)?;
    let answer = question(&items(a.as_ref())?, &items(b.as_ref())?);
    Ok(CowVal::owned(CelBool::from(answer)))
}

fn has(list: &Items<'_, '_>, wanted: &dyn Val) -> bool {
    list.iter().any(|item| item.equals(wanted))
}

fn contains(list: &Items<'_, '_>, wanted: &Items<'_, '_>) -> bool {
    wanted.iter().all(|item| has(list, *item))
}
