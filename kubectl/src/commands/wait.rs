//! `wait`: until objects have a condition, a value, exist, or are gone.

use std::time::Duration;

use clap::Args;
use jiff::SignedDuration;
use serde_json::Value;

use crate::error::{Error, Result, usage};
use crate::fields::Fields;
use crate::flags::{duration, limit};
use crate::options::Selection;
use crate::printers::jsonpath::{Template, text_of};
use crate::printers::output::{Format, Printer};
use crate::resources::{self, Query, Target, Unnamed};
use crate::session::Session;
use crate::streams::Streams;
use crate::wait;

#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    selection: Selection,
    /// All objects of the type in the namespace
    #[arg(long)]
    all: bool,
    /// delete, create, condition=NAME[=VALUE] or jsonpath={PATH}[=VALUE]
    #[arg(long = "for", default_value = "", hide_default_value = true)]
    wanted: String,
    /// How long to wait; 0 looks once, less than 0 is a week
    #[arg(long, value_parser = duration, default_value = "30s")]
    timeout: SignedDuration,
    /// yaml, json, name or a jsonpath: the objects as they are then
    #[arg(long, short, default_value = "", hide_default_value = true)]
    output: String,
    /// Template to use with -o
    #[arg(long, default_value = "", hide_default_value = true)]
    template: String,
}

#[derive(Debug)]
enum Wanted {
    Deleted,
    Created,
    Condition(String, String),
    Field(Template, Option<String>),
}

pub async fn run(options: Options, session: &mut Session, streams: &mut Streams) -> Result<()> {
    let wanted = parse(&options.wanted)?;
    let mut printer = Format::of_objects(&options.output, &options.template)?.map(|format| Printer::new(format, false));
    let deadline = tokio::time::Instant::now() + limit(options.timeout).unwrap_or_default();
    let (targets, mut failed) = targets(&options, &wanted, session, streams).await?;
    if targets.is_empty() && failed.is_empty() && !matches!(wanted, Wanted::Deleted) {
        return usage("no matching resources found");
    }
    for target in targets {
        let left = deadline.saturating_duration_since(tokio::time::Instant::now());
        match one(&wanted, &target, left, session).await {
            Ok(last) => match &mut printer {
                Some(printer) => write!(streams.out, "{}", printer.print(last)?)?,
                None => writeln!(streams.out, "{} condition met", target.title())?,
            },
            Err(error) => failed.push(error),
        }
        streams.out.flush()?;
    }
    Error::of(failed)
}

/// The objects to wait for, all of which must exist unless their coming or going is waited for.
async fn targets(
    options: &Options,
    wanted: &Wanted,
    session: &mut Session,
    streams: &mut Streams,
) -> Result<(Vec<Target>, Vec<Error>)> {
    let unnamed = if options.all { Unnamed::All } else { Unnamed::Error };
    let queries = resources::queries(session, &options.selection, unnamed, streams).await?;
    let (mut targets, mut asked) = (Vec::new(), Vec::new());
    for query in queries {
        match query {
            Query { resource, namespace, name: Some(name), source } if matches!(wanted, Wanted::Created) => {
                targets.push(Target { resource, namespace, name, source });
            }
            other => asked.push(other),
        }
    }
    let (found, mut failed) = resources::visit(&session.client, &asked, &options.selection).await;
    if matches!(wanted, Wanted::Deleted) {
        failed.retain(|error| !error.is_not_found());
    }
    targets.extend(found.into_iter().map(|found| found.target));
    Ok((targets, failed))
}

/// Waits for one object and gives it as it was last seen.
async fn one(wanted: &Wanted, target: &Target, left: Duration, session: &Session) -> Result<Value> {
    let mut last = Value::Null;
    let decide = |object: Option<&Value>| {
        if let Some(object) = object {
            last = object.clone();
        }
        holds(wanted, object)
    };
    let met = if left.is_zero() {
        once(target, session, decide).await?
    } else {
        wait::until(&session.client, target, Some(left), decide).await?
    };
    last["apiVersion"] = target.resource.api_version().into();
    last["kind"] = target.resource.kind.clone().into();
    if met {
        return Ok(last);
    }
    let title = format!("{}/{}", target.resource.plural, target.name);
    match wanted {
        Wanted::Created => usage("timed out waiting for the condition"),
        _ if left.is_zero() => usage(format!("condition not met for {title}")),
        _ => usage(format!("timed out waiting for the condition on {title}")),
    }
}

