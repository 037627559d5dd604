//! The flags of authorization.

use std::sync::Arc;

use apiserver_storage::reader::Observer;

use super::unsupported::{Flags, Unsupported};
use super::{Authorization, OptionsError};
use crate::authorization::Authorizer;
use crate::authorization::node::Node;
use crate::authorization::rbac::Rbac;
use crate::authorization::union::{AlwaysAllow, AlwaysDeny, Masters, Union};
use crate::bootstrap;

/// Flags of upstream's that are not supported.
#[derive(Debug)]
pub struct NotYet;

impl Flags for NotYet {
    const NAMES: &'static [&'static str] = &[
        "authorization-config",
        "authorization-policy-file",
        "authorization-webhook-cache-authorized-ttl",
        "authorization-webhook-cache-unauthorized-ttl",
        "authorization-webhook-config-file",
        "authorization-webhook-version",
    ];
}

#[derive(clap::Args, Clone, Debug)]
pub struct AuthorizationOptions {
    /// Who decides, in order: Node, RBAC, AlwaysAllow, AlwaysDeny. (Upstream's default is AlwaysAllow; here it is safe.)
    #[arg(long, value_delimiter = ',', default_value = "Node,RBAC")]
    pub authorization_mode: Vec<String>,

    #[command(flatten)]
    pub unsupported: Unsupported<NotYet>,
}

impl AuthorizationOptions {
    pub fn build(&self) -> Result<Authorization, OptionsError> {
        if let Some(flag) = self.unsupported.given.first() {
            return Err(OptionsError::Unsupported(flag));
        }
        let rbac = Arc::new(Rbac::default());
        let mut authorizers: Vec<Arc<dyn Authorizer>> = vec![Arc::new(Masters)];
        let mut observers: Vec<Arc<dyn Observer>> = vec![Arc::clone(&rbac) as _];
        for mode in &self.authorization_mode {
            match mode.as_str() {
                "Node" => {
                    let node = Arc::new(Node::new(bootstrap::node_rules()));
                    observers.push(Arc::clone(&node) as _);
                    authorizers.push(node);
                }
                "RBAC" => authorizers.push(Arc::clone(&rbac) as _),
                "AlwaysAllow" => authorizers.push(Arc::new(AlwaysAllow)),
                "AlwaysDeny" => authorizers.push(Arc::new(AlwaysDeny)),
                other => return Err(unknown(other)),
            }
        }
        Ok(Authorization { authorizer: Arc::new(Union(authorizers)), rbac, observers })
    }
}

fn unknown(mode: &str) -> OptionsError {
    let reason = match mode {
        "ABAC" | "Webhook" => "this mode is not supported",
        _ => "no such mode (Node, RBAC, AlwaysAllow, AlwaysDeny)",
    };
    OptionsError::Value { flag: "authorization-mode", value: mode.to_owned(), reason: reason.to_owned() }
}
