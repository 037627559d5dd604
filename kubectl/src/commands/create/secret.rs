//! `create secret`: of any content, of a certificate, of a registry's password.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use serde_json::json;

use super::config_map::{Sources, encoded};
use super::{Made, Named, named};
use crate::error::{Error, Result, usage};
use crate::printers::json as text;

#[derive(Debug, Args)]
pub struct Options {
    #[command(subcommand)]
    kind: Kind,
}

#[derive(Debug, Subcommand)]
enum Kind {
    /// Create a secret for use with a Docker registry
    DockerRegistry {
        #[command(flatten)]
        named: Named,
        #[arg(long, default_value = "https://index.docker.io/v1/")]
        docker_server: String,
        #[arg(long, default_value = "")]
        docker_username: String,
        #[arg(long, default_value = "")]
        docker_password: String,
        #[arg(long, default_value = "")]
        docker_email: String,
        #[arg(long)]
        from_file: Vec<String>,
    },
    /// Create a secret from a local file, directory, or literal value
    Generic {
        #[command(flatten)]
        named: Named,
        #[command(flatten)]
        sources: Sources,
        /// The type of secret to create
        #[arg(long = "type", default_value = "")]
        of_type: String,
    },
    /// Create a TLS secret
    Tls {
        #[command(flatten)]
        named: Named,
        /// Path to PEM encoded public key certificate
        #[arg(long, default_value = "")]
        cert: String,
        /// Path to private key associated with given certificate
        #[arg(long, default_value = "")]
        key: String,
    },
}

pub fn make(options: &Options) -> Result<Made<'_>> {
    let (named_by, command, of_type, data) = match &options.kind {
        Kind::Generic { named, sources, of_type } => {
            (named, "secret generic", of_type.as_str(), encoded(sources.read()?))
        }
        Kind::Tls { named, cert, key } => {
            if cert.is_empty() || key.is_empty() {
                return usage("key and cert must be specified");
            }
            let read = |path: &str| {
                let missing =
                    |_| Error::Usage(format!("Cannot read file {path}, open {path}: no such file or directory"));
                let bytes = std::fs::read(path).map_err(missing);
                bytes.map(|bytes| STANDARD.encode(bytes))
            };
            (named, "secret tls", "kubernetes.io/tls", json!({"tls.crt": read(cert)?, "tls.key": read(key)?}))
        }
        Kind::DockerRegistry { named, docker_server, docker_username, docker_password, docker_email, from_file } => {
            let config = match from_file.as_slice() {
                [] if docker_username.is_empty() || docker_password.is_empty() => {
                    return usage(
                        "either --from-file or the combination of --docker-username, --docker-password and --docker-server is required",
                    );
                }
                [] => registry(docker_server, docker_username, docker_password, docker_email).into_bytes(),
                [file, ..] => std::fs::read(file.split_once('=').map_or(file.as_str(), |(_, path)| path))?,
            };
            let data = json!({".dockerconfigjson": STANDARD.encode(config)});
            (named, "secret docker-registry", "kubernetes.io/dockerconfigjson", data)
        }
    };
    let mut object = named("v1", "Secret", named_by.name(command)?);
    if data.as_object().is_some_and(|data| !data.is_empty()) {
        object["data"] = data;
    }
    if !of_type.is_empty() {
        object["type"] = of_type.into();
    }
    Ok(Made { object, making: &named_by.making, failed: "failed to create secret " })
}

/// The configuration that clients of registries read, in the order in which they write it.
fn registry(server: &str, user: &str, password: &str, email: &str) -> String {
    let auth = STANDARD.encode(format!("{user}:{password}"));
    let quoted = |value: &str| text::compact(&value.into());
    let email = if email.is_empty() { String::new() } else { format!("\"email\":{},", quoted(email)) };
    format!(
        "{{\"auths\":{{{}:{{\"username\":{},\"password\":{},{email}\"auth\":\"{auth}\"}}}}}}",
        quoted(server),
        quoted(user),
        quoted(password)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registrys_configuration_has_its_order() {
        let text = "{\"auths\":{\"s\":{\"username\":\"u\",\"password\":\"p\",\"email\":\"e\",\"auth\":\"dTpw\"}}}";
        assert_eq!(registry("s", "u", "p", "e"), text);
    }
}
