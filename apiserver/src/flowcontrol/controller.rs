//! Keeps the objects of priority and fairness: the suggested ones as they should be, and the condition of every FlowSchema; and
//! divides the seats anew at the end of each period.

mod budget;
mod plan;

use std::time::{Duration, Instant};

use apimachinery::{ApiError, Reason, time};
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use serde_json::Value;
use tokio::time::MissedTickBehavior;

use super::FlowControl;
use super::configuration::SCHEMAS;
use crate::endpoints::delete::Options;
use crate::endpoints::update::Part;
use crate::hooks::Own;
use crate::request::{Query, RequestInfo};
use crate::server::Server;
use budget::Budget;
use plan::{GROUP, Repair};

/// How often the seats are divided anew.
const ADJUSTMENT_PERIOD: Duration = Duration::from_secs(10);
/// How often it is looked whether something is to be repaired that was left alone before.
const MAINTENANCE_PERIOD: Duration = Duration::from_secs(60);
/// Pause before what failed is tried again.
const RETRY: Duration = Duration::from_millis(500);
/// Who owns the conditions.
const MANAGER: &str = "api-priority-and-fairness-config-consumer-v1";

/// Divides the seats anew at the end of each period, whatever becomes of writes. Works until it is dropped.
pub async fn adjust(flow_control: &FlowControl) {
    let mut periods = tokio::time::interval(ADJUSTMENT_PERIOD);
    periods.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        periods.tick().await;
        flow_control.adjust();
    }
}

/// Keeps the objects. Works until it is dropped.
pub async fn run(server: &Server, flow_control: &FlowControl) {
    let mut maintenance = tokio::time::interval(MAINTENANCE_PERIOD);
    maintenance.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut budget = Budget::default();
    loop {
        let failed = reconcile(server, flow_control, &mut budget).await;
        tokio::select! {
            () = flow_control.changed() => {}
            () = tokio::time::sleep(RETRY), if failed => {}
            _ = maintenance.tick() => {}
        }
    }
}

/// Writes what is not as it should be. Tells whether something could not be written.
async fn reconcile(server: &Server, flow_control: &FlowControl, budget: &mut Budget) -> bool {
    let (repairs, conditions) = {
        let objects = flow_control.objects();
        (plan::repairs(&objects), plan::conditions(&objects, &time::now_rfc3339()))
    };
    let mut failed = false;
    for repair in repairs {
        if budget.take(&repair.key(), Instant::now()) {
            failed |= is_failure("repaired", &repair.key(), carry_out(server, repair).await);
        }
    }
    for (name, condition) in conditions {
        if budget.take(&name, Instant::now()) {
            failed |= is_failure("told its condition", &name, write_condition(server, &name, &condition).await);
        }
    }
    failed
}

/// What somebody else did meanwhile is shown by the cache next.
fn is_failure(what: &str, name: &str, result: Result<(), ApiError>) -> bool {
    match result {
        Err(error) if !error.is(Reason::NotFound) => {
            tracing::warn!(%error, name, "an object of priority and fairness could not be {what}");
            true
        }
        _ => false,
    }
}

fn info(server: &Server, resource: &str, verb: &'static str, name: &str, subresource: &str) -> RequestInfo {
    RequestInfo {
        is_resource: true,
        verb,
        group: GROUP.to_owned(),
        version: server.resources.builtin_resource(GROUP, resource).resource.version.clone(),
        resource: resource.to_owned(),
        name: name.to_owned(),
        subresource: subresource.to_owned(),
        ..RequestInfo::default()
    }
}

async fn carry_out(server: &Server, repair: Repair) -> Result<(), ApiError> {
    let own = Own::new(server);
    match repair {
        Repair::Write(object) => own.write(object).await,
        Repair::Delete { resource, name } => {
            let served = server.resources.builtin_resource(GROUP, resource);
            let info = info(server, resource, "delete", &name, "");
            own.call(served, &info).delete(&name, &Options::default()).await.map(drop)
        }
    }
}

async fn write_condition(server: &Server, name: &str, condition: &Value) -> Result<(), ApiError> {
    let mut own = Own::new(server);
    own.query = Query::parse(Some(&format!("fieldManager={MANAGER}&force=true")));
    own.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/apply-patch+yaml"));
    let served = server.resources.builtin_resource(GROUP, SCHEMAS);
    let info = info(server, SCHEMAS, "patch", name, "status");
    let body = plan::status(name, condition).to_string();
    own.call(served, &info).patch(body.as_bytes(), Part::Status).await.map(drop)
}
