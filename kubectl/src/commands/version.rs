//! `version`: ours and the server's.

use clap::Args;
use serde_json::{Value, json};

use crate::error::{Result, usage};
use crate::fields::Fields;
use crate::options::Globals;
use crate::printers::tree;
use crate::session::Session;
use crate::streams::Streams;
use crate::warnings::Warnings;

/// How many minor versions client and server may be apart.
const SKEW: i64 = 1;

#[derive(Debug, Args)]
pub struct Options {
    /// Only the client's version
    #[arg(long)]
    client: bool,
    /// yaml or json
    #[arg(long, short, default_value = "", hide_default_value = true)]
    output: String,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

pub async fn run(options: &Options, globals: &Globals, streams: &mut Streams, warnings: Warnings) -> Result<()> {
    if !options.arguments.is_empty() {
        return usage(format!("extra arguments: [{}]", options.arguments.join(" ")));
    }
    if !matches!(options.output.as_str(), "" | "json" | "yaml") {
        return usage("--output must be 'yaml' or 'json'");
    }
    let ours = client();
    let (server, failed) = if options.client {
        (Value::Null, Ok(()))
    } else {
        match Session::open(globals, warnings).await?.version().await {
            Ok(version) => (version, Ok(())),
            Err(error) => (Value::Null, Err(error)),
        }
    };
    let text = match options.output.as_str() {
        "json" => json(&ours, &server),
        "yaml" => {
            let mut versions = json!({"clientVersion": ours});
            if !server.is_null() {
                versions["serverVersion"] = server.clone();
            }
            tree::yaml(&versions) + "\n"
        }
        _ => {
            let theirs = server.text("gitVersion");
            let line = if server.is_null() { String::new() } else { format!("Server Version: {theirs}\n") };
            format!("Client Version: {}\n{line}", ours.text("gitVersion"))
        }
    };
    write!(streams.out, "{text}")?;
    if let Some(warning) = skew(&ours, &server) {
        writeln!(streams.err, "WARNING: {warning}")?;
    }
    failed
}

fn client() -> Value {
    json!({
        "major": component_base::version::MAJOR,
        "minor": component_base::version::MINOR,
        "gitVersion": component_base::version::GIT_VERSION,
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": component_base::version::platform(),
    })
}

/// JSON in the order of the fields' meaning.
fn json(ours: &Value, server: &Value) -> String {
    let mut parts = vec![format!("  \"clientVersion\": {}", one(ours))];
    if !server.is_null() {
        parts.push(format!("  \"serverVersion\": {}", one(server)));
    }
    format!("{{\n{}\n}}\n", parts.join(",\n"))
}

fn one(version: &Value) -> String {
    const ORDER: [&str; 13] = [
        "major",
        "minor",
        "emulationMajor",
        "emulationMinor",
        "minCompatibilityMajor",
        "minCompatibilityMinor",
        "gitVersion",
        "gitCommit",
        "gitTreeState",
        "buildDate",
        "goVersion",
        "compiler",
        "platform",
    ];
    let lines: Vec<String> = ORDER
        .iter()
        .filter(|field| version.has(field))
        .map(|field| format!("    \"{field}\": {}", version[*field]))
        .collect();
    format!("{{\n{}\n  }}", lines.join(",\n"))
}

/// What there is to say of versions that are too far apart.
fn skew(ours: &Value, server: &Value) -> Option<String> {
    let minor = |version: &Value| version.text("minor").trim_end_matches('+').parse::<i64>().ok();
    let (client, other) = (minor(ours)?, minor(server)?);
    let apart = (client - other).abs();
    (apart > SKEW).then(|| {
        let text = |version: &Value| format!("{}.{}", version.text("major"), version.text("minor").trim_end_matches('+'));
        format!(
            "version difference between client ({}) and server ({}) exceeds the supported minor version skew of +/-{SKEW}",
            text(ours),
            text(server)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_far_apart_are_warned_of() {
        let of = |minor: &str| json!({"major": "1", "minor": minor});
        assert_eq!(skew(&of("36"), &of("35")), None);
        assert!(skew(&of("36"), &of("33+")).is_some_and(|text| text.contains("client (1.36) and server (1.33)")));
    }
}
