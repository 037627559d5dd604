//! Kubernetes' CEL: the libraries that every expression of the API may use, how objects become values of expressions, and how
//! expressions are compiled and evaluated.
//!
//! Kubernetes documentation, "Common Expression Language in Kubernetes". [`libraries`] is the one table of functions: rules of custom
//! resources, match conditions and admission policies all use it.

mod authorizer;
pub mod check;
mod comprehensions;
mod depth;
mod expression;
mod format;
mod ip;
mod lists;
mod objects;
mod quantity;
mod regex;
mod semver;
mod sets;
mod signatures;
mod types;
mod url;
mod value;

use std::sync::{Arc, LazyLock};

use cel::{DeclarationError, Env, extensions};

pub use authorizer::{Authorize, Authorizer, Check, Decision};
pub use expression::{CompileError, Expression};
pub use value::{NotJson, to_json, to_val};

/// A library: it declares its functions and macros.
type Library = fn(&mut Env) -> Result<(), DeclarationError>;

/// Every library beside the standard one.
const LIBRARIES: [Library; 14] = [
    extensions::strings,
    extensions::lists,
    extensions::math,
    authorizer::library,
    comprehensions::library,
    format::library,
    ip::library,
    lists::library,
    objects::library,
    quantity::library,
    regex::library,
    semver::library,
    sets::library,
    url::library,
];

static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut env = Env::stdlib();
    for library in LIBRARIES {
        env.add_extension(library).expect("no library declares what another one does, which the tests see");
    }
    Arc::new(env)
});

/// What expressions can name beside their variables.
pub fn libraries() -> Arc<Env> {
    ENV.clone()
}

#[cfg(test)]
mod tests;
