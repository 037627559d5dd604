//! Which certificates each signer is willing to sign.

use component_base::pki::{Csr, Usage};

pub const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
pub const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
pub const API_CLIENT: &str = "kubernetes.io/kube-apiserver-client";

const NODE_PREFIX: &str = "system:node:";
const NODES_GROUP: &str = "system:nodes";

/// Why a request is not one that the signer signs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    #[error("organization must be exactly \"{NODES_GROUP}\"")]
    Organization,
    #[error("common name must start with \"{NODE_PREFIX}\"")]
    CommonName,
    #[error("subject alternative names are not allowed")]
    NamesGiven,
    #[error("at least one DNS name or IP address is needed")]
    NamesMissing,
    #[error("mail addresses and URIs are not allowed")]
    NamesOfOtherKinds,
    #[error("usages must be {0}")]
    Usages(&'static str),
}

/// Whether the request has the form that the signer requires. Unknown signers are nobody's here.
pub fn check(signer: &str, request: &Csr, usages: &[String]) -> Result<(), Mismatch> {
    match signer {
        KUBELET_CLIENT => kubelet_client(request, usages),
        KUBELET_SERVING => kubelet_serving(request, usages),
        API_CLIENT => api_client(usages),
        _ => Ok(()),
    }
}

fn node(request: &Csr) -> Result<(), Mismatch> {
    if request.subject.organizations != [NODES_GROUP] {
        return Err(Mismatch::Organization);
    }
    let named = request.subject.common_name.strip_prefix(NODE_PREFIX).is_some_and(|node| !node.is_empty());
    if named { Ok(()) } else { Err(Mismatch::CommonName) }
}

fn kubelet_client(request: &Csr, usages: &[String]) -> Result<(), Mismatch> {
    node(request)?;
    if !request.names.is_empty() {
        return Err(Mismatch::NamesGiven);
    }
    exactly(usages, Usage::ClientAuth, "digital signature, client auth and at most key encipherment")
}

fn kubelet_serving(request: &Csr, usages: &[String]) -> Result<(), Mismatch> {
    node(request)?;
    if request.names.dns.is_empty() && request.names.ips.is_empty() {
        return Err(Mismatch::NamesMissing);
    }
    if !request.names.emails.is_empty() || !request.names.uris.is_empty() {
        return Err(Mismatch::NamesOfOtherKinds);
    }
    exactly(usages, Usage::ServerAuth, "digital signature, server auth and at most key encipherment")
}

fn api_client(usages: &[String]) -> Result<(), Mismatch> {
    let parsed: Vec<_> = usages.iter().map(|u| Usage::from_word(u)).collect();
    let allowed = [Usage::DigitalSignature, Usage::KeyEncipherment, Usage::ClientAuth].map(Some);
    let fine = parsed.contains(&Some(Usage::ClientAuth)) && parsed.iter().all(|u| allowed.contains(u));
    if fine { Ok(()) } else { Err(Mismatch::Usages("client auth and at most digital signature and key encipherment")) }
}

/// `auth` and digital signature, both, and nothing else but key encipherment.
fn exactly(usages: &[String], auth: Usage, words: &'static str) -> Result<(), Mismatch> {
    let mut parsed: Vec<_> = usages.iter().map(|u| Usage::from_word(u)).collect();
    parsed.sort_unstable();
    parsed.dedup();
    let required = [Some(Usage::DigitalSignature), Some(auth)];
    let rest = parsed.iter().filter(|u| !required.contains(u));
    let fine =
        required.iter().all(|u| parsed.contains(u)) && rest.into_iter().all(|u| *u == Some(Usage::KeyEncipherment));
    if fine { Ok(()) } else { Err(Mismatch::Usages(words)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use component_base::pki::{KeyType, Names, Subject, create_csr, generate_key};

    fn request(common_name: &str, organizations: &[&str], hosts: &[&str]) -> Csr {
        let key = generate_key(KeyType::EcdsaP256).unwrap();
        let text = create_csr(&key, &Subject::new(common_name, organizations), &Names::from_hosts(hosts)).unwrap();
        Csr::parse(&text).unwrap()
    }

    fn usages(words: &[&str]) -> Vec<String> {
        words.iter().map(|w| (*w).to_owned()).collect()
    }

    const CLIENT: &[&str] = &["digital signature", "client auth"];
    const SERVING: &[&str] = &["digital signature", "key encipherment", "server auth"];

    #[test]
    fn only_kubelets_requests_are_kubelets() {
        for (signer, common_name, organizations, hosts, words, expected) in [
            (KUBELET_CLIENT, "system:node:n1", &["system:nodes"][..], &[][..], CLIENT, None),
            (KUBELET_CLIENT, "system:node:", &["system:nodes"], &[], CLIENT, Some(Mismatch::CommonName)),
            (KUBELET_CLIENT, "admin", &["system:nodes"], &[], CLIENT, Some(Mismatch::CommonName)),
            (KUBELET_CLIENT, "system:node:n1", &["system:masters"], &[], CLIENT, Some(Mismatch::Organization)),
            (KUBELET_CLIENT, "system:node:n1", &["system:nodes", "x"], &[], CLIENT, Some(Mismatch::Organization)),
            (KUBELET_CLIENT, "system:node:n1", &["system:nodes"], &["n1"], CLIENT, Some(Mismatch::NamesGiven)),
            (KUBELET_SERVING, "system:node:n1", &["system:nodes"], &["n1", "10.0.0.1"], SERVING, None),
            (KUBELET_SERVING, "system:node:n1", &["system:nodes"], &[], SERVING, Some(Mismatch::NamesMissing)),
        ] {
            let answer = check(signer, &request(common_name, organizations, hosts), &usages(words));
            assert_eq!(answer.err(), expected, "{signer} {common_name} {organizations:?} {hosts:?}");
        }
    }

    #[test]
    fn usages_are_exactly_those_of_the_signer() {
        let kubelet = request("system:node:n1", &["system:nodes"], &[]);
        for (words, fine) in [
            (&["digital signature", "key encipherment", "client auth"][..], true),
            (&["client auth"], false),
            (&["digital signature", "client auth", "server auth"], false),
            (&["digital signature", "client auth", "nonsense"], false),
        ] {
            assert_eq!(check(KUBELET_CLIENT, &kubelet, &usages(words)).is_ok(), fine, "{words:?}");
        }
        let person = request("jane", &["dev"], &[]);
        assert!(check(API_CLIENT, &person, &usages(&["client auth"])).is_ok());
        assert!(check(API_CLIENT, &person, &usages(&["server auth"])).is_err());
    }
}
