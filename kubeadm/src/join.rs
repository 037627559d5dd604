//! `kubeadm join`: from a token and a pin to the files that a kubelet bootstraps itself with.

use anyhow::{Context, Result, bail};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::Value;

use crate::{
    api,
    config::{BootstrapTokenDiscovery, JoinConfiguration},
    constants,
    files::{File, Root},
    init::{node_name, stored_configuration},
    kubeconfigs::{self, Credential},
    kubelet, pki,
    tokens::{self, Token},
};

/// What discovery found out about the cluster, after it was checked.
#[derive(Debug, Eq, PartialEq)]
struct Cluster {
    server: String,
    ca: String,
}

pub async fn run(configuration: &JoinConfiguration, root: &Root) -> Result<()> {
    if root.read(constants::KUBELET_CONF)?.is_some() {
        bail!("{} exists: this node is part of a cluster already (kubeadm reset undoes that)", constants::KUBELET_CONF);
    }
    let discovery = &configuration.discovery.bootstrap_token;
    let token: Token = discovery.token.parse()?;
    let cluster = discover(discovery, &token).await?;
    println!("[discovery] {} is the cluster that the token and the pin name", cluster.server);
    let name = node_name(&configuration.node_registration.name)?;
    let bearer = configuration.discovery.tls_bootstrap_token.clone().unwrap_or_else(|| token.to_string());
    let bootstrap = kubeconfigs::kubeconfig(
        "kubernetes",
        &cluster.server,
        &cluster.ca,
        "tls-bootstrap-token-user",
        &Credential::Token(&bearer),
    )?;
    let client = client(&bootstrap).await?;
    let files = plan(configuration, &client, &cluster, &name, bootstrap).await?;
    root.write_all(&files)?;
    for file in &files {
        println!("[files] {}", file.path.display());
    }
    println!("[kubelet-start] start the kubelet: it asks for its certificate, and the node {name} joins");
    Ok(())
}

async fn plan(
    configuration: &JoinConfiguration,
    client: &Client,
    cluster: &Cluster,
    name: &str,
    bootstrap: String,
) -> Result<Vec<File>> {
    let stored = stored_configuration(client).await?;
    let map = api::send(client, "GET", "/api/v1/namespaces/kube-system/configmaps/kubelet-config", None).await?;
    let text = map["data"]["kubelet"].as_str().context("kubelet-config has no field kubelet")?;
    let kubelet: Value = serde_saphyr::from_str(text).map_err(|error| anyhow::anyhow!("kubelet-config: {error}"))?;
    let ca_path = configuration.ca_cert_path.clone().unwrap_or_else(|| stored.pki("ca.crt"));
    let mut files =
        vec![File::public(ca_path, cluster.ca.clone()), File::secret(constants::BOOTSTRAP_KUBELET_CONF, bootstrap)];
    files.extend(kubelet::files(&kubelet, &configuration.node_registration, name, None)?);
    Ok(files)
}

/// Reads cluster-info from a server that is not trusted yet, then decides whether to trust what it says.
async fn discover(discovery: &BootstrapTokenDiscovery, token: &Token) -> Result<Cluster> {
    let mut config = Config::new(format!("https://{}", discovery.api_server_endpoint).parse()?);
    config.accept_invalid_certs = true;
    let client = component_base::client::from_config(config, &component_base::version::user_agent("kubeadm"))?;
    let map = api::send(&client, "GET", "/api/v1/namespaces/kube-public/configmaps/cluster-info", None).await?;
    check(&map["data"], token, discovery)
}

/// The token vouches for the text (it signed it), and the pin for the authority in it.
fn check(data: &Value, token: &Token, discovery: &BootstrapTokenDiscovery) -> Result<Cluster> {
    let text = data["kubeconfig"].as_str().context("cluster-info has no kubeconfig")?;
    let signature = data[tokens::signature_key(token)].as_str().ok_or(tokens::Error::NoSignature)?;
    tokens::verify(token, text, signature)?;
    let read: Value = serde_saphyr::from_str(text).map_err(|error| anyhow::anyhow!("cluster-info: {error}"))?;
    let cluster = &read["clusters"][0]["cluster"];
    let server = cluster["server"].as_str().context("cluster-info names no server")?.to_owned();
    let ca = cluster["certificate-authority-data"].as_str().context("cluster-info has no certificate authority")?;
    let ca = String::from_utf8(base64::Engine::decode(&base64::engine::general_purpose::STANDARD, ca)?)?;
    if !discovery.unsafe_skip_ca_verification {
        let pin = pki::public_key_pin(&ca)?;
        if discovery.ca_cert_hashes.is_empty() {
            bail!("--discovery-token-ca-cert-hash is needed (or --discovery-token-unsafe-skip-ca-verification)");
        }
        if !discovery.ca_cert_hashes.contains(&pin) {
            bail!("the cluster's certificate authority is {pin}, which was not given as a pin");
        }
    }
    Ok(Cluster { server, ca })
}

async fn client(kubeconfig: &str) -> Result<Client> {
    let kubeconfig = Kubeconfig::from_yaml(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(component_base::client::from_config(config, &component_base::version::user_agent("kubeadm"))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects;
    use jiff::Timestamp;

    #[test]
    fn cluster_info_is_trusted_with_the_right_token_and_pin_only() {
        let ca = pki::authority("kubernetes", pki::KeyAlgorithm::default(), Timestamp::now()).unwrap().certificate;
        let (token, other) = (Token::generate(), Token::generate());
        let info = objects::cluster_info("https://192.0.2.1:6443", &ca, std::slice::from_ref(&token)).unwrap();
        let with = |pins: &[&str]| BootstrapTokenDiscovery {
            ca_cert_hashes: pins.iter().map(|pin| (*pin).to_owned()).collect(),
            ..BootstrapTokenDiscovery::default()
        };
        let pin = pki::public_key_pin(&ca).unwrap();
        let found = check(&info[0]["data"], &token, &with(&[&pin])).unwrap();
        assert_eq!(found, Cluster { server: "https://192.0.2.1:6443".into(), ca });
        assert!(check(&info[0]["data"], &token, &with(&[])).is_err());
        assert!(check(&info[0]["data"], &token, &with(&["sha256:00"])).is_err());
        assert!(check(&info[0]["data"], &other, &with(&[&pin])).is_err());
        let mut changed = info[0]["data"].clone();
        changed["kubeconfig"] = changed["kubeconfig"].as_str().unwrap().replace("192.0.2.1", "192.0.2.2").into();
        assert!(check(&changed, &token, &with(&[&pin])).is_err());
    }
}
