//! `create quota`.

use clap::Args;
use serde_json::json;

use super::{Made, Named, named};
use crate::error::{Result, usage};

#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    named: Named,
    /// resource=quantity pairs that are the limit
    #[arg(long, default_value = "")]
    hard: String,
    /// Scopes that all objects must have
    #[arg(long, default_value = "")]
    scopes: String,
}

pub fn make(options: &Options) -> Result<Made<'_>> {
    let mut object = named("v1", "ResourceQuota", options.named.name("quota")?);
    object["spec"] = json!({});
    for pair in options.hard.split(',').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some((name, amount)) if amount.parse::<apimachinery::Quantity>().is_ok() => {
                object["spec"]["hard"][name] = amount.into();
            }
            _ => return usage(format!("Invalid argument syntax {pair}, expected <resource>=<value>")),
        }
    }
    let scopes: Vec<&str> = options.scopes.split(',').filter(|scope| !scope.is_empty()).collect();
    if !scopes.is_empty() {
        object["spec"]["scopes"] = json!(scopes);
    }
    object["status"] = json!({});
    Ok(Made { object, making: &options.named.making, failed: "failed to create quota: " })
}
