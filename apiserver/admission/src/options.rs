//! The flags of admission, with upstream's names, and the chain that they build.

use std::sync::Arc;

use apiserver_auth::Authorizer;
use apiserver_auth::clock::{self, Clock};
use apiserver_auth::options::{Flags, Unsupported};
use apiserver_storage::reader::Reader;

use crate::plugins::certificate_approval::CertificateApproval;
use crate::plugins::certificate_signing::CertificateSigning;
use crate::plugins::certificate_subject_restriction::CertificateSubjectRestriction;
use crate::plugins::default_ingress_class::DefaultIngressClass;
use crate::plugins::default_storage_class::DefaultStorageClass;
use crate::plugins::default_toleration_seconds::DefaultTolerationSeconds;
use crate::plugins::extended_resource_toleration::ExtendedResourceToleration;
use crate::plugins::limit_ranger::LimitRanger;
use crate::plugins::namespace_lifecycle::NamespaceLifecycle;
use crate::plugins::node_restriction::NodeRestriction;
use crate::plugins::owner_references::OwnerReferencesPermissionEnforcement;
use crate::plugins::persistent_volume_claim_resize::PersistentVolumeClaimResize;
use crate::plugins::pod_security::PodSecurity;
use crate::plugins::pod_topology_labels::PodTopologyLabels;
use crate::plugins::priority::Priority;
use crate::plugins::runtime_class::RuntimeClass;
use crate::plugins::service_account::ServiceAccount;
use crate::plugins::storage_object_in_use_protection::StorageObjectInUseProtection;
use crate::plugins::taint_nodes_by_condition::TaintNodesByCondition;
use crate::{Chain, Plugin};

/// Flags of upstream's that are not supported.
#[derive(Debug)]
pub struct NotYet;

impl Flags for NotYet {
    const NAMES: &'static [&'static str] = &["admission-control", "admission-control-config-file"];
}

/// Why the server cannot start with these flags.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    #[error("--{0} is not supported")]
    UnsupportedFlag(&'static str),
    #[error("--enable-admission-plugins: {0} is not supported")]
    UnsupportedPlugin(String),
    #[error("--{flag}: there is no admission plugin {name}")]
    Unknown { flag: &'static str, name: String },
    #[error("{0} is in enable-admission-plugins and disable-admission-plugins")]
    Both(String),
}

#[derive(clap::Args, Clone, Debug)]
pub struct AdmissionOptions {
    /// Admission plugins to turn on, besides those that are on by default; their order does not matter.
    #[arg(long, value_delimiter = ',')]
    pub enable_admission_plugins: Vec<String>,

    /// Admission plugins to turn off, though they are on by default; their order does not matter.
    #[arg(long, value_delimiter = ',')]
    pub disable_admission_plugins: Vec<String>,

    /// How long pods without their own toleration stay on a node that is not ready.
    #[arg(long, default_value_t = 300)]
    pub default_not_ready_toleration_seconds: i64,

    /// How long pods without their own toleration stay on a node that is not reachable.
    #[arg(long, default_value_t = 300)]
    pub default_unreachable_toleration_seconds: i64,

    #[command(flatten)]
    pub unsupported: Unsupported<NotYet>,
}

/// What plugins are made from.
#[derive(Clone)]
pub struct Context {
    pub reader: Arc<dyn Reader>,
    pub authorizer: Arc<dyn Authorizer>,
    pub clock: Clock,
}

/// How a plugin stands when no flag names it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    On,
    Off,
    /// Known to Kubernetes, on by default there, and not here yet.
    Missing,
    /// Known to Kubernetes, off by default there, and not here yet.
    MissingOff,
}

use Standing::{Missing, MissingOff, Off, On};

