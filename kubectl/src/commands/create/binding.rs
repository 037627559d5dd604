//! `create rolebinding` and `create clusterrolebinding`.

use clap::Args;
use serde_json::{Value, json};

use super::{Made, Named, named};
use crate::error::{Result, usage};

const GROUP: &str = "rbac.authorization.k8s.io";

#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    named: Named,
    /// Role this role binding should reference
    #[arg(long, default_value = "")]
    role: String,
    /// Cluster role this binding should reference
    #[arg(long = "clusterrole", default_value = "")]
    cluster_role: String,
    /// Usernames to bind to the role
    #[arg(long = crate::flags::BOUND_USER)]
    users: Vec<String>,
    /// Groups to bind to the role
    #[arg(long = "group")]
    groups: Vec<String>,
    /// NAMESPACE:NAME of service accounts to bind to the role
    #[arg(long = "serviceaccount")]
    accounts: Vec<String>,
}

pub fn make<'a>(options: &'a Options, kind: &str) -> Result<Made<'a>> {
    let name = options.named.name(&kind.to_lowercase())?;
    let (role, failed) = match (kind, options.role.as_str(), options.cluster_role.as_str()) {
        ("ClusterRoleBinding", _, "") => return usage("required flag(s) \"clusterrole\" not set"),
        ("RoleBinding", "", "") => return usage("exactly one of clusterrole or role must be specified"),
        ("RoleBinding", role, cluster) if !role.is_empty() && !cluster.is_empty() => {
            return usage("exactly one of clusterrole or role must be specified");
        }
        ("ClusterRoleBinding", _, cluster) => (("ClusterRole", cluster), "failed to create clusterrolebinding: "),
        (_, "", cluster) => (("ClusterRole", cluster), "failed to create rolebinding: "),
        (_, role, _) => (("Role", role), "failed to create rolebinding: "),
    };
    let mut object = named(&format!("{GROUP}/v1"), kind, name);
    object["roleRef"] = json!({"apiGroup": GROUP, "kind": role.0, "name": role.1});
    let subjects = subjects(options)?;
    if !subjects.is_empty() {
        object["subjects"] = subjects.into();
    }
    Ok(Made { object, making: &options.named.making, failed })
}

fn subjects(options: &Options) -> Result<Vec<Value>> {
    let of = |kind: &'static str| move |name: &String| json!({"apiGroup": GROUP, "kind": kind, "name": name});
    let mut subjects: Vec<Value> =
        options.users.iter().map(of("User")).chain(options.groups.iter().map(of("Group"))).collect();
    for account in &options.accounts {
        match account.split_once(':') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => {
                subjects.push(json!({"kind": "ServiceAccount", "name": name, "namespace": namespace}));
            }
            _ => return usage("serviceaccount must be <namespace>:<name>"),
        }
    }
    Ok(subjects)
}
