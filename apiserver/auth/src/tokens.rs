//! Service account tokens: keys, claims, issuing, the TokenRequest subresource, and OpenID discovery.
//!
//! Kubernetes documentation, "Managing Service Accounts"; KEP-1205, KEP-1393, KEP-4193.

pub mod claims;
pub mod discovery;
pub mod issuer;
pub mod keys;
pub mod request;

pub use claims::{Claims, Kubernetes, ObjectRef};
pub use issuer::Issuer;
pub use keys::{KeyError, PrivateKey, PublicKey};

#[cfg(test)]
mod tests;
