//! The commands beside init and join.

use std::path::PathBuf;

use anyhow::{Context, Result};
use component_base::pki::Certificate;
use jiff::Timestamp;
use kube::Client;
use serde_json::{Value, json};

use crate::{
    api,
    certs::{self, Authorities},
    config::{self, BootstrapToken, ClusterConfiguration, InitConfiguration, JoinConfiguration},
    constants,
    files::Root,
    init, kubeconfigs,
    options::{CertsCommand, ConfigCommand, KubeconfigCommand, PrintCommand, TokenCommand, read_configuration},
    tokens::{self, Token},
};

const SECRETS: &str = "/api/v1/namespaces/kube-system/secrets";
const CLUSTER_INFO: &str = "/api/v1/namespaces/kube-public/configmaps/cluster-info";
const TOKEN_TYPE: &str = "bootstrap.kubernetes.io/token";

/// What init and join wrote is removed. The data of etcd too: a node that was reset knows nothing of its cluster.
pub fn reset(root: &Root) -> Result<()> {
    let cluster = ClusterConfiguration::default();
    for path in [
        constants::MANIFESTS_DIR,
        &cluster.certificates_dir,
        constants::ADMIN_CONF,
        constants::SUPER_ADMIN_CONF,
        constants::KUBELET_CONF,
        constants::BOOTSTRAP_KUBELET_CONF,
        constants::CONTROLLER_MANAGER_CONF,
        constants::SCHEDULER_CONF,
        constants::KUBELET_CONFIG,
        constants::KUBELET_FLAGS,
        "/var/lib/kubelet/pki",
        &cluster.etcd.local.data_dir,
    ] {
        root.remove(path)?;
        println!("[reset] {path}");
    }
    Ok(())
}

async fn admin(kubeconfig: Option<&PathBuf>, root: &Root) -> Result<Client> {
    let path = kubeconfig.cloned().unwrap_or_else(|| root.path(constants::ADMIN_CONF));
    Ok(component_base::client::from_kubeconfig(&path, &component_base::version::user_agent("kubeadm")).await?)
}

pub async fn token(command: &TokenCommand, root: &Root) -> Result<()> {
    match command {
        TokenCommand::Generate => println!("{}", Token::generate()),
        TokenCommand::Create { token, ttl, description, print_join_command, kubeconfig } => {
            let token = token.as_ref().map_or_else(|| Ok(Token::generate()), |token| token.parse())?;
            let options =
                BootstrapToken { ttl: ttl.clone(), description: description.clone(), ..BootstrapToken::default() };
            let client = admin(kubeconfig.as_ref(), root).await?;
            create_token(&client, &token, &options, *print_join_command).await?;
        }
        TokenCommand::List { kubeconfig } => list_tokens(&admin(kubeconfig.as_ref(), root).await?).await?,
        TokenCommand::Delete { tokens, kubeconfig } => {
            let client = admin(kubeconfig.as_ref(), root).await?;
            for token in tokens {
                let id = token.split('.').next().unwrap_or_default();
                api::send(&client, "DELETE", &format!("{SECRETS}/bootstrap-token-{id}"), None).await?;
                println!("bootstrap token {id:?} deleted");
            }
        }
    }
    Ok(())
}

async fn create_token(client: &Client, token: &Token, options: &BootstrapToken, join_command: bool) -> Result<()> {
    api::apply_all(client, &[tokens::secret(token, options, Timestamp::now())?]).await?;
    let info = api::send(client, "GET", CLUSTER_INFO, None).await?;
    let kubeconfig = info["data"]["kubeconfig"].as_str().context("cluster-info has no kubeconfig")?;
    let patch = json!({ "data": { tokens::signature_key(token): tokens::sign(token, kubeconfig) } });
    api::patch(client, CLUSTER_INFO, &patch).await?;
    if !join_command {
        println!("{token}");
        return Ok(());
    }
    let read: Value = serde_saphyr::from_str(kubeconfig).map_err(|error| anyhow::anyhow!("cluster-info: {error}"))?;
    let cluster = &read["clusters"][0]["cluster"];
    let server = cluster["server"].as_str().context("cluster-info names no server")?.trim_start_matches("https://");
    let ca = cluster["certificate-authority-data"].as_str().context("cluster-info has no certificate authority")?;
    let ca = String::from_utf8(base64::Engine::decode(&base64::engine::general_purpose::STANDARD, ca)?)?;
    println!("{}", init::join_command(server, token, &ca)?);
    Ok(())
}

