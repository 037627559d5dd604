//! Authentication and authorization: x509, tokens, RBAC and the Node authorizer.

pub mod authentication;
pub mod authorization;
pub mod bootstrap;
pub mod clock;
pub mod options;
pub mod reviews;
pub mod tokens;
pub mod user;

mod object;
#[cfg(test)]
mod testing;

pub use authentication::{AuthError, AuthRequest, Authenticated, Authenticator};
pub use authorization::Authorizer;
pub use authorization::rbac::Rbac;
pub use options::{Auth, AuthOptions, AuthenticationOptions, AuthorizationOptions};
pub use user::UserInfo;
