//! `create deployment`.

use clap::Args;
use serde_json::{Value, json};

use super::{Made, Named, named};
use crate::error::{Result, usage};
use crate::flags::whole;

#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    named: Named,
    /// Image names to run
    #[arg(long)]
    image: Vec<String>,
    /// Number of replicas to create
    #[arg(long, short, value_parser = whole, default_value_t = 1)]
    replicas: i64,
    /// The port that this container exposes
    #[arg(long, value_parser = whole, default_value_t = -1)]
    port: i64,
    /// The command and its arguments, after --
    #[arg(last = true)]
    command: Vec<String>,
}

pub fn make(options: &Options) -> Result<Made<'_>> {
    if options.image.is_empty() {
        return usage("required flag(s) \"image\" not set");
    }
    let name = options.named.name("deployment")?;
    if options.image.len() > 1 && !options.command.is_empty() {
        return usage("cannot specify multiple --image options and command");
    }
    let mut object = named("apps/v1", "Deployment", name);
    object["metadata"]["labels"] = json!({"app": name});
    let containers: Vec<Value> = options.image.iter().map(|image| container(options, image)).collect();
    object["spec"] = json!({
        "replicas": options.replicas,
        "selector": {"matchLabels": {"app": name}},
        "strategy": {},
        "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": containers}},
    });
    object["status"] = json!({});
    Ok(Made { object, making: &options.named.making, failed: "failed to create deployment: " })
}

fn container(options: &Options, image: &str) -> Value {
    let mut container = json!({"name": short_name(image), "image": image, "resources": {}});
    if !options.command.is_empty() {
        container["command"] = json!(options.command);
    }
    if options.port >= 0 {
        container["ports"] = json!([{"containerPort": options.port}]);
    }
    container
}

/// `registry.example/a/nginx:1` is `nginx`.
pub fn short_name(image: &str) -> String {
    let name = image.rsplit('/').next().unwrap_or_default();
    let name = name.split([':', '@']).next().unwrap_or_default();
    name.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_called_as_their_images() {
        assert_eq!(short_name("registry.example:5000/a/nginx_x:1"), "nginx-x");
        assert_eq!(short_name("busybox@sha256:0"), "busybox");
    }
}
