//! How values of types that only Kubernetes has are made known to expressions.

use cel::ExecutionError;
use cel::common::traits::Iterable;
use cel::common::value::{CowVal, Val};

/// Makes a Rust type a type of values, which are equal where the type says so.
macro_rules! value_type {
    ($type:ident, $name:literal) => {
        impl cel::common::value::Val for $type {
            fn get_type(&self) -> &cel::common::types::Type {
                <Self as cel::common::value::Val>::cel_type()
            }

            fn cel_type() -> &'static cel::common::types::Type {
                static TYPE: cel::common::types::Type = cel::common::types::Type::new_unspecified_type($name);
                &TYPE
            }

            fn equals(&self, other: &dyn cel::common::value::Val) -> bool {
                other.downcast_ref::<$type>().is_some_and(|other| other == self)
            }

            fn clone_as_boxed<'v>(&self) -> Box<dyn cel::common::value::Val + 'v>
            where
                Self: 'v,
            {
                Box::new(self.clone())
            }

            fn as_any(&self) -> Option<&dyn std::any::Any> {
                Some(self)
            }
        }

        impl cel::common::value::StaticVal for $type {}
    };
}

pub(crate) use value_type;

/// What a function that is declared by hand is called with.
pub(crate) type Arguments<'b, 'v> = Vec<CowVal<'b, 'v>>;
/// What such a function gives.
pub(crate) type Answer<'b, 'v> = Result<CowVal<'b, 'v>, ExecutionError>;

/// The arguments, one by one.
pub(crate) fn arguments<'b, 'v, const N: usize>(
    arguments: Arguments<'b, 'v>,
) -> Result<[CowVal<'b, 'v>; N], ExecutionError> {
    let unpack = |arguments: Arguments<'_, '_>| ExecutionError::invalid_argument_count(N, arguments.len());
    arguments.try_into().map_err(unpack)
}

fn iterable<'b, 'v>(list: &'b (dyn Val + 'v)) -> Result<&'b (dyn Iterable + 'v), ExecutionError> {
    list.as_iterable().ok_or_else(|| ExecutionError::UnexpectedType {
        got: list.get_type().name().to_owned(),
        want: "list".to_owned(),
    })
}

/// The items of a list.
pub(crate) fn items<'b, 'v>(list: &'b (dyn Val + 'v)) -> Result<Vec<&'b (dyn Val + 'v)>, ExecutionError> {
    let mut rest = iterable(list)?.iter();
    Ok(std::iter::from_fn(|| rest.next()).collect())
}
