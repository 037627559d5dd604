//! `create priorityclass`.

use clap::Args;

use super::{Made, Named, named};
use crate::error::Result;
use crate::flags::whole;

#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    named: Named,
    /// The value of this priority class
    #[arg(long, value_parser = whole, default_value_t = 0)]
    value: i64,
    /// Whether pods that name no class get this one
    #[arg(long)]
    global_default: bool,
    /// When this priority class should be used
    #[arg(long, default_value = "")]
    description: String,
    /// Whether pods of this class preempt others
    #[arg(long, default_value = "PreemptLowerPriority")]
    preemption_policy: String,
}

pub fn make(options: &Options) -> Result<Made<'_>> {
    let mut object = named("scheduling.k8s.io/v1", "PriorityClass", options.named.name("priorityclass")?);
    object["value"] = options.value.into();
    object["preemptionPolicy"] = options.preemption_policy.as_str().into();
    if options.global_default {
        object["globalDefault"] = true.into();
    }
    if !options.description.is_empty() {
        object["description"] = options.description.as_str().into();
    }
    Ok(Made { object, making: &options.named.making, failed: "failed to create priorityclass: " })
}