/// Every plugin of Kubernetes, in the order in which they are asked.
const ORDER: [(&str, Standing); 35] = [
    ("AlwaysAdmit", MissingOff),
    ("NamespaceAutoProvision", MissingOff),
    ("NamespaceLifecycle", On),
    ("NamespaceExists", MissingOff),
    ("LimitPodHardAntiAffinityTopology", MissingOff),
    ("LimitRanger", On),
    ("ServiceAccount", On),
    ("NodeRestriction", Off),
    ("TaintNodesByCondition", On),
    ("AlwaysPullImages", MissingOff),
    ("ImagePolicyWebhook", MissingOff),
    ("PodSecurity", On),
    ("PodNodeSelector", MissingOff),
    ("Priority", On),
    ("DefaultTolerationSeconds", On),
    ("PodTolerationRestriction", MissingOff),
    ("EventRateLimit", MissingOff),
    ("ExtendedResourceToleration", Off),
    ("DefaultStorageClass", On),
    ("StorageObjectInUseProtection", On),
    ("OwnerReferencesPermissionEnforcement", Off),
    ("PersistentVolumeClaimResize", On),
    ("RuntimeClass", On),
    ("CertificateApproval", On),
    ("CertificateSigning", On),
    ("ClusterTrustBundleAttest", Missing),
    ("CertificateSubjectRestriction", On),
    ("DefaultIngressClass", On),
    ("DenyServiceExternalIPs", MissingOff),
    ("PodTopologyLabels", On),
    ("MutatingAdmissionPolicy", Missing),
    ("MutatingAdmissionWebhook", Missing),
    ("ValidatingAdmissionPolicy", Missing),
    ("ValidatingAdmissionWebhook", Missing),
    ("ResourceQuota", Missing),
];

impl AdmissionOptions {
    /// The names of the plugins that are to be on, in order.
    pub fn enabled(&self) -> Result<Vec<&'static str>, OptionsError> {
        if let Some(flag) = self.unsupported.given.first() {
            return Err(OptionsError::UnsupportedFlag(flag));
        }
        self.check_names()?;
        let asked = |name: &str| self.enable_admission_plugins.iter().any(|n| n == name);
        let refused = |name: &str| self.disable_admission_plugins.iter().any(|n| n == name);
        let unsupported = ORDER.iter().find(|(name, standing)| matches!(standing, MissingOff) && asked(name));
        if let Some((name, _)) = unsupported {
            return Err(OptionsError::UnsupportedPlugin((*name).to_owned()));
        }
        let on = |(name, standing): &&(&'static str, Standing)| match standing {
            On => !refused(name),
            Off => asked(name),
            Missing | MissingOff => false,
        };
        Ok(ORDER.iter().filter(on).map(|(name, _)| *name).collect())
    }

    fn check_names(&self) -> Result<(), OptionsError> {
        let lists = [
            ("enable-admission-plugins", &self.enable_admission_plugins),
            ("disable-admission-plugins", &self.disable_admission_plugins),
        ];
        for (flag, names) in lists {
            if let Some(name) = names.iter().find(|name| !ORDER.iter().any(|(known, _)| known == name)) {
                return Err(OptionsError::Unknown { flag, name: name.clone() });
            }
        }
        match self.enable_admission_plugins.iter().find(|name| self.disable_admission_plugins.contains(name)) {
            Some(name) => Err(OptionsError::Both(name.clone())),
            None => Ok(()),
        }
    }

    fn plugin(&self, name: &str, context: &Context) -> Option<Arc<dyn Plugin>> {
        let reader = || Arc::clone(&context.reader);
        let authorizer = || Arc::clone(&context.authorizer);
        Some(match name {
            "NamespaceLifecycle" => Arc::new(NamespaceLifecycle::new(reader(), context.clock.clone())),
            "LimitRanger" => Arc::new(LimitRanger::default()),
            "PodSecurity" => Arc::new(PodSecurity::new(reader())),
            "ServiceAccount" => Arc::new(ServiceAccount::new(reader())),
            "NodeRestriction" => Arc::new(NodeRestriction::new(reader(), authorizer())),
            "TaintNodesByCondition" => Arc::new(TaintNodesByCondition),
            "Priority" => Arc::new(Priority::new(reader())),
            "DefaultTolerationSeconds" => Arc::new(DefaultTolerationSeconds {
                not_ready: self.default_not_ready_toleration_seconds,
                unreachable: self.default_unreachable_toleration_seconds,
            }),
            "ExtendedResourceToleration" => Arc::new(ExtendedResourceToleration),
            "DefaultStorageClass" => Arc::new(DefaultStorageClass::default()),
            "StorageObjectInUseProtection" => Arc::new(StorageObjectInUseProtection),
            "OwnerReferencesPermissionEnforcement" => Arc::new(OwnerReferencesPermissionEnforcement::new(authorizer())),
            "PersistentVolumeClaimResize" => Arc::new(PersistentVolumeClaimResize::new(reader())),
            "RuntimeClass" => Arc::new(RuntimeClass::new(reader())),
            "CertificateApproval" => Arc::new(CertificateApproval::new(authorizer())),
            "CertificateSigning" => Arc::new(CertificateSigning::new(authorizer())),
            "CertificateSubjectRestriction" => Arc::new(CertificateSubjectRestriction),
            "DefaultIngressClass" => Arc::new(DefaultIngressClass::default()),
            "PodTopologyLabels" => Arc::new(PodTopologyLabels::new(reader())),
            _ => return None,
        })
    }

    /// The chain that the flags ask for.
    pub fn chain(&self, context: &Context) -> Result<Chain, OptionsError> {
        Ok(Chain::new(self.enabled()?.into_iter().filter_map(|name| self.plugin(name, context)).collect()))
    }
}

