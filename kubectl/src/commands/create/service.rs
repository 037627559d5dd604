//! `create service`: of one of the four types.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{Made, Named, named};
use crate::error::{Result, usage};
use crate::flags::whole;

#[derive(Debug, Args)]
pub struct Options {
    #[command(subcommand)]
    kind: Kind,
}

/// What all types have.
#[derive(Debug, Args)]
struct Common {
    #[command(flatten)]
    named: Named,
    /// PORT or PORT:TARGET
    #[arg(long, value_delimiter = ',')]
    tcp: Vec<String>,
}

#[derive(Debug, Subcommand)]
enum Kind {
    /// Create a ClusterIP service
    #[command(name = "clusterip")]
    ClusterIp {
        #[command(flatten)]
        common: Common,
        /// An address of one's own, or None for a headless service
        #[arg(long, default_value = "")]
        clusterip: String,
    },
    /// Create an ExternalName service
    #[command(name = "externalname")]
    ExternalName {
        #[command(flatten)]
        common: Common,
        /// The name that the service stands for
        #[arg(long, default_value = "")]
        external_name: String,
    },
    /// Create a LoadBalancer service
    #[command(name = "loadbalancer")]
    LoadBalancer {
        #[command(flatten)]
        common: Common,
    },
    /// Create a NodePort service
    #[command(name = "nodeport")]
    NodePort {
        #[command(flatten)]
        common: Common,
        /// The port on each node
        #[arg(long, value_parser = whole, default_value_t = 0)]
        node_port: i64,
    },
}

pub fn make(options: &Options) -> Result<Made<'_>> {
    let (common, of_type, failed) = match &options.kind {
        Kind::ClusterIp { common, .. } => (common, "ClusterIP", "failed to create ClusterIP service: "),
        Kind::ExternalName { common, .. } => (common, "ExternalName", "failed to create ExternalName service: "),
        Kind::LoadBalancer { common } => (common, "LoadBalancer", "failed to create LoadBalancer service: "),
        Kind::NodePort { common, .. } => (common, "NodePort", "failed to create NodePort service: "),
    };
    let name = common.named.name(&format!("service {}", of_type.to_lowercase()))?;
    let mut ports = common.tcp.iter().map(|text| port(text)).collect::<Result<Vec<_>>>()?;
    let mut spec = json!({"type": of_type, "selector": {"app": name}});
    let mut needs_ports = true;
    match &options.kind {
        Kind::ClusterIp { clusterip, .. } if !clusterip.is_empty() => {
            spec["clusterIP"] = clusterip.as_str().into();
            needs_ports = clusterip != "None";
        }
        Kind::ExternalName { external_name, .. } => {
            if external_name.is_empty() {
                return usage("required flag(s) \"external-name\" not set");
            }
            spec["externalName"] = external_name.as_str().into();
            needs_ports = false;
        }
        Kind::NodePort { node_port, .. } if *node_port != 0 => {
            ports.iter_mut().for_each(|port| port["nodePort"] = (*node_port).into());
        }
        _ => {}
    }
    if ports.is_empty() && needs_ports {
        return usage("at least one tcp port specifier must be provided");
    }
    if !ports.is_empty() {
        spec["ports"] = ports.into();
    }
    let mut object = named("v1", "Service", name);
    object["metadata"]["labels"] = json!({"app": name});
    object["spec"] = spec;
    object["status"] = json!({"loadBalancer": {}});
    Ok(Made { object, making: &common.named.making, failed })
}

/// `80`, `80:8080`, `80:http`.
fn port(text: &str) -> Result<Value> {
    let (port, target) = text.split_once(':').unwrap_or((text, text));
    let Ok(number) = port.parse::<u16>() else {
        return usage(format!("strconv.Atoi: parsing \"{port}\": invalid syntax"));
    };
    let target = target.parse::<u16>().map_or_else(|_| json!(target), |number| json!(number));
    Ok(json!({"name": text.replace(':', "-"), "port": number, "targetPort": target, "protocol": "TCP"}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_have_names_and_targets() {
        let (plain, other) = (port("80").unwrap(), port("80:http").unwrap());
        assert_eq!(plain, json!({"name": "80", "port": 80, "targetPort": 80, "protocol": "TCP"}));
        assert_eq!((&other["name"], &other["targetPort"]), (&json!("80-http"), &json!("http")));
        assert!(port("x").is_err());
    }
}