async fn list_tokens(client: &Client) -> Result<()> {
    let list = api::send(client, "GET", &format!("{SECRETS}?fieldSelector=type%3D{TOKEN_TYPE}"), None).await?;
    println!("{:<25} {:<22} {:<25} DESCRIPTION", "TOKEN", "EXPIRES", "USAGES");
    for secret in list["items"].as_array().into_iter().flatten().filter(|secret| secret["type"] == TOKEN_TYPE) {
        let field = |name: &str| {
            let decoded = secret["data"][name]
                .as_str()
                .and_then(|text| base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text).ok());
            decoded.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        };
        let word = |name| field(name).unwrap_or_default();
        let usages = ["authentication", "signing"]
            .into_iter()
            .filter(|usage| field(&format!("usage-bootstrap-{usage}")).as_deref() == Some("true"))
            .collect::<Vec<_>>()
            .join(",");
        let expires = field("expiration").unwrap_or_else(|| "<forever>".into());
        let token = format!("{}.{}", word("token-id"), word("token-secret"));
        println!("{token:<25} {expires:<22} {usages:<25} {}", word("description"));
    }
    Ok(())
}

pub fn print_configuration(command: &ConfigCommand) -> Result<()> {
    let ConfigCommand::Print { what } = command;
    let documents = match what {
        PrintCommand::InitDefaults => vec![
            config::to_yaml(config::API_VERSION, "InitConfiguration", &InitConfiguration::default())?,
            config::to_yaml(config::API_VERSION, "ClusterConfiguration", &ClusterConfiguration::default())?,
        ],
        PrintCommand::JoinDefaults => {
            vec![config::to_yaml(config::API_VERSION, "JoinConfiguration", &JoinConfiguration::default())?]
        }
    };
    print!("{}", documents.join("---\n"));
    Ok(())
}

pub fn certificates(command: &CertsCommand, root: &Root) -> Result<()> {
    let CertsCommand::CheckExpiration = command;
    println!("{:<28} {:<22} FOR", "CERTIFICATE", "EXPIRES");
    for (name, pem) in certs::present(&ClusterConfiguration::default(), root)? {
        let certificate = Certificate::parse(&pem)?;
        let end = Timestamp::try_from(certificate.validity.not_after)?;
        println!("{name:<28} {end:<22} {}", certificate.subject.common_name);
    }
    Ok(())
}

pub fn kubeconfig(command: &KubeconfigCommand, root: &Root) -> Result<()> {
    let KubeconfigCommand::User { client_name, org, config, server } = command;
    let cluster = read_configuration(config.as_ref())?.cluster;
    let authorities = Authorities::read(&cluster, root)?.context("there are no certificate authorities here")?;
    let server = match server {
        Some(server) => server.clone(),
        None => admin_server(root)?,
    };
    let text = kubeconfigs::for_user(&cluster, &server, &authorities, client_name, org, Timestamp::now())?;
    print!("{text}");
    Ok(())
}

fn admin_server(root: &Root) -> Result<String> {
    let text = root.read(constants::ADMIN_CONF)?.context("no admin.conf here: give --server")?;
    let read: Value = serde_saphyr::from_str(&text).map_err(|error| anyhow::anyhow!("admin.conf: {error}"))?;
    Ok(read["clusters"][0]["cluster"]["server"].as_str().context("admin.conf names no server")?.to_owned())
}
