//! Every plugin of Kubernetes: its name, its place in the order, whether it is on by default, and how it is made.

use std::sync::Arc;

use crate::Plugin;
use crate::configuration::{self, Configuration};
use crate::options::{AdmissionOptions, Context};
use crate::plugins::always::{AlwaysAdmit, AlwaysDeny};
use crate::plugins::always_pull_images::AlwaysPullImages;
use crate::plugins::certificate_approval::CertificateApproval;
use crate::plugins::certificate_signing::CertificateSigning;
use crate::plugins::certificate_subject_restriction::CertificateSubjectRestriction;
use crate::plugins::cluster_trust_bundle_attest::ClusterTrustBundleAttest;
use crate::plugins::default_ingress_class::DefaultIngressClass;
use crate::plugins::default_storage_class::DefaultStorageClass;
use crate::plugins::default_toleration_seconds::DefaultTolerationSeconds;
use crate::plugins::deny_service_external_ips::DenyServiceExternalIPs;
use crate::plugins::event_rate_limit::{self, EventRateLimit};
use crate::plugins::extended_resource_toleration::ExtendedResourceToleration;
use crate::plugins::limit_pod_hard_anti_affinity_topology::LimitPodHardAntiAffinityTopology;
use crate::plugins::limit_ranger::LimitRanger;
use crate::plugins::mutating_admission_policy::MutatingAdmissionPolicy;
use crate::plugins::mutating_admission_webhook::MutatingAdmissionWebhook;
use crate::plugins::namespace_exists::{NamespaceAutoProvision, NamespaceExists};
use crate::plugins::namespace_lifecycle::NamespaceLifecycle;
use crate::plugins::node_restriction::NodeRestriction;
use crate::plugins::owner_references::OwnerReferencesPermissionEnforcement;
use crate::plugins::persistent_volume_claim_resize::PersistentVolumeClaimResize;
use crate::plugins::pod_node_selector::{self, PodNodeSelector};
use crate::plugins::pod_security::{self, PodSecurity};
use crate::plugins::pod_toleration_restriction::{self, PodTolerationRestriction};
use crate::plugins::pod_topology_labels::PodTopologyLabels;
use crate::plugins::priority::Priority;
use crate::plugins::resource_quota::{self, ResourceQuota};
use crate::plugins::runtime_class::RuntimeClass;
use crate::plugins::service_account::ServiceAccount;
use crate::plugins::storage_object_in_use_protection::StorageObjectInUseProtection;
use crate::plugins::taint_nodes_by_condition::TaintNodesByCondition;
use crate::plugins::validating_admission_policy::ValidatingAdmissionPolicy;
use crate::plugins::validating_admission_webhook::ValidatingAdmissionWebhook;
use crate::webhook;

/// How a plugin stands when no flag names it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    On,
    Off,
    /// Known to Kubernetes, on by default there, and not here yet.
    Missing,
    /// Known to Kubernetes, off by default there, and not here yet.
    MissingOff,
}

use Standing::{Missing, MissingOff, Off, On};

/// Every plugin of Kubernetes, in the order in which they are asked.
pub(crate) const ORDER: [(&str, Standing); 41] = [
    ("AlwaysAdmit", Off),
    ("NamespaceAutoProvision", Off),
    ("NamespaceLifecycle", On),
    ("NamespaceExists", Off),
    ("LimitPodHardAntiAffinityTopology", Off),
    ("LimitRanger", On),
    ("ServiceAccount", On),
    ("NodeRestriction", Off),
    ("TaintNodesByCondition", On),
    ("AlwaysPullImages", Off),
    ("ImagePolicyWebhook", MissingOff),
    ("PodSecurity", On),
    ("PodNodeSelector", Off),
    ("Priority", On),
    ("DefaultTolerationSeconds", On),
    ("PodTolerationRestriction", Off),
    ("EventRateLimit", Off),
    ("ExtendedResourceToleration", Off),
    ("DefaultStorageClass", On),
    ("StorageObjectInUseProtection", On),
    // Those of feature gates that are off by default do nothing; their names are known.
    ("PodGroupProtection", Missing),
    ("OwnerReferencesPermissionEnforcement", Off),
    ("PersistentVolumeClaimResize", On),
    ("RuntimeClass", On),
    ("CertificateApproval", On),
    ("CertificateSigning", On),
    ("ClusterTrustBundleAttest", On),
    ("CertificateSubjectRestriction", On),
    ("DefaultIngressClass", On),
    ("DenyServiceExternalIPs", Off),
    ("PodTopologyLabels", On),
    ("PodGroupWorkloadExists", Missing),
    ("NodeDeclaredFeatureValidator", Missing),
    ("JobValidation", Missing),
    ("PodResizeValidator", Missing),
    ("MutatingAdmissionPolicy", On),
    ("MutatingAdmissionWebhook", On),
    ("ValidatingAdmissionPolicy", On),
    ("ValidatingAdmissionWebhook", On),
    ("ResourceQuota", On),
    ("AlwaysDeny", Off),
];

