//! `create ingress`.

use clap::Args;
use serde_json::{Value, json};

use super::{Made, Named, named};
use crate::error::{Result, usage};
use crate::fields::Fields;

#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    named: Named,
    /// HOST/PATH=SERVICE:PORT[,tls[=SECRET]]
    #[arg(long)]
    rule: Vec<String>,
    /// SERVICE:PORT for requests that no rule is about
    #[arg(long, default_value = "")]
    default_backend: String,
    /// The class of the ingress
    #[arg(long, default_value = "")]
    class: String,
    /// KEY=VALUE
    #[arg(long)]
    annotation: Vec<String>,
}

pub fn make(options: &Options) -> Result<Made<'_>> {
    let mut object = named("networking.k8s.io/v1", "Ingress", options.named.name("ingress")?);
    if options.rule.is_empty() && options.default_backend.is_empty() {
        return usage(
            "not enough information provided: every ingress has to either specify a default-backend (which catches all traffic) or a list of rules (which catch specific paths)",
        );
    }
    for pair in &options.annotation {
        let Some((key, value)) = pair.split_once('=') else {
            return usage(format!("annotation {pair} is invalid and should be in format key=[value]"));
        };
        object["metadata"]["annotations"][key] = value.into();
    }
    object["spec"] = json!({});
    if !options.class.is_empty() {
        object["spec"]["ingressClassName"] = options.class.as_str().into();
    }
    if !options.default_backend.is_empty() {
        object["spec"]["defaultBackend"] = backend(&options.default_backend)?;
    }
    let (mut rules, mut certificates): (Vec<Value>, Vec<Value>) = (Vec::new(), Vec::new());
    for text in &options.rule {
        add_rule(text, &mut rules, &mut certificates)?;
    }
    for (field, list) in [("rules", rules), ("tls", certificates)] {
        if !list.is_empty() {
            object["spec"][field] = list.into();
        }
    }
    object["status"] = json!({"loadBalancer": {}});
    Ok(Made { object, making: &options.named.making, failed: "failed to create ingress: " })
}

fn add_rule(text: &str, rules: &mut Vec<Value>, certificates: &mut Vec<Value>) -> Result<()> {
    let wrong = || format!("rule {text} is invalid and should be in format host/path=svcname:svcport[,tls[=secret]]");
    let (rule, tls) = text.split_once(',').map_or((text, None), |(rule, tls)| (rule, Some(tls)));
    let Some((place, to)) = rule.split_once('=') else { return usage(wrong()) };
    let Some((host, path)) = place.split_once('/') else { return usage(wrong()) };
    let (path, kind) = match path.strip_suffix('*') {
        Some(prefix) => (format!("/{prefix}"), "Prefix"),
        None => (format!("/{path}"), "Exact"),
    };
    let path = json!({"path": path, "pathType": kind, "backend": backend(to)?});
    let same = rules.iter_mut().find(|rule| rule.text("host") == host);
    match same.and_then(|rule| rule["http"]["paths"].as_array_mut()) {
        Some(paths) => paths.push(path),
        None if host.is_empty() => rules.push(json!({"http": {"paths": [path]}})),
        None => rules.push(json!({"host": host, "http": {"paths": [path]}})),
    }
    if let Some(tls) = tls {
        let secret = match tls.split_once('=') {
            None if tls == "tls" => "",
            Some(("tls", secret)) => secret,
            _ => return usage(wrong()),
        };
        let mut certificate = json!({"hosts": [host]});
        if host.is_empty() {
            certificate = json!({});
        }
        if !secret.is_empty() {
            certificate["secretName"] = secret.into();
        }
        certificates.push(certificate);
    }
    Ok(())
}

fn backend(text: &str) -> Result<Value> {
    let Some((service, port)) = text.split_once(':').filter(|(service, port)| !service.is_empty() && !port.is_empty())
    else {
        return usage(format!("{text} is invalid and should be in format svcname:svcport"));
    };
    let port = port.parse::<u16>().map_or_else(|_| json!({"name": port}), |number| json!({"number": number}));
    Ok(json!({"service": {"name": service, "port": port}}))
}
