//! The CNI configuration list: what it says, and how it comes into its place.

use crate::plan::Settings;
use ipnet::IpNet;
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};

/// The newest version that containerd 1.6 and the plugins of Debian 12 both speak.
const CNI_VERSION: &str = "1.0.0";

/// The configuration list for a node's ranges: bridge, addresses by host-local, and host ports.
pub fn conflist(settings: &Settings, ranges: &[IpNet]) -> String {
    let mut plugins = vec![bridge(settings, ranges)];
    if settings.port_mappings {
        plugins.push(json!({"type": "portmap", "capabilities": {"portMappings": true}, "snat": true}));
    }
    let list = json!({"cniVersion": CNI_VERSION, "name": "pod-network", "plugins": plugins});
    format!("{list:#}\n")
}

fn bridge(settings: &Settings, ranges: &[IpNet]) -> Value {
    let subnets: Vec<Value> = ranges.iter().map(|r| json!([{"subnet": r.trunc().to_string()}])).collect();
    let mut routes: Vec<Value> = Vec::new();
    for (v4, everywhere) in [(true, "0.0.0.0/0"), (false, "::/0")] {
        if ranges.iter().any(|r| r.addr().is_ipv4() == v4) {
            routes.push(json!({"dst": everywhere}));
        }
    }
    let mut ipam = json!({"type": "host-local", "ranges": subnets, "routes": routes});
    if let Some(dir) = &settings.ipam_data_dir {
        ipam["dataDir"] = json!(dir);
    }
    // Hairpin mode lets a Pod reach itself through a Service. Masquerade is ours, not the plugin's.
    let mut bridge = json!({
        "type": "bridge",
        "bridge": settings.bridge,
        "isGateway": true,
        "hairpinMode": true,
        "ipMasq": false,
        "ipam": ipam,
    });
    if let Some(mtu) = settings.mtu {
        bridge["mtu"] = mtu.into();
    }
    bridge
}

#[derive(Debug, thiserror::Error)]
#[error("cannot write {path}")]
pub struct Error {
    path: PathBuf,
    #[source]
    source: std::io::Error,
}

/// Puts the file into its place at once, so that no reader sees half of it. A file that is right already is left alone.
pub fn write(dir: &Path, name: &str, content: &str) -> Result<(), Error> {
    let path = dir.join(name);
    if std::fs::read_to_string(&path).is_ok_and(|old| old == content) {
        return Ok(());
    }
    let written = (|| {
        std::fs::create_dir_all(dir)?;
        // Container runtimes read only .conf, .conflist and .json.
        let temporary = dir.join(format!(".{name}.new"));
        let mut file = std::fs::File::create(&temporary)?;
        file.write_all(content.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&temporary, &path)
    })();
    written.map_err(|source| Error { path: path.clone(), source })?;
    tracing::info!(path = %path.display(), "the CNI configuration is written");
    Ok(())
}

/// Takes the file away, if it is there.
pub fn remove(dir: &Path, name: &str) -> Result<(), Error> {
    let path = dir.join(name);
    match std::fs::remove_file(&path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(Error { path, source }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(dir: &Path) -> Settings {
        Settings {
            node_name: "n1".into(),
            cluster_cidrs: Vec::new(),
            bridge: "cni0".into(),
            mtu: Some(1450),
            cni_conf_dir: dir.to_owned(),
            cni_conf_name: "10-pod-network.conflist".into(),
            ipam_data_dir: Some("/var/lib/there".into()),
            port_mappings: true,
            masquerade: true,
        }
    }

    #[test]
    fn the_list_names_bridge_addresses_and_host_ports() {
        let ranges = ["10.244.1.0/24".parse().unwrap(), "fd00:244:0:1::/64".parse().unwrap()];
        let list: Value = serde_json::from_str(&conflist(&settings(Path::new("/")), &ranges)).unwrap();
        assert_eq!(
            list,
            json!({"cniVersion": "1.0.0", "name": "pod-network", "plugins": [
                {"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true, "ipMasq": false, "mtu": 1450,
                 "ipam": {"type": "host-local", "dataDir": "/var/lib/there",
                          "ranges": [[{"subnet": "10.244.1.0/24"}], [{"subnet": "fd00:244:0:1::/64"}]],
                          "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}},
                {"type": "portmap", "capabilities": {"portMappings": true}, "snat": true},
            ]})
        );
    }

    #[test]
    fn the_file_comes_and_goes_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let below = dir.path().join("net.d");
        write(&below, "x.conflist", "one").unwrap();
        write(&below, "x.conflist", "two").unwrap();
        assert_eq!(std::fs::read_to_string(below.join("x.conflist")).unwrap(), "two");
        assert_eq!(std::fs::read_dir(&below).unwrap().count(), 1);
        remove(&below, "x.conflist").unwrap();
        remove(&below, "x.conflist").unwrap();
        assert_eq!(std::fs::read_dir(&below).unwrap().count(), 0);
    }
}