/// Whether Kubernetes has a plugin of this name.
pub(crate) fn is_known(name: &str) -> bool {
    ORDER.iter().any(|(known, _)| *known == name)
}

/// Makes the plugin; none for one that is not here.
///
/// # Errors
/// What the plugin is told and cannot use.
pub(crate) fn make(
    name: &str,
    options: &AdmissionOptions,
    configuration: &Configuration,
    context: &Context,
) -> Result<Option<Arc<dyn Plugin>>, configuration::Error> {
    let reader = || Arc::clone(&context.reader);
    let authorizer = || Arc::clone(&context.authorizer);
    Ok(Some(match name {
        "NamespaceLifecycle" => Arc::new(NamespaceLifecycle::new(reader(), context.clock.clone())),
        "LimitRanger" => Arc::new(LimitRanger::default()),
        "PodSecurity" => Arc::new(PodSecurity::new(reader(), configuration.part(name, &pod_security::KINDS)?)),
        "ServiceAccount" => Arc::new(ServiceAccount::new(reader())),
        "NodeRestriction" => Arc::new(NodeRestriction::new(reader(), authorizer())),
        "TaintNodesByCondition" => Arc::new(TaintNodesByCondition),
        "Priority" => Arc::new(Priority::new(reader())),
        "DefaultTolerationSeconds" => Arc::new(DefaultTolerationSeconds {
            not_ready: options.default_not_ready_toleration_seconds,
            unreachable: options.default_unreachable_toleration_seconds,
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
        "MutatingAdmissionPolicy" => Arc::new(MutatingAdmissionPolicy::new(reader(), authorizer())),
        "ValidatingAdmissionPolicy" => Arc::new(ValidatingAdmissionPolicy::new(reader(), authorizer())),
        "AlwaysAdmit" => Arc::new(AlwaysAdmit),
        "NamespaceAutoProvision" => {
            Arc::new(NamespaceAutoProvision::new(reader(), Arc::clone(&context.writer), context.clock.clone()))
        }
        "NamespaceExists" => Arc::new(NamespaceExists::new(reader())),
        "LimitPodHardAntiAffinityTopology" => Arc::new(LimitPodHardAntiAffinityTopology),
        "AlwaysPullImages" => Arc::new(AlwaysPullImages),
        "PodNodeSelector" => {
            Arc::new(PodNodeSelector::new(reader(), configuration.part(name, &pod_node_selector::KINDS)?))
        }
        "PodTolerationRestriction" => {
            let told = configuration.part(name, &pod_toleration_restriction::KINDS)?;
            Arc::new(PodTolerationRestriction::new(reader(), told))
        }
        "EventRateLimit" => {
            let told: event_rate_limit::Configuration = configuration.part(name, &event_rate_limit::KINDS)?;
            told.check().map_err(|reason| configuration::Error::Plugin { plugin: name.to_owned(), reason })?;
            Arc::new(EventRateLimit::new(context.clock.clone(), told))
        }
        "ClusterTrustBundleAttest" => Arc::new(ClusterTrustBundleAttest::new(authorizer())),
        "DenyServiceExternalIPs" => Arc::new(DenyServiceExternalIPs),
        "AlwaysDeny" => Arc::new(AlwaysDeny),
        "MutatingAdmissionWebhook" => {
            check_webhooks(name, configuration)?;
            Arc::new(MutatingAdmissionWebhook::new(reader(), authorizer(), context.webhooks.clone()))
        }
        "ValidatingAdmissionWebhook" => {
            check_webhooks(name, configuration)?;
            Arc::new(ValidatingAdmissionWebhook::new(reader(), authorizer(), context.webhooks.clone()))
        }
        "ResourceQuota" => {
            let told = configuration.part(name, &resource_quota::KINDS)?;
            Arc::new(ResourceQuota::new(reader(), Arc::clone(&context.writer), context.clock.clone(), told))
        }
        _ => return Ok(None),
    }))
}

fn check_webhooks(name: &str, configuration: &Configuration) -> Result<(), configuration::Error> {
    let told: webhook::Configuration = configuration.part(name, &webhook::KINDS)?;
    told.check().map_err(|reason| configuration::Error::Plugin { plugin: name.to_owned(), reason })
}
