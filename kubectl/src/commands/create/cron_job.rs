//! `create cronjob`.

use clap::Args;
use serde_json::json;

use super::{Made, Named, job, named};
use crate::error::{Result, usage};

#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    named: Named,
    /// Image name to run
    #[arg(long, default_value = "")]
    image: String,
    /// When the job runs, in cron's format
    #[arg(long, default_value = "")]
    schedule: String,
    /// OnFailure or Never
    #[arg(long, default_value = "OnFailure")]
    restart: String,
    /// The command and its arguments, after --
    #[arg(last = true)]
    command: Vec<String>,
}

pub fn make(options: &Options) -> Result<Made<'_>> {
    let missing: Vec<&str> = [("image", &options.image), ("schedule", &options.schedule)]
        .into_iter()
        .filter(|(_, value)| value.is_empty())
        .map(|(flag, _)| flag)
        .collect();
    if !missing.is_empty() {
        return usage(format!("required flag(s) \"{}\" not set", missing.join("\", \"")));
    }
    let name = options.named.name("cronjob")?;
    let mut object = named("batch/v1", "CronJob", name);
    let spec = job::spec(name, &options.image, &options.command, &options.restart);
    object["spec"] = json!({"schedule": options.schedule, "jobTemplate": {"metadata": {"name": name}, "spec": spec}});
    object["status"] = json!({});
    Ok(Made { object, making: &options.named.making, failed: "failed to create cronjob: " })
}
