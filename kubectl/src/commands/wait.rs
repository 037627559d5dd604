//! `wait`: until objects have a condition, a value, or are gone.

use std::time::Duration;

use clap::Args;
use serde_json::Value;

use crate::api::{self, Target};
use crate::error::{Error, Result, usage};
use crate::options::{Selection, duration};
use crate::printers::jsonpath::Template;
use crate::session::Session;
use crate::streams::Streams;

#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    selection: Selection,
    /// All objects of the type in the namespace
    #[arg(long)]
    all: bool,
    /// delete, create, condition=NAME[=VALUE] or jsonpath={PATH}[=VALUE]
    #[arg(long = "for")]
    wanted: String,
    /// How long to wait
    #[arg(long, value_parser = duration, default_value = "30s")]
    timeout: Duration,
}

enum Wanted {
    Deleted,
    Created,
    Condition(String, String),
    Field(Template, Option<String>),
}

pub async fn run(options: Options, session: &mut Session, streams: &mut Streams) -> Result<()> {
    let wanted = parse(&options.wanted)?;
    let targets = super::targets(session, &options.selection, options.all).await?;
    if targets.is_empty() && !matches!(wanted, Wanted::Deleted) {
        return usage("no matching resources found");
    }
    let deadline = tokio::time::Instant::now() + options.timeout;
    let mut failed = None::<Error>;
    for target in targets {
        let left = deadline.saturating_duration_since(tokio::time::Instant::now());
        match one(&wanted, &target, left, session).await {
            Ok(()) => writeln!(streams.out, "{} condition met", target.title())?,
            Err(error) => {
                if let Some(earlier) = failed.replace(error) {
                    writeln!(streams.err, "{earlier}")?;
                }
            }
        }
    }
    failed.map_or(Ok(()), Err)
}

async fn one(wanted: &Wanted, target: &Target, left: Duration, session: &Session) -> Result<()> {
    if !matches!(wanted, Wanted::Deleted | Wanted::Created) {
        // An object that does not exist is an error at once.
        target.read(&session.client).await?;
    }
    let decide = |object: Option<&Value>| Ok(holds(wanted, object));
    if api::wait_until(&session.client, target, Some(left), decide).await? {
        return Ok(());
    }
    usage(format!("timed out waiting for the condition on {}/{}", target.resource.plural_with_group(), target.name))
}

fn parse(text: &str) -> Result<Wanted> {
    match text.split_once('=') {
        None if text.eq_ignore_ascii_case("delete") => Ok(Wanted::Deleted),
        None if text.eq_ignore_ascii_case("create") => Ok(Wanted::Created),
        Some(("condition", condition)) => {
            let (name, value) = condition.split_once('=').unwrap_or((condition, "true"));
            Ok(Wanted::Condition(name.to_lowercase(), value.to_lowercase()))
        }
        Some(("jsonpath", path)) => {
            let end = path.rfind('}').map_or(path.len(), |end| end + 1);
            let template = Template::parse(&path[..end]).map_err(|error| Error::Usage(error.to_string()))?;
            Ok(Wanted::Field(template, path[end..].strip_prefix('=').map(|value| value.trim_matches('"').to_owned())))
        }
        _ => usage(format!("unrecognized condition: \"{text}\"")),
    }
}

fn holds(wanted: &Wanted, object: Option<&Value>) -> bool {
    match (wanted, object) {
        (Wanted::Deleted, object) => object.is_none(),
        (_, None) => false,
        (Wanted::Created, Some(_)) => true,
        (Wanted::Condition(name, value), Some(object)) => {
            let is = |field: &Value, text: &str| field.as_str().is_some_and(|field| field.to_lowercase() == *text);
            let conditions = object["status"]["conditions"].as_array();
            conditions
                .into_iter()
                .flatten()
                .any(|c| is(&c["type"], name) && is(&c["status"], value) && current(c, object))
        }
        (Wanted::Field(template, value), Some(object)) => {
            let found = template.render(object);
            value.as_ref().map_or(!found.is_empty(), |value| *value == found)
        }
    }
}

/// Whether a condition is about the object as it is now.
fn current(condition: &Value, object: &Value) -> bool {
    match (condition["observedGeneration"].as_i64(), object["metadata"]["generation"].as_i64()) {
        (Some(observed), Some(generation)) => observed >= generation,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn conditions_values_and_absence_are_recognized() {
        let object = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
        let says = |text: &str, object: Option<&Value>| holds(&parse(text).unwrap(), object);
        assert!(says("condition=ready", Some(&object)));
        assert!(!says("condition=Ready=false", Some(&object)));
        assert!(says("jsonpath={.status.phase}=Running", Some(&object)));
        assert!(!says("jsonpath={.status.phase}=Failed", Some(&object)));
        assert!(says("delete", None) && !says("delete", Some(&object)));
        assert!(parse("nonsense").is_err());
    }
}
