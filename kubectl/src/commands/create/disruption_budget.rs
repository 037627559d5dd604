//! `create poddisruptionbudget`.

use apimachinery::labels::Selector;
use clap::Args;
use serde_json::{Value, json};

use super::{Made, Named, named};
use crate::error::{Error, Result, usage};

#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    named: Named,
    /// The number or share of pods that must stay
    #[arg(long, default_value = "")]
    min_available: String,
    /// The number or share of pods that may be missing
    #[arg(long, default_value = "")]
    max_unavailable: String,
    /// Labels of the pods
    #[arg(long, default_value = "")]
    selector: String,
}

pub fn make(options: &Options) -> Result<Made<'_>> {
    let mut object = named("policy/v1", "PodDisruptionBudget", options.named.name("poddisruptionbudget")?);
    if options.selector.is_empty() {
        return usage("a selector must be specified");
    }
    let (field, amount) = match (options.min_available.as_str(), options.max_unavailable.as_str()) {
        ("", "") => return usage("one of min-available or max-unavailable must be specified"),
        (least, "") => ("minAvailable", least),
        ("", most) => ("maxUnavailable", most),
        _ => return usage("min-available and max-unavailable cannot be both specified"),
    };
    let amount: Value = amount.parse::<i64>().map_or_else(|_| json!(amount), |number| json!(number));
    object["spec"] = json!({"selector": selector(&options.selector)?, field: amount});
    object["status"] = json!({"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0});
    Ok(Made { object, making: &options.named.making, failed: "failed to create poddisruptionbudgets: " })
}

/// A selector as an object.
fn selector(text: &str) -> Result<Value> {
    let parsed = Selector::parse(text).map_err(|error| Error::Usage(error.to_string()))?;
    let mut labels = json!({});
    for requirement in parsed.requirements() {
        match requirement.exact() {
            Some(value) => labels[requirement.key()] = value.into(),
            None => return usage(format!("\"{requirement}\" is no plain label")),
        }
    }
    Ok(json!({"matchLabels": labels}))
}
