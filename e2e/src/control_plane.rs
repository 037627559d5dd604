//! A control plane of processes for one test: etcd and our kube-apiserver, and on request our kube-controller-manager and
//! kube-scheduler, on free ports of the loopback, with the certificates, kubeconfigs and flags that kubeadm would give
//! them: TLS on every connection, Node and RBAC authorization on.

use std::{
    net::{IpAddr, Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use jiff::Timestamp;
use kube::{Client, Config, config::KubeConfigOptions, config::Kubeconfig};
use kubeadm::{
    certs::{self, Authorities, Authority},
    config::{Arg, ClusterConfiguration},
    constants,
    files::Root,
    kubeconfigs,
    pki::{self, KeyedCertificate},
    static_pods,
};

use crate::process::Process;

const NODE: &str = "control-plane";
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// What the apiserver says its address is. The API allows no loopback address in Endpoints; nothing connects to this one.
const ADVERTISED: &str = "192.0.2.1";
const START_PATIENCE: Duration = Duration::from_secs(30);
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// What a test wants to run.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub scheduler: bool,
    pub controller_manager: bool,
    /// Flags of kube-apiserver that replace or add to kubeadm's: name without dashes, and value.
    pub apiserver_flags: Vec<(String, String)>,
    pub controller_manager_flags: Vec<(String, String)>,
    pub scheduler_flags: Vec<(String, String)>,
}

/// A running control plane. It ends when it is dropped.
pub struct ControlPlane {
    // The order is that of dropping: clients before servers.
    scheduler: Option<Process>,
    controller_manager: Option<Process>,
    apiserver: Option<Process>,
    etcd: Option<Process>,
    cluster: ClusterConfiguration,
    authorities: Authorities,
    root: Root,
    ports: Ports,
    dir: tempfile::TempDir,
}

#[derive(Clone, Copy, Debug)]
struct Ports {
    etcd: u16,
    etcd_peer: u16,
    apiserver: u16,
    controller_manager: u16,
    scheduler: u16,
}

impl ControlPlane {
    /// etcd and kube-apiserver, ready to answer.
    pub async fn start() -> Result<Self> {
        Self::start_with(Options::default()).await
    }

    pub async fn start_with(options: Options) -> Result<Self> {
        // Another part of the process may have installed it already.
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let mut plane = Self::prepare(&options)?;
        plane.start_etcd().await?;
        plane.start_apiserver().await?;
        if options.controller_manager {
            plane.start_controller_manager()?;
        }
        if options.scheduler {
            plane.start_scheduler()?;
        }
        Ok(plane)
    }

    fn prepare(options: &Options) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("corten-test-").tempdir()?;
        let root = Root::new("/");
        let ports = Ports::free()?;
        let path = |name: &str| dir.path().join(name).display().to_string();
        let mut cluster = ClusterConfiguration { certificates_dir: path("pki"), ..ClusterConfiguration::default() };
        cluster.etcd.local.data_dir = path("etcd");
        cluster.networking.service_subnet = "10.96.0.0/16".into();
        cluster.api_server.cert_sans = vec!["localhost".into()];
        cluster.api_server.extra_args = args(&[("bind-address", "127.0.0.1")], &options.apiserver_flags);
        let port = ports.controller_manager.to_string();
        cluster.controller_manager.extra_args = args(&[("secure-port", &port)], &options.controller_manager_flags);
        let port = ports.scheduler.to_string();
        cluster.scheduler.extra_args = args(&[("secure-port", &port)], &options.scheduler_flags);
        let node = certs::Node { name: NODE, address: LOOPBACK };
        let (authorities, files) = certs::plan(&cluster, &node, &root, Timestamp::now())?;
        root.write_all(&files)?;
        let conf_root = Root::new(dir.path());
        let server = format!("https://127.0.0.1:{}", ports.apiserver);
        let kubeconfigs = kubeconfigs::plan(&cluster, NODE, &server, &authorities, &conf_root, Timestamp::now())?;
        conf_root.write_all(&kubeconfigs)?;
        Ok(ControlPlane {
            scheduler: None,
            controller_manager: None,
            apiserver: None,
            etcd: None,
            cluster,
            authorities,
            root: conf_root,
            ports,
            dir,
        })
    }

    /// The folder of this control plane: certificates, kubeconfigs, logs, data.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The address of the apiserver, as in a kubeconfig.
    pub fn server(&self) -> String {
        format!("https://127.0.0.1:{}", self.ports.apiserver)
    }

    /// The kubeconfig of an administrator (group `system:masters`, so that it works before RBAC's objects exist).
    pub fn kubeconfig(&self) -> PathBuf {
        self.root.path(constants::SUPER_ADMIN_CONF)
    }

    /// A kubeconfig for any other user, with a client certificate.
    pub fn kubeconfig_for(&self, user: &str, groups: &[&str]) -> Result<PathBuf> {
        let groups: Vec<String> = groups.iter().map(|group| (*group).to_owned()).collect();
        let text =
            kubeconfigs::for_user(&self.cluster, &self.server(), &self.authorities, user, &groups, Timestamp::now())?;
        let path = self.dir().join(format!("{}.conf", user.replace([':', '/'], "-")));
        std::fs::write(&path, text)?;
        Ok(path)
    }

    /// A client certificate for any user, with its key, as PEM.
    pub fn certificate_for(&self, user: &str, groups: &[&str]) -> Result<KeyedCertificate> {
        let request = pki::Request {
            common_name: user.to_owned(),
            organizations: groups.iter().map(|group| (*group).to_owned()).collect(),
            client: true,
            ..pki::Request::default()
        };
        let ca = self.authorities.get(Authority::Cluster);
        Ok(pki::issue(ca, &request, self.cluster.encryption_algorithm, Timestamp::now())?)
    }

    /// Where the apiserver listens.
    pub fn apiserver_port(&self) -> u16 {
        self.ports.apiserver
    }

    /// An administrator's client.
    pub async fn client(&self) -> Result<Client> {
        client_from(&self.kubeconfig()).await
    }

    /// A client of any other user.
    pub async fn client_for(&self, user: &str, groups: &[&str]) -> Result<Client> {
        client_from(&self.kubeconfig_for(user, groups)?).await
    }

    /// The folder with `ca.crt`, `apiserver.crt`, `front-proxy-client.crt` and so on.
    pub fn pki_dir(&self) -> &Path {
        Path::new(&self.cluster.certificates_dir)
    }

    /// Where etcd listens, for an `etcdctl` with the files of `pki_dir`.
    pub fn etcd_endpoint(&self) -> String {
        format!("https://127.0.0.1:{}", self.ports.etcd)
    }

    /// Runs etcdctl against this control plane's etcd and returns what it prints.
    pub fn etcdctl(&self, words: &[&str]) -> Result<String> {
        let pki = self.pki_dir();
        let output = Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .arg(format!("--endpoints={}", self.etcd_endpoint()))
            .arg(format!("--cacert={}", pki.join("etcd/ca.crt").display()))
            .arg(format!("--cert={}", pki.join("apiserver-etcd-client.crt").display()))
            .arg(format!("--key={}", pki.join("apiserver-etcd-client.key").display()))
            .args(words)
            .output()
            .context("etcdctl is missing: apt-get install etcd-client")?;
        if !output.status.success() {
            bail!("etcdctl {words:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    pub fn apiserver(&mut self) -> Result<&mut Process> {
        self.apiserver.as_mut().ok_or_else(|| anyhow!("kube-apiserver is not running"))
    }

    pub fn etcd(&mut self) -> Result<&mut Process> {
        self.etcd.as_mut().ok_or_else(|| anyhow!("etcd is not running"))
    }

    pub fn controller_manager(&mut self) -> Result<&mut Process> {
        self.controller_manager.as_mut().ok_or_else(|| anyhow!("kube-controller-manager is not running"))
    }

    pub fn scheduler(&mut self) -> Result<&mut Process> {
        self.scheduler.as_mut().ok_or_else(|| anyhow!("kube-scheduler is not running"))
    }

    /// SIGKILL to etcd, and a new one on the same data.
    pub async fn restart_etcd(&mut self) -> Result<()> {
        self.etcd()?.kill()?;
        self.start_etcd().await
    }

    /// SIGKILL to kube-apiserver, and a new one that is ready to answer.
    pub async fn restart_apiserver(&mut self) -> Result<()> {
        self.apiserver()?.kill()?;
        self.start_apiserver().await
    }

    async fn start_etcd(&mut self) -> Result<()> {
        let node = static_pods::Node { name: NODE, address: LOOPBACK, port: self.ports.apiserver };
        let mut cluster = self.cluster.clone();
        let (client, peer) = (self.etcd_endpoint(), format!("https://127.0.0.1:{}", self.ports.etcd_peer));
        cluster.etcd.local.extra_args = args(
            &[
                ("advertise-client-urls", &client),
                ("initial-advertise-peer-urls", &peer),
                ("initial-cluster", &format!("{NODE}={peer}")),
                ("listen-client-urls", &client),
                ("listen-metrics-urls", ""),
                ("listen-peer-urls", &peer),
            ],
            // The data are gone after the test: nothing is gained by waiting for the disk.
            &[("unsafe-no-fsync".into(), "true".into())],
        );
        let flags = static_pods::etcd_flags(&cluster, &node);
        let unsupported =
            |name: &str| name == "listen-metrics-urls" || (name == "unsafe-no-fsync" && !etcd_knows_no_fsync());
        let flags = flags.into_iter().filter(|(name, _)| !unsupported(name)).collect();
        let mut etcd = Process::start(
            "etcd",
            Command::new(program_on_path("etcd", "etcd-server")?).args(static_pods::words(&flags)),
            &self.dir().join("etcd.log"),
        )?;
        wait_for_port(&mut etcd, self.ports.etcd).await?;
        self.etcd = Some(etcd);
        Ok(())
    }

    async fn start_apiserver(&mut self) -> Result<()> {
        let node = static_pods::Node { name: NODE, address: ADVERTISED.parse()?, port: self.ports.apiserver };
        let flags = static_pods::apiserver_flags(&self.cluster, &node, &self.etcd_endpoint());
        let mut apiserver = Process::start(
            "kube-apiserver",
            Command::new(binary("kube-apiserver")?).args(static_pods::words(&flags)),
            &self.dir().join("kube-apiserver.log"),
        )?;
        self.wait_ready(&mut apiserver).await?;
        self.apiserver = Some(apiserver);
        Ok(())
    }

    pub fn start_controller_manager(&mut self) -> Result<()> {
        let kubeconfig = self.root.path(constants::CONTROLLER_MANAGER_CONF).display().to_string();
        let flags = static_pods::controller_manager_flags(&self.cluster, &kubeconfig);
        self.controller_manager = Some(Process::start(
            "kube-controller-manager",
            Command::new(binary("kube-controller-manager")?).args(static_pods::words(&flags)),
            &self.dir().join("kube-controller-manager.log"),
        )?);
        Ok(())
    }

    pub fn start_scheduler(&mut self) -> Result<()> {
        let kubeconfig = self.root.path(constants::SCHEDULER_CONF).display().to_string();
        let flags = static_pods::scheduler_flags(&self.cluster, &kubeconfig);
        self.scheduler = Some(Process::start(
            "kube-scheduler",
            Command::new(binary("kube-scheduler")?).args(static_pods::words(&flags)),
            &self.dir().join("kube-scheduler.log"),
        )?);
        Ok(())
    }

    async fn wait_ready(&self, apiserver: &mut Process) -> Result<()> {
        let client = self.client().await?;
        let end = Instant::now() + START_PATIENCE;
        loop {
            apiserver.check()?;
            let request = http::Request::get("/readyz").body(Vec::new())?;
            let error = match client.request_text(request).await {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            if Instant::now() > end {
                bail!("kube-apiserver is not ready: {error}\n{}", apiserver.tail());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for ControlPlane {
    /// The apiserver first, and politely, so that its log has no errors about a lost etcd.
    fn drop(&mut self) {
        for process in [&mut self.scheduler, &mut self.controller_manager, &mut self.apiserver, &mut self.etcd] {
            if let Some(process) = process
                && let Err(error) = process.stop(STOP_PATIENCE)
            {
                eprintln!("{error}");
            }
        }
        if std::thread::panicking() {
            for process in [&self.scheduler, &self.controller_manager, &self.apiserver].into_iter().flatten() {
                eprintln!("{}", process.tail());
            }
        }
    }
}

/// A client from a kubeconfig file.
pub async fn client_from(kubeconfig: &Path) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

/// A binary of ours, from the folder of the running test's profile.
pub fn binary(name: &str) -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    // target/<profile>/deps/<test>, or target/<profile>/<binary>
    let dir = program.parent().context("the test runs outside a target folder")?;
    let profile = if dir.ends_with("deps") { dir.parent().unwrap_or(dir) } else { dir };
    let path = profile.join(name);
    if !path.is_file() {
        let flag = if profile.ends_with("release") { " --release" } else { "" };
        bail!("{} is missing: cargo build{flag} --bins", path.display());
    }
    Ok(path)
}

fn program_on_path(name: &str, package: &str) -> Result<PathBuf> {
    std::env::var_os("PATH")
        .iter()
        .flat_map(std::env::split_paths)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")])
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
        .with_context(|| format!("{name} is missing: apt-get install {package}"))
}

/// etcd has the flag from 3.5 on (and 3.4 from 3.4.10 on as `--unsafe-no-fsync`).
fn etcd_knows_no_fsync() -> bool {
    Command::new("etcd").arg("--help").output().is_ok_and(|output| {
        [output.stdout, output.stderr].iter().any(|text| String::from_utf8_lossy(text).contains("unsafe-no-fsync"))
    })
}

fn args(ours: &[(&str, &str)], more: &[(String, String)]) -> Vec<Arg> {
    ours.iter()
        .map(|(name, value)| Arg { name: (*name).into(), value: (*value).into() })
        .chain(more.iter().map(|(name, value)| Arg { name: name.clone(), value: value.clone() }))
        .collect()
}

pub async fn wait_for_port(process: &mut Process, port: u16) -> Result<()> {
    let end = Instant::now() + START_PATIENCE;
    while tokio::net::TcpStream::connect((LOOPBACK, port)).await.is_err() {
        process.check()?;
        if Instant::now() > end {
            bail!("port {port} is not open\n{}", process.tail());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

impl Ports {
    /// Ports that are free now. Held together, so that they differ. They lie below the range of outgoing connections,
    /// so that no client takes one before its server does. Tests that start together have process ids next to each other.
    fn free() -> Result<Self> {
        // Control planes of one process start far from each other.
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let mut held = Vec::new();
        let earlier = STARTED.fetch_add(1, Ordering::Relaxed);
        let start = 10_000 + std::process::id().wrapping_mul(8).wrapping_add(earlier.wrapping_mul(2_504)) % 20_000;
        for candidate in (start..32_000).chain(10_000..start) {
            let port = u16::try_from(candidate)?;
            if let Ok(listener) = TcpListener::bind((LOOPBACK, port)) {
                held.push((port, listener));
            }
            if held.len() == 5 {
                break;
            }
        }
        let [etcd, etcd_peer, apiserver, controller_manager, scheduler] =
            held.iter().map(|(port, _)| *port).collect::<Vec<_>>()[..]
        else {
            bail!("no free ports on the loopback");
        };
        Ok(Ports { etcd, etcd_peer, apiserver, controller_manager, scheduler })
    }
}
