//! `config`: the kubeconfig's contexts.

use apimachinery::codec::yaml;
use clap::{Args, Subcommand};
use serde_json::Value;

use crate::error::{Error, Result, usage};
use crate::options::Globals;
use crate::printers::{columns, tree};
use crate::session;
use crate::streams::Streams;

#[derive(Debug, Args)]
pub struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Display the kubeconfig without its secrets
    View {
        /// With certificates and secrets
        #[arg(long)]
        raw: bool,
    },
    /// Display the current context
    CurrentContext,
    /// Set the current context
    #[command(alias = "use")]
    UseContext { name: String },
    /// Describe the contexts
    GetContexts,
}

pub fn run(options: &Options, globals: &Globals, streams: &mut Streams) -> Result<()> {
    match &options.command {
        Command::View { raw } => view(&read(globals)?, *raw, streams),
        Command::CurrentContext => match read(globals)?["current-context"].as_str() {
            Some(name) if !name.is_empty() => Ok(writeln!(streams.out, "{name}")?),
            _ => usage("current-context is not set"),
        },
        Command::UseContext { name } => use_context(name, globals, streams),
        Command::GetContexts => Ok(write!(streams.out, "{}", contexts(&read(globals)?))?),
    }
}

fn read(globals: &Globals) -> Result<Value> {
    let Some(config) = session::load(globals)? else {
        return usage("no kubeconfig was found");
    };
    serde_json::to_value(config).map_err(|error| Error::Usage(error.to_string()))
}

fn view(config: &Value, raw: bool, streams: &mut Streams) -> Result<()> {
    let mut config = tree::sorted(config);
    config["apiVersion"] = "v1".into();
    config["kind"] = "Config".into();
    if !raw {
        hide(&mut config);
    }
    Ok(write!(streams.out, "{}", tree::yaml(&tree::sorted(&config)))?)
}

fn hide(config: &mut Value) {
    for (list, entry) in [("clusters", "cluster"), ("users", "user")] {
        for item in config[list].as_array_mut().into_iter().flatten() {
            let Some(fields) = item[entry].as_object_mut() else { continue };
            for (key, value) in fields {
                match key.as_str() {
                    "token" | "password" => *value = "REDACTED".into(),
                    key if key.ends_with("-data") => *value = "DATA+OMITTED".into(),
                    _ => {}
                }
            }
        }
    }
}

fn contexts(config: &Value) -> String {
    let mut text = String::from("CURRENT\tNAME\tCLUSTER\tAUTHINFO\tNAMESPACE\n");
    for context in config["contexts"].as_array().into_iter().flatten() {
        let mark = if context["name"] == config["current-context"] { "*" } else { "" };
        let of = |key: &str| context["context"][key].as_str().unwrap_or_default();
        let name = context["name"].as_str().unwrap_or_default();
        text.push_str(&format!("{mark}\t{name}\t{}\t{}\t{}\n", of("cluster"), of("user"), of("namespace")));
    }
    columns::align(&text, columns::TABLE)
}

fn use_context(name: &str, globals: &Globals, streams: &mut Streams) -> Result<()> {
    let known = read(globals)?["contexts"].as_array().is_some_and(|list| list.iter().any(|c| c["name"] == name));
    if !known {
        return usage(format!("no context exists with the name: \"{name}\""));
    }
    let Some(path) = session::writable_path(globals) else {
        return usage("no kubeconfig was found");
    };
    let mut file = yaml::decode(&std::fs::read(&path)?).map_err(|error| Error::Usage(error.to_string()))?;
    file["current-context"] = name.into();
    std::fs::write(&path, tree::yaml(&tree::sorted(&file)))?;
    Ok(writeln!(streams.out, "Switched to context \"{name}\".")?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_current_context_has_a_star() {
        let config =
            json!({"current-context": "x", "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}]});
        let text = "CURRENT   NAME   CLUSTER   AUTHINFO   NAMESPACE\n*         x      c         u          \n";
        assert_eq!(contexts(&config), text);
    }

    #[test]
    fn secrets_are_not_shown() {
        let mut config = json!({"users": [{"user": {"token": "t", "client-key-data": "k", "client-key": "/a"}}]});
        hide(&mut config);
        let user = json!({"token": "REDACTED", "client-key-data": "DATA+OMITTED", "client-key": "/a"});
        assert_eq!(config["users"][0]["user"], user);
    }
}
