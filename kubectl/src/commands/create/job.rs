//! `create job`: of an image, or of a cron job's template.

use clap::Args;
use serde_json::{Value, json};

use super::{Made, Named, named};
use crate::api::Call;
use crate::error::{Result, usage};
use crate::fields::{self, Fields};
use crate::session::Session;

#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    named: Named,
    /// Image name to run
    #[arg(long, default_value = "")]
    image: String,
    /// cronjob/NAME
    #[arg(long, default_value = "")]
    from: String,
    /// The command and its arguments, after --
    #[arg(last = true)]
    command: Vec<String>,
}

pub async fn make<'a>(options: &'a Options, session: &mut Session) -> Result<Made<'a>> {
    let name = options.named.name("job")?;
    let mut object = named("batch/v1", "Job", name);
    match (options.image.as_str(), options.from.as_str()) {
        ("", "") => return usage("either --image or --from must be specified"),
        (_, "") => object["spec"] = spec(name, &options.image, &options.command, "Never"),
        ("", from) if options.command.is_empty() => {
            let cron_job = read(from, session).await?;
            of_cron_job(&mut object, &cron_job);
        }
        ("", _) => return usage("cannot specify --from and command"),
        _ => return usage("either --image or --from must be specified"),
    }
    object["status"] = json!({});
    Ok(Made { object, making: &options.named.making, failed: "failed to create job: " })
}

/// A job of one container.
pub fn spec(name: &str, image: &str, command: &[String], restart: &str) -> Value {
    let mut container = json!({"name": name, "image": image, "resources": {}});
    if !command.is_empty() {
        container["command"] = json!(command);
    }
    json!({"template": {"metadata": {}, "spec": {"containers": [container], "restartPolicy": restart}}})
}

async fn read(from: &str, session: &mut Session) -> Result<Value> {
    let (kind, name) = from.split_once('/').unwrap_or((from, ""));
    let resource = session.find(kind).await?;
    if resource.kind != "CronJob" {
        return usage(format!("from must be an existing cronjob: {from}"));
    }
    session.client.json(&Call::get(resource.path(Some(&session.namespace), Some(name)))).await
}

fn of_cron_job(object: &mut Value, cron_job: &Value) {
    let template = cron_job.at("spec.jobTemplate");
    let mut annotations = json!({"cronjob.kubernetes.io/instantiate": "manual"});
    for (key, value) in template.map("metadata.annotations").into_iter().flatten() {
        annotations[key.as_str()] = value.clone();
    }
    object["metadata"]["annotations"] = annotations;
    if template.map("metadata.labels").is_some() {
        object["metadata"]["labels"] = template.at("metadata.labels").clone();
    }
    object["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "batch/v1", "kind": "CronJob", "controller": true,
        "name": fields::name(cron_job), "uid": cron_job.text("metadata.uid"),
    }]);
    object["spec"] = template.at("spec").clone();
}