impl Chain {
    /// The chain that the flags ask for, with the machine's clock.
    pub fn build(
        options: &AdmissionOptions,
        reader: Arc<dyn Reader>,
        authorizer: Arc<dyn Authorizer>,
    ) -> Result<Chain, OptionsError> {
        options.chain(&Context { reader, authorizer, clock: clock::system() })
    }
}

#[cfg(test)]
mod tests {
    use apiserver_auth::authorization::union::AlwaysDeny;
    use clap::Parser;

    use super::*;
    use crate::testing::State;

    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        admission: AdmissionOptions,
    }

    fn names(flags: &[&str]) -> Result<Vec<&'static str>, String> {
        let flags = std::iter::once("x").chain(flags.iter().copied());
        let options = Command::try_parse_from(flags).expect("flags").admission;
        let context =
            Context { reader: Arc::new(State::default()), authorizer: Arc::new(AlwaysDeny), clock: clock::system() };
        let chain = options.chain(&context).map_err(|e| e.to_string())?;
        let names: Vec<_> = chain.names().collect();
        assert_eq!(Ok(names.clone()), options.enabled().map_err(|e| e.to_string()), "each plugin that is on is built");
        Ok(names)
    }

    #[test]
    fn flags_turn_plugins_on_and_off() {
        let usual = names(&[]).expect("a chain");
        assert!(usual.starts_with(&["NamespaceLifecycle", "LimitRanger", "ServiceAccount", "TaintNodesByCondition"]));
        assert!(!usual.contains(&"NodeRestriction"));
        let changed = names(&[
            "--enable-admission-plugins=NodeRestriction",
            "--disable-admission-plugins=ServiceAccount,ResourceQuota",
        ]);
        assert!(changed.expect("a chain").starts_with(&["NamespaceLifecycle", "LimitRanger", "NodeRestriction"]));
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        for (flag, says) in [
            ("--enable-admission-plugins=Nonsense", "there is no admission plugin Nonsense"),
            ("--enable-admission-plugins=AlwaysPullImages", "AlwaysPullImages is not supported"),
            ("--admission-control-config-file=x", "--admission-control-config-file is not supported"),
        ] {
            assert!(names(&[flag]).expect_err("refused").contains(says), "{flag}");
        }
    }
}
