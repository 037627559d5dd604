//! `quantity('1Gi')`: amounts of resources, compared and added exactly.
//!
//! Kubernetes documentation, "Kubernetes quantity library".

use std::cmp::Ordering;

use apimachinery::quantity::{self, Format};
use cel::common::types::{CelBool, CelDouble, CelInt, CelString};
use cel::{DeclarationError, Env, ExecutionError, add_member_overload, add_overload};

use crate::types::value_type;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Quantity(quantity::Quantity);

value_type!(Quantity, "kubernetes.Quantity");

pub(crate) fn library(env: &mut Env) -> Result<(), DeclarationError> {
    add_overload!(env, fn quantity: (CelString<'_>) -> Result<Quantity>)?;
    add_overload!(env, fn is_quantity: (CelString<'_>) -> CelBool)?;
    add_member_overload!(env, fn sign: (Quantity) -> CelInt)?;
    add_member_overload!(env, fn is_integer: (Quantity) -> CelBool)?;
    add_member_overload!(env, fn as_integer: (Quantity) -> Result<CelInt>)?;
    add_member_overload!(env, fn as_approximate_float: (Quantity) -> CelDouble)?;
    add_member_overload!(env, fn add: (Quantity, Quantity) -> Quantity)?;
    add_member_overload!(env, fn add_int: (Quantity, CelInt) -> Quantity, name = "add")?;
    add_member_overload!(env, fn sub: (Quantity, Quantity) -> Quantity)?;
    add_member_overload!(env, fn sub_int: (Quantity, CelInt) -> Quantity, name = "sub")?;
    add_member_overload!(env, fn is_greater_than: (Quantity, Quantity) -> CelBool)?;
    add_member_overload!(env, fn is_less_than: (Quantity, Quantity) -> CelBool)?;
    add_member_overload!(env, fn compare_to: (Quantity, Quantity) -> CelInt)?;
    Ok(())
}

fn quantity(text: &CelString<'_>) -> Result<Quantity, ExecutionError> {
    text.inner().parse().map(Quantity).map_err(|error| ExecutionError::function_error("quantity", error))
}

fn is_quantity(text: &CelString<'_>) -> CelBool {
    text.inner().parse::<quantity::Quantity>().is_ok().into()
}

fn sign(this: &Quantity) -> CelInt {
    i64::from(this.0.sign()).into()
}

fn whole(this: &Quantity) -> Option<i64> {
    let value = this.0.value();
    (this.0.is_integer() && i128::from(value).abs() < i128::from(i64::MAX)).then_some(value)
}

fn is_integer(this: &Quantity) -> CelBool {
    whole(this).is_some().into()
}

fn as_integer(this: &Quantity) -> Result<CelInt, ExecutionError> {
    let refusal = || ExecutionError::function_error("asInteger", "cannot convert value to integer");
    whole(this).map(CelInt::from).ok_or_else(refusal)
}

fn as_approximate_float(this: &Quantity) -> CelDouble {
    this.0.as_f64().into()
}

fn of(whole: &CelInt) -> quantity::Quantity {
    quantity::Quantity::new(*whole.inner(), Format::DecimalSi)
}

fn add(this: &Quantity, other: &Quantity) -> Quantity {
    Quantity(this.0 + other.0)
}

fn add_int(this: &Quantity, other: &CelInt) -> Quantity {
    Quantity(this.0 + of(other))
}

fn sub(this: &Quantity, other: &Quantity) -> Quantity {
    Quantity(this.0 - other.0)
}

fn sub_int(this: &Quantity, other: &CelInt) -> Quantity {
    Quantity(this.0 - of(other))
}

fn is_greater_than(this: &Quantity, other: &Quantity) -> CelBool {
    (this.0 > other.0).into()
}

fn is_less_than(this: &Quantity, other: &Quantity) -> CelBool {
    (this.0 < other.0).into()
}

fn compare_to(this: &Quantity, other: &Quantity) -> CelInt {
    order(this.0.cmp(&other.0))
}

/// -1, 0 or 1.
pub(crate) fn order(ordering: Ordering) -> CelInt {
    (ordering as i64).into()
}
