//! `kubeadm init`'s phases with the API, tokens and `kubeadm join`, against a real apiserver.

use std::{
    path::Path,
    process::{Command, Output},
};

use anyhow::{Result, ensure};
use e2e::{ControlPlane, http_client::send};

const MAPS: &str = "/api/v1/namespaces/kube-system/configmaps";

fn kubeadm(root: &Path, words: &[&str]) -> Result<Output> {
    Ok(Command::new(env!("CARGO_BIN_EXE_kubeadm")).arg("--rootfs").arg(root).args(words).output()?)
}

fn succeed(root: &Path, words: &[&str]) -> Result<String> {
    let output = kubeadm(root, words)?;
    ensure!(output.status.success(), "kubeadm {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// Runs init's phases that write objects, with the certificates that the control plane has.
fn init(plane: &ControlPlane) -> Result<()> {
    let config = plane.dir().join("kubeadm.yaml");
    std::fs::write(
        &config,
        format!(
            "apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\ncertificatesDir: /pki\n---\n\
             apiVersion: kubeadm.k8s.io/v1beta4\nkind: InitConfiguration\n\
             localAPIEndpoint: {{advertiseAddress: 127.0.0.1, bindPort: {}}}\nnodeRegistration: {{name: node-1}}\n",
            plane.apiserver_port()
        ),
    )?;
    let config = config.display().to_string();
    let phases = ["wait-control-plane", "upload-config", "bootstrap-token", "addon"];
    // Twice: each phase can be run again.
    for _ in 0..2 {
        succeed(plane.dir(), &[&["init", "--config", &config, "phase"], &phases[..]].concat())?;
    }
    Ok(())
}

#[tokio::test]
async fn a_node_joins_with_a_token_of_the_cluster_and_its_pin_and_not_without() -> Result<()> {
    let plane = ControlPlane::start().await?;
    init(&plane)?;
    let kubeconfig = plane.kubeconfig().display().to_string();
    let command = succeed(plane.dir(), &["token", "create", "--print-join-command", "--kubeconfig", &kubeconfig])?;
    let words: Vec<&str> = command.split_whitespace().skip(1).collect();
    let token = words[words.iter().position(|word| *word == "--token").expect("a token") + 1];

    let node = tempfile::tempdir()?;
    let join: Vec<&str> = [&words[..], &["--node-name", "node-2", "--cri-socket", "unix:///x.sock"]].concat();
    succeed(node.path(), &join)?;
    let read = |path: &str| std::fs::read_to_string(node.path().join(path));
    assert_eq!(read("pki/ca.crt")?, std::fs::read_to_string(plane.pki_dir().join("ca.crt"))?);
    assert!(read("etc/kubernetes/bootstrap-kubelet.conf")?.contains(token));
    assert!(read("var/lib/kubelet/config.yaml")?.contains("unix:///x.sock"));
    assert!(read("var/lib/kubelet/kubeadm-flags.env")?.contains("--hostname-override=node-2"));

    let wrong: Vec<String> = join.iter().map(|word| word.replace("sha256:", "sha256:00")).collect();
    let wrong: Vec<&str> = wrong.iter().map(String::as_str).collect();
    let refused = kubeadm(tempfile::tempdir()?.path(), &wrong)?;
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("pin"), "{refused:?}");

    assert!(succeed(plane.dir(), &["token", "list", "--kubeconfig", &kubeconfig])?.contains(token));
    succeed(plane.dir(), &["token", "delete", token, "--kubeconfig", &kubeconfig])?;
    let late = kubeadm(tempfile::tempdir()?.path(), &join)?;
    assert!(!late.status.success(), "a deleted token still joins");
    Ok(())
}

#[tokio::test]
async fn a_bootstrap_token_reads_the_configuration_and_nothing_else() -> Result<()> {
    let plane = ControlPlane::start().await?;
    init(&plane)?;
    let client = plane.client_for("someone", &["system:bootstrappers:kubeadm:default-node-token"]).await?;
    for name in ["kubeadm-config", "kubelet-config"] {
        assert_eq!(send(&client, "GET", &format!("{MAPS}/{name}"), &[], "").await?.code, 200, "{name}");
    }
    for path in [MAPS.to_owned(), format!("{MAPS}/kube-proxy"), "/api/v1/namespaces/kube-system/secrets".to_owned()] {
        assert_eq!(send(&client, "GET", &path, &[], "").await?.code, 403, "{path}");
    }
    let admin = plane.client().await?;
    for path in ["daemonsets/kube-proxy", "daemonsets/pod-network", "deployments/cluster-dns"] {
        let path = format!("/apis/apps/v1/namespaces/kube-system/{path}");
        assert_eq!(send(&admin, "GET", &path, &[], "").await?.code, 200, "{path}");
    }
    Ok(())
}
