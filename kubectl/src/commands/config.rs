//! `config`: the kubeconfig's contexts, clusters and users.

mod edit;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::error::{Error, Result, usage, wrong_call};
use crate::fields::Fields;
use crate::kubeconfig::{self, Files, LISTS};
use crate::options::Globals;
use crate::printers::output::Format;
use crate::printers::{columns, json as text, output, tree};
use crate::streams::Streams;

#[derive(Debug, Args)]
pub struct Options {
    #[command(subcommand)]
    command: Command,
}

/// What is shown, and how.
#[derive(Debug, Args)]
struct View {
    /// With certificates and secrets
    #[arg(long)]
    raw: bool,
    /// Only what the current context uses
    #[arg(long)]
    minify: bool,
    /// With the files' content instead of their names
    #[arg(long)]
    flatten: bool,
    /// yaml, json or jsonpath=TEMPLATE
    #[arg(long, short, default_value = "yaml")]
    output: String,
    /// Template to use with -o
    #[arg(long, default_value = "", hide_default_value = true)]
    template: String,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Display the current-context
    CurrentContext,
    /// Delete the specified cluster from the kubeconfig
    DeleteCluster { names: Vec<String> },
    /// Delete the specified context from the kubeconfig
    DeleteContext { names: Vec<String> },
    /// Delete the specified user from the kubeconfig
    DeleteUser { names: Vec<String> },
    /// Display clusters defined in the kubeconfig
    GetClusters,
    /// Describe one or many contexts
    GetContexts {
        names: Vec<String>,
        /// name
        #[arg(long, short, default_value = "", hide_default_value = true)]
        output: String,
        /// No headings
        #[arg(long)]
        no_headers: bool,
    },
    /// Display users defined in the kubeconfig
    GetUsers,
    /// Rename a context from the kubeconfig file
    RenameContext { names: Vec<String> },
    /// Set an individual value in a kubeconfig file
    Set {
        arguments: Vec<String>,
        /// The value is base64, and kept as bytes
        #[arg(long)]
        set_raw_bytes: bool,
    },
    /// Set a cluster entry in kubeconfig (--server, --certificate-authority, --insecure-skip-tls-verify, --tls-server-name)
    SetCluster {
        names: Vec<String>,
        /// Keep the files' content instead of their names
        #[arg(long)]
        embed_certs: bool,
        /// Proxy for requests to the cluster
        #[arg(long)]
        proxy_url: Option<String>,
    },
    /// Set a context entry in kubeconfig (--cluster, --user, --namespace)
    SetContext {
        names: Vec<String>,
        /// Modify the current context
        #[arg(long)]
        current: bool,
    },
    /// Set a user entry in kubeconfig (--token, --username, --password, --client-certificate, --client-key)
    SetCredentials {
        names: Vec<String>,
        /// Keep the files' content instead of their names
        #[arg(long)]
        embed_certs: bool,
    },
    /// Unset an individual value in a kubeconfig file
    Unset { arguments: Vec<String> },
    /// Set the current-context in a kubeconfig file
    #[command(alias = "use")]
    UseContext { names: Vec<String> },
    /// Display merged kubeconfig settings or a specified kubeconfig file
    View(View),
}

pub fn run(options: &Options, globals: &Globals, streams: &mut Streams) -> Result<()> {
    let files = Files::of(globals);
    match &options.command {
        Command::View(view) => show(view, globals, streams),
        Command::CurrentContext => match read(&files)?.text("current-context") {
            "" => usage("current-context is not set"),
            name => Ok(writeln!(streams.out, "{name}")?),
        },
        Command::GetContexts { names, output, no_headers } => {
            contexts(names, output, *no_headers, &read(&files)?, streams)
        }
        Command::GetClusters => names("clusters", &read(&files)?, streams),
        Command::GetUsers => names("users", &read(&files)?, streams),
        other => edit::run(other, &files, globals, streams),
    }
}

