//! `create namespace`.

use clap::Args;
use serde_json::json;

use super::{Made, Named, named};
use crate::error::Result;

#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    named: Named,
}

pub fn make(options: &Options) -> Result<Made<'_>> {
    let mut object = named("v1", "Namespace", options.named.name("namespace")?);
    object["spec"] = json!({});
    object["status"] = json!({});
    Ok(Made { object, making: &options.named.making, failed: "" })
}
