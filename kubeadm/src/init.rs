//! `kubeadm init`: phases that write files, then phases that speak with the apiserver that the kubelet has started from
//! them. Every phase may be run again.

use std::{net::IpAddr, time::Duration};

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use kube::Client;
use serde_json::Value;

use crate::{
    addons, api,
    certs::{self, Authorities, Authority},
    config::{BootstrapToken, Configuration},
    constants,
    files::{File, Root},
    kubeconfigs, kubelet, objects, static_pods,
    tokens::{self, Token},
};

/// The phases, in their order, by kubeadm's names.
pub const PHASES: [&str; 10] = [
    "certs",
    "kubeconfig",
    "kubelet-start",
    "control-plane",
    "etcd",
    "wait-control-plane",
    "upload-config",
    "mark-control-plane",
    "bootstrap-token",
    "addon",
];

const WAIT: Duration = Duration::from_secs(240);

/// One run of `init`.
pub struct Init {
    configuration: Configuration,
    root: Root,
    name: String,
    address: IpAddr,
    phases: Vec<&'static str>,
}

impl Init {
    /// `only`: the phases to run, all if empty, less those that the configuration skips.
    pub fn new(configuration: Configuration, root: Root, only: &[String]) -> Result<Self> {
        let skipped = &configuration.init.skip_phases;
        for phase in only.iter().chain(skipped) {
            if !PHASES.contains(&phase.as_str()) && !phase.starts_with("addon/") {
                bail!("no phase {phase}; there are: {}", PHASES.join(", "));
            }
        }
        let chosen = |phase: &&&str| {
            let named = |list: &[String]| list.iter().any(|name| name == **phase);
            (only.is_empty() || named(only)) && !named(skipped)
        };
        let phases = PHASES.iter().filter(chosen).copied().collect();
        let name = node_name(&configuration.init.node_registration.name)?;
        let address = configuration
            .init
            .local_api_endpoint
            .advertise_address
            .context("localAPIEndpoint.advertiseAddress (or --apiserver-advertise-address) is needed")?;
        Ok(Init { configuration, root, name, address, phases })
    }

    fn runs(&self, phase: &str) -> bool {
        self.phases.contains(&phase)
    }

    fn endpoint(&self) -> String {
        let port = self.configuration.init.local_api_endpoint.bind_port;
        self.configuration
            .cluster
            .control_plane_endpoint
            .clone()
            .unwrap_or_else(|| static_pods::host(self.address, port))
    }

    fn server(&self) -> String {
        format!("https://{}", self.endpoint())
    }

    pub async fn run(&self) -> Result<()> {
        let files = self.plan_files(Timestamp::now())?;
        self.root.write_all(&files)?;
        for file in &files {
            println!("[files] {}", file.path.display());
        }
        if !PHASES[5..].iter().any(|phase| self.runs(phase)) {
            return Ok(());
        }
        let path = self.root.path(constants::SUPER_ADMIN_CONF);
        let client =
            component_base::client::from_kubeconfig(&path, &component_base::version::user_agent("kubeadm")).await?;
        self.write_objects(&client).await
    }

    /// The files of all chosen phases that are not there yet, or that follow from the configuration alone.
    fn plan_files(&self, now: Timestamp) -> Result<Vec<File>> {
        let cluster = &self.configuration.cluster;
        let registration = &self.configuration.init.node_registration;
        let mut files = Vec::new();
        if self.runs("certs") || self.runs("kubeconfig") {
            let node = certs::Node { name: &self.name, address: self.address };
            let (authorities, certificates) = certs::plan(cluster, &node, &self.root, now)?;
            files.extend(certificates);
            if self.runs("kubeconfig") {
                let server = self.server();
                files.extend(kubeconfigs::plan(cluster, &self.name, &server, &authorities, &self.root, now)?);
            }
        }
        if self.runs("kubelet-start") {
            let configuration = kubelet::configuration(cluster, &self.configuration.kubelet)?;
            files.extend(kubelet::files(&configuration, registration, &self.name, Some(self.address))?);
        }
        if self.runs("control-plane") || self.runs("etcd") {
            let port = self.configuration.init.local_api_endpoint.bind_port;
            let node = static_pods::Node { name: &self.name, address: self.address, port };
            let etcd = |file: &File| file.path.ends_with("etcd.yaml");
            let wanted = |file: &File| self.runs(if etcd(file) { "etcd" } else { "control-plane" });
            files.extend(static_pods::plan(cluster, &node)?.into_iter().filter(wanted));
        }
        Ok(files)
    }