/// All files as one; those that are not there are empty.
fn read(files: &Files) -> Result<Value> {
    Ok(kubeconfig::merge(&Files { explicit: false, ..files.clone() }.read()?))
}

fn names(list: &str, config: &Value, streams: &mut Streams) -> Result<()> {
    writeln!(streams.out, "NAME")?;
    for entry in kubeconfig::tidy(config).list(list) {
        writeln!(streams.out, "{}", entry.text("name"))?;
    }
    Ok(())
}

fn contexts(names: &[String], output: &str, no_headers: bool, config: &Value, streams: &mut Streams) -> Result<()> {
    if !matches!(output, "" | "name") {
        return usage(format!(
            "--output {output} is not available in kubectl config get-contexts; resetting to default output format"
        ));
    }
    let all = kubeconfig::tidy(config);
    let shown: Vec<&Value> = all
        .list("contexts")
        .iter()
        .filter(|entry| names.is_empty() || names.iter().any(|name| name == entry.text("name")))
        .collect();
    let mut text = String::new();
    if output.is_empty() && !no_headers {
        text.push_str("CURRENT\tNAME\tCLUSTER\tAUTHINFO\tNAMESPACE\n");
    }
    for entry in shown {
        let (name, context) = (entry.text("name"), entry.at("context"));
        if output == "name" {
            text.push_str(&format!("{name}\n"));
            continue;
        }
        let mark = if name == config.text("current-context") { "*" } else { "" };
        let (cluster, user, namespace) = (context.text("cluster"), context.text("user"), context.text("namespace"));
        text.push_str(&format!("{mark}\t{name}\t{cluster}\t{user}\t{namespace}\n"));
    }
    write!(streams.out, "{}", columns::align(&text, columns::TABLE))?;
    let missing = |name: &&String| kubeconfig::find(all.list("contexts"), name).is_none();
    let missing = names.iter().filter(missing).map(|name| Error::Usage(format!("context {name} not found")));
    Error::of(missing.collect())
}

fn show(view: &View, globals: &Globals, streams: &mut Streams) -> Result<()> {
    let mut config = read(&Files::of(globals))?;
    if view.minify {
        config = minify(&config, globals)?;
    }
    if view.flatten {
        edit::embed_all(&mut config)?;
    }
    let mut config = kubeconfig::tidy(&config);
    if !view.raw {
        hide(&mut config, view.flatten);
    }
    let text = match view.output.as_str() {
        "yaml" => tree::yaml(&config),
        "json" => in_order(&config),
        other => {
            let format = Format::of_objects(other, &view.template)?;
            match format {
                Some(format) => output::Printer::new(format, true).print(config)?,
                None => String::new(),
            }
        }
    };
    Ok(write!(streams.out, "{text}")?)
}

/// Only the current context, with its cluster and user.
fn minify(config: &Value, globals: &Globals) -> Result<Value> {
    let name = match &globals.context {
        Some(name) => name.as_str(),
        None => config.text("current-context"),
    };
    if name.is_empty() {
        return usage("current-context must exist in order to minify");
    }
    let Some(context) = kubeconfig::find(config.list("contexts"), name) else {
        return usage(format!("cannot locate context {name}"));
    };
    let of = |list: &str, inner: &str| match kubeconfig::find(config.list(list), context.at("context").text(inner)) {
        Some(entry) => json!([entry]),
        None => json!([]),
    };
    let mut small = config.clone();
    small["current-context"] = name.into();
    small["contexts"] = json!([context]);
    small["clusters"] = of("clusters", "cluster");
    small["users"] = of("users", "user");
    Ok(small)
}

/// Replaces secrets; certificates that were asked for are shown.
fn hide(config: &mut Value, flattened: bool) {
    for (list, inner) in LISTS {
        for entry in config.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            for (key, value) in entry.get_mut(inner).and_then(Value::as_object_mut).into_iter().flatten() {
                match key.as_str() {
                    "token" | "password" => *value = "REDACTED".into(),
                    key if key.ends_with("-data") && !flattened => *value = "DATA+OMITTED".into(),
                    _ => {}
                }
            }
        }
    }
}