/// Looks without waiting.
async fn once(
    target: &Target,
    session: &Session,
    mut decide: impl FnMut(Option<&Value>) -> Result<bool>,
) -> Result<bool> {
    match target.read(&session.client).await {
        Ok(object) => decide(Some(&object)),
        Err(error) if error.is_not_found() => decide(None),
        Err(error) => Err(error),
    }
}

fn parse(text: &str) -> Result<Wanted> {
    let lower = text.to_lowercase();
    match text.split_once('=') {
        None if lower == "delete" => Ok(Wanted::Deleted),
        None if lower == "create" => Ok(Wanted::Created),
        Some((kind, condition)) if kind.eq_ignore_ascii_case("condition") => {
            let (name, value) = condition.split_once('=').unwrap_or((condition, "true"));
            Ok(Wanted::Condition(name.to_lowercase(), value.to_lowercase()))
        }
        Some((kind, path)) if kind.eq_ignore_ascii_case("jsonpath") => field(path),
        _ => usage(format!("unrecognized condition: {text:?}")),
    }
}

/// `{PATH}`, or `{PATH}=VALUE`; equal signs within the path's brackets are the path's own.
fn field(text: &str) -> Result<Wanted> {
    let mut depth = 0_usize;
    let mut split = None;
    for (index, c) in text.char_indices() {
        match c {
            '[' | '{' | '(' => depth += 1,
            ']' | '}' | ')' => depth = depth.saturating_sub(1),
            '=' if depth == 0 => {
                split = Some(index);
                break;
            }
            _ => {}
        }
    }
    let (path, value) = split.map_or((text, None), |at| (&text[..at], Some(&text[at + 1..])));
    if path.is_empty() {
        return usage("jsonpath expression cannot be empty");
    }
    let value = value.map(|value| value.trim_matches(['"', '\'']).to_owned());
    if value.as_deref() == Some("") {
        return usage(
            "jsonpath wait has to have a value after equal sign, like --for=jsonpath='{.status.readyReplicas}'=3",
        );
    }
    let template = Template::relaxed(path).map_err(|error| Error::Usage(error.to_string()))?;
    Ok(Wanted::Field(template, value))
}

fn holds(wanted: &Wanted, object: Option<&Value>) -> Result<bool> {
    Ok(match (wanted, object) {
        (Wanted::Deleted, object) => object.is_none(),
        (_, None) => false,
        (Wanted::Created, Some(_)) => true,
        (Wanted::Condition(name, value), Some(object)) => {
            let is = |condition: &Value, field: &str, text: &str| condition.text(field).to_lowercase() == text;
            let met = |condition: &&Value| is(condition, "type", name) && is(condition, "status", value);
            object.list("status.conditions").iter().find(met).is_some_and(|condition| is_current(condition, object))
        }
        (Wanted::Field(template, value), Some(object)) => {
            let found = template.find(object).map_err(Error::Usage)?;
            match (found.as_slice(), value) {
                ([], _) => false,
                ([_, ..], None) => true,
                ([found], Some(value)) => {
                    if found.is_object() || found.is_array() {
                        return usage("jsonpath leads to a nested object or list which is not supported");
                    }
                    text_of(found) == *value
                }
                _ => return usage("given jsonpath expression matches more than one value"),
            }
        }
    })
}

/// Whether a condition is about the object as it is now.
fn is_current(condition: &Value, object: &Value) -> bool {
    let generation = object.at("metadata.generation").as_i64();
    let observed = condition.at("observedGeneration").as_i64().or(object.at("status.observedGeneration").as_i64());
    match (observed, generation) {
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
        let object = json!({"metadata": {"generation": 2}, "status": {"phase": "Running", "replicas": 3, "conditions": [
            {"type": "Ready", "status": "True"}, {"type": "Old", "status": "True", "observedGeneration": 1}]}});
        let says = |text: &str, object: Option<&Value>| holds(&parse(text).unwrap(), object).unwrap();
        assert!(says("condition=ready", Some(&object)));
        assert!(!says("condition=Ready=false", Some(&object)));
        assert!(!says("condition=Old", Some(&object)));
        assert!(says("jsonpath={.status.phase}=Running", Some(&object)));
        assert!(says("jsonpath=.status.replicas=3", Some(&object)));
        assert!(says("jsonpath={.status.conditions[?(@.type==\"Ready\")].status}=True", Some(&object)));
        assert!(says("jsonpath={.status.phase}", Some(&object)) && !says("jsonpath={.status.none}", Some(&object)));
        assert!(!says("jsonpath={.status.phase}=Failed", Some(&object)));
        assert!(says("delete", None) && !says("delete", Some(&object)));
        assert_eq!(parse("nonsense").unwrap_err().report(), "error: unrecognized condition: \"nonsense\"");
    }
}