    async fn write_objects(&self, client: &Client) -> Result<()> {
        let (cluster, init) = (&self.configuration.cluster, &self.configuration.init);
        if self.runs("wait-control-plane") {
            println!("[wait-control-plane] waiting for kube-apiserver at {}", self.server());
            api::wait_live(client, WAIT).await?;
        }
        if self.runs("upload-config") {
            println!("[upload-config] storing the configuration in kube-system");
            api::wait_for(client, "/api/v1/namespaces/kube-system", WAIT).await?;
            let kubelet = kubelet::configuration(cluster, &self.configuration.kubelet)?;
            api::apply_all(client, &[objects::admin_rights()]).await?;
            api::apply_all(client, &objects::configuration(cluster, &kubelet)?).await?;
        }
        if self.runs("mark-control-plane") {
            println!("[mark-control-plane] labelling node {}", self.name);
            let path = format!("/api/v1/nodes/{}", self.name);
            api::wait_for(client, &path, WAIT).await?;
            let taints = init.node_registration.taints.as_deref();
            api::patch(client, &path, &objects::control_plane_mark(taints)).await?;
        }
        if self.runs("bootstrap-token") {
            self.write_tokens(client).await?;
        }
        if self.runs("addon") {
            println!("[addon] kube-proxy, pod-network, cluster-dns");
            let objects = addons::objects(cluster, &self.endpoint(), &self.configuration.proxy, &init.skip_phases)?;
            api::apply_all(client, &objects).await?;
        }
        Ok(())
    }

    async fn write_tokens(&self, client: &Client) -> Result<()> {
        let authorities = Authorities::read(&self.configuration.cluster, &self.root)?
            .context("there are no certificate authorities here: run the phase certs first")?;
        let ca = &authorities.get(Authority::Cluster).certificate;
        api::wait_for(client, "/api/v1/namespaces/kube-public", WAIT).await?;
        api::apply_all(client, &objects::bootstrap_rights()).await?;
        let given = &self.configuration.init.bootstrap_tokens;
        let wanted = if given.is_empty() { vec![BootstrapToken::default()] } else { given.clone() };
        let mut tokens = Vec::new();
        for options in &wanted {
            let token = if options.token.is_empty() { Token::generate() } else { options.token.parse()? };
            api::apply_all(client, &[tokens::secret(&token, options, Timestamp::now())?]).await?;
            tokens.push(token);
        }
        api::apply_all(client, &objects::cluster_info(&self.server(), ca, &tokens)?).await?;
        println!("[bootstrap-token] join other nodes with:\n");
        println!("{}\n", join_command(&self.endpoint(), &tokens[0], ca)?);
        Ok(())
    }
}

/// What to type on another node.
pub fn join_command(endpoint: &str, token: &Token, ca: &str) -> Result<String> {
    let pin = crate::pki::public_key_pin(ca)?;
    Ok(format!("kubeadm join {endpoint} --token {token} --discovery-token-ca-cert-hash {pin}"))
}

/// The given name, or the host's, in the form that a Node's name has.
pub fn node_name(given: &str) -> Result<String> {
    if !given.is_empty() {
        return Ok(given.to_lowercase());
    }
    let name = nix::unistd::gethostname().context("the host's name")?;
    Ok(name.to_string_lossy().to_lowercase())
}

/// The configuration as it is stored in the cluster.
pub async fn stored_configuration(client: &Client) -> Result<crate::config::ClusterConfiguration> {
    let path = "/api/v1/namespaces/kube-system/configmaps/kubeadm-config";
    let map = api::send(client, "GET", path, None).await?;
    let Value::String(text) = &map["data"]["ClusterConfiguration"] else { bail!("{path} has no ClusterConfiguration") };
    Ok(crate::config::parse(text)?.cluster)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn init(skip: &str, only: &[&str], root: &Root) -> Result<Init> {
        let text = format!(
            "apiVersion: {}\nkind: InitConfiguration\nlocalAPIEndpoint: {{advertiseAddress: 192.0.2.1}}\n\
             nodeRegistration: {{name: node-1}}\nskipPhases: [{skip}]\n",
            config::API_VERSION
        );
        let only: Vec<String> = only.iter().map(|phase| (*phase).to_owned()).collect();
        Init::new(config::parse(&text)?, root.clone(), &only)
    }

    #[test]
    fn skipped_and_chosen_phases_decide_which_files_are_written() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::new(dir.path());
        let paths = |skip, only: &[&str]| -> Vec<String> {
            let files = init(skip, only, &root).unwrap().plan_files(Timestamp::now()).unwrap();
            files.iter().map(|file| file.path.display().to_string()).collect()
        };
        assert_eq!(paths("", &["etcd"]), ["/etc/kubernetes/manifests/etcd.yaml"]);
        assert_eq!(paths("certs,kubeconfig,kubelet-start,control-plane", &[]), ["/etc/kubernetes/manifests/etcd.yaml"]);
        assert!(paths("", &[]).contains(&"/var/lib/kubelet/config.yaml".to_owned()));
        assert!(init("certss", &[], &root).is_err());
    }
}
