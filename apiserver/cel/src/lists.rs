//! `isSorted`, `sum`, `min`, `max`, `indexOf` and `lastIndexOf` of lists.
//!
//! Kubernetes documentation, "Kubernetes list library".

use std::cmp::Ordering;

use cel::common::types::{CelBool, CelInt, DYN_TYPE, LIST_TYPE};
use cel::common::value::{CowVal, Val};
use cel::{DeclarationError, Env, ExecutionError};

use crate::types::{Answer, Arguments, arguments, items};

pub(crate) fn library(env: &mut Env) -> Result<(), DeclarationError> {
    env.add_member_overload("isSorted", "list_is_sorted", LIST_TYPE, vec![], is_sorted)?;
    env.add_member_overload("sum", "list_sum", LIST_TYPE, vec![], sum)?;
    env.add_member_overload("min", "list_min", LIST_TYPE, vec![], |all| extreme(all, "min", Ordering::Less))?;
    env.add_member_overload("max", "list_max", LIST_TYPE, vec![], |all| extreme(all, "max", Ordering::Greater))?;
    env.add_member_overload("indexOf", "list_index_of", LIST_TYPE, vec![DYN_TYPE], index_of)?;
    env.add_member_overload("lastIndexOf", "list_last_index_of", LIST_TYPE, vec![DYN_TYPE], last_index_of)?;
    Ok(())
}

fn compare(function: &str, a: &dyn Val, b: &dyn Val) -> Result<Ordering, ExecutionError> {
    let refusal = || ExecutionError::no_such_member_overload(function, vec!["list".to_owned()]);
    a.as_comparer().ok_or_else(refusal)?.compare(b)
}

fn is_sorted<'b, 'v>(all: Arguments<'b, 'v>) -> Answer<'b, 'v> {
    let [list] = arguments(all)?;
    let items = items(list.as_ref())?;
    for pair in items.windows(2) {
        if compare("isSorted", pair[0], pair[1])? == Ordering::Greater {
            return Ok(CowVal::owned(CelBool::from(false)));
        }
    }
    Ok(CowVal::owned(CelBool::from(true)))
}

/// The sum of nothing is the integer 0.
fn sum<'b, 'v>(all: Arguments<'b, 'v>) -> Answer<'b, 'v> {
    let [list] = arguments(all)?;
    let mut rest = items(list.as_ref())?.into_iter();
    let Some(first) = rest.next() else { return Ok(CowVal::owned(CelInt::from(0))) };
    let refusal = || ExecutionError::no_such_member_overload("sum", vec!["list".to_owned()]);
    let mut total: Box<dyn Val + 'v> = first.clone_as_boxed();
    for item in rest {
        total = total.as_adder().ok_or_else(refusal)?.add(item)?.into_owned();
    }
    Ok(CowVal::Owned(total))
}

fn extreme<'b, 'v>(all: Arguments<'b, 'v>, function: &str, wanted: Ordering) -> Answer<'b, 'v> {
    let [list] = arguments(all)?;
    let mut rest = items(list.as_ref())?.into_iter();
    let empty = || ExecutionError::function_error(function, format!("{function} called on empty list"));
    let mut found = rest.next().ok_or_else(empty)?;
    for item in rest {
        if compare(function, item, found)? == wanted {
            found = item;
        }
    }
    Ok(CowVal::Owned(found.clone_as_boxed()))
}

fn place<'b, 'v>(place: Option<usize>) -> Answer<'b, 'v> {
    Ok(CowVal::owned(CelInt::from(place.and_then(|place| i64::try_from(place).ok()).unwrap_or(-1))))
}

fn index_of<'b, 'v>(all: Arguments<'b, 'v>) -> Answer<'b, 'v> {
    let [list, wanted] = arguments(all)?;
    place(items(list.as_ref())?.into_iter().position(|item| item.equals(wanted.as_ref())))
}

fn last_index_of<'b, 'v>(all: Arguments<'b, 'v>) -> Answer<'b, 'v> {
    let [list, wanted] = arguments(all)?;
    place(items(list.as_ref())?.into_iter().rposition(|item| item.equals(wanted.as_ref())))
}
