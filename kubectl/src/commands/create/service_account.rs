//! `create serviceaccount`.

use clap::Args;

use super::{Made, Named, named};
use crate::error::Result;

#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    named: Named,
}

pub fn make(options: &Options) -> Result<Made<'_>> {
    let object = named("v1", "ServiceAccount", options.named.name("serviceaccount")?);
    Ok(Made { object, making: &options.named.making, failed: "failed to create serviceaccount: " })
}