/// JSON with the fields in the order in which they are declared.
fn in_order(config: &Value) -> String {
    const ORDER: [&str; 7] = ["kind", "apiVersion", "preferences", "clusters", "users", "contexts", "current-context"];
    let mut parts = Vec::new();
    for key in ORDER.iter().filter(|key| config.as_object().is_some_and(|config| config.contains_key(**key))) {
        let value = text::pretty(&config[*key], "    ");
        let value = if LISTS.iter().any(|(list, _)| list == key) { entries(config.list(key)) } else { value };
        parts.push(format!("    \"{key}\": {}", value.trim_end()));
    }
    format!("{{\n{}\n}}\n", parts.join(",\n"))
}

/// Entries with their name first.
fn entries(entries: &[Value]) -> String {
    if entries.is_empty() {
        return "null".to_owned();
    }
    let entry = |entry: &Value| {
        let inner = LISTS.iter().map(|(_, inner)| *inner).find(|inner| entry.has(inner)).unwrap_or_default();
        let content = fields(&entry[inner]).replace('\n', "\n            ");
        format!("        {{\n            \"name\": {},\n            \"{inner}\": {content}\n        }}", entry["name"])
    };
    format!("[\n{}\n    ]", entries.iter().map(entry).collect::<Vec<_>>().join(",\n"))
}

/// An entry's content with its fields in the order in which they are declared.
fn fields(content: &Value) -> String {
    const ORDER: [&str; 23] = [
        "server",
        "tls-server-name",
        "insecure-skip-tls-verify",
        "certificate-authority",
        "certificate-authority-data",
        "proxy-url",
        "disable-compression",
        "client-certificate",
        "client-certificate-data",
        "client-key",
        "client-key-data",
        "token",
        "tokenFile",
        "as",
        "as-uid",
        "as-groups",
        "as-user-extra",
        "username",
        "password",
        "cluster",
        "user",
        "namespace",
        "extensions",
    ];
    let mut keys: Vec<&String> = content.as_object().into_iter().flat_map(|fields| fields.keys()).collect();
    keys.sort_by_key(|key| ORDER.iter().position(|known| known == key).unwrap_or(ORDER.len()));
    if keys.is_empty() {
        return "{}".to_owned();
    }
    let line = |key: &String| {
        let value = text::pretty(&content[key], "    ").trim_end().replace('\n', "\n    ");
        format!("    {}: {value}", Value::from(key.as_str()))
    };
    format!("{{\n{}\n}}", keys.into_iter().map(line).collect::<Vec<_>>().join(",\n"))
}

/// The only one of the names that were given.
fn only<'a>(names: &'a [String], command: &str, what: &str) -> Result<&'a str> {
    match names {
        [name] => Ok(name),
        _ => wrong_call(&format!("kubectl config {command}"), what),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let mut config = json!({"users": [{"user": {"token": "t", "client-key-data": "k", "client-key": "/a"}}]});
        hide(&mut config, false);
        let user = json!({"token": "REDACTED", "client-key-data": "DATA+OMITTED", "client-key": "/a"});
        assert_eq!(config["users"][0]["user"], user);
    }

    #[test]
    fn json_has_the_order_of_the_declaration() {
        let config = json!({"apiVersion": "v1", "kind": "Config", "current-context": "x", "clusters": [{"name": "c", "cluster": {"server": "s"}}], "users": null});
        let text = "{\n    \"kind\": \"Config\",\n    \"apiVersion\": \"v1\",\n    \"clusters\": [\n        {\n            \"name\": \"c\",\n            \"cluster\": {\n                \"server\": \"s\"\n            }\n        }\n    ],\n    \"users\": null,\n    \"current-context\": \"x\"\n}\n";
        assert_eq!(in_order(&config), text);
    }
}
