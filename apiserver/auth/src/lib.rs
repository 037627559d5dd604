//! Authentication and authorization: x509, tokens, RBAC and the Node authorizer.

pub mod user;

pub use user::UserInfo;
