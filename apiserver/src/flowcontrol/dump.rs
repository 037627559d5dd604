//! What priority and fairness does now, for people (Kubernetes documentation, "Debug API Priority and Fairness": debug endpoints).

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use component_base::options::GoDuration;

use super::classify::Subject;
use super::fair_queue::Request;
use super::level::{Detail, Level};

/// Cells are at least this wide.
const MIN_WIDTH: usize = 8;
/// What stands for a time that has not come.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// A row per level.
pub fn priority_levels(levels: &[Arc<Level>]) -> String {
    let header = [
        "PriorityLevelName",
        "ActiveQueues",
        "IsIdle",
        "IsQuiescing",
        "WaitingRequests",
        "ExecutingRequests",
        "DispatchedRequests",
        "RejectedRequests",
        "TimedoutRequests",
        "CancelledRequests",
    ];
    let row = |level: &Arc<Level>| {
        let state = level.state();
        let (set, totals, counts) = (&state.set, state.set.totals, state.set.counts);
        let active = set.queues().iter().filter(|queue| queue.len() > 0).count();
        let idle = totals.waiting == 0 && totals.executing == 0;
        vec![
            level.name.clone(),
            active.to_string(),
            idle.to_string(),
            level.quiescing.load(Ordering::Relaxed).to_string(),
            totals.waiting.to_string(),
            totals.executing.to_string(),
            counts.dispatched.to_string(),
            counts.rejected.to_string(),
            counts.timed_out.to_string(),
            counts.cancelled.to_string(),
        ]
    };
    table(&header, levels.iter().map(row))
}

/// A row per queue.
pub fn queues(levels: &[Arc<Level>]) -> String {
    let header = [
        "PriorityLevelName",
        "Index",
        "PendingRequests",
        "ExecutingRequests",
        "SeatsInUse",
        "NextDispatchR",
        "InitialSeatsSum",
        "MaxSeatsSum",
        "TotalWorkSum",
    ];
    let rows = levels.iter().flat_map(|level| {
        let state = level.state();
        let set = &state.set;
        let row = |(index, queue): (usize, &super::fair_queue::Queue)| {
            vec![
                level.name.clone(),
                index.to_string(),
                queue.len().to_string(),
                queue.executing.to_string(),
                queue.seats_in_use.to_string(),
                format!("{:.8}ss", queue.next_dispatch),
                set.initial_seats_waiting(index).to_string(),
                queue.seats_waiting.to_string(),
                format!("{:.8}ss", queue.work),
            ]
        };
        set.queues().iter().enumerate().map(row).collect::<Vec<_>>()
    });
    table(&header, rows)
}

/// A row per request. What is not in a queue has the queue -1.
pub fn requests(levels: &[Arc<Level>], with_details: bool) -> String {
    let mut header = vec![
        "PriorityLevelName",
        "FlowSchemaName",
        "QueueIndex",
        "RequestIndexInQueue",
        "FlowDistingsher",
        "ArriveTime",
        "InitialSeats",
        "FinalSeats",
        "AdditionalLatency",
        "StartTime",
    ];
    if with_details {
        header.extend(["UserName", "Verb", "APIPath", "Namespace", "Name", "APIVersion", "Resource", "SubResource"]);
    }
    let rows = levels.iter().flat_map(|level| {
        let state = level.state();
        let present = state.set.requests().filter(|(request, _)| !request.lingers);
        let row = |(request, place): (&Request<Detail>, Option<usize>)| {
            let mut row = request_row(level, request, place);
            if with_details {
                row.extend(details(&request.detail));
            }
            row
        };
        present.map(row).collect::<Vec<_>>()
    });
    table(&header, rows)
}

fn number_or_none(number: Option<usize>) -> String {
    number.map_or_else(|| "-1".to_owned(), |number| number.to_string())
}

fn request_row(level: &Level, request: &Request<Detail>, place: Option<usize>) -> Vec<String> {
    let Detail { flow, user, info, .. } = &request.detail;
    let path = path(&request.detail);
    let distinguisher = flow.distinguish(&Subject { user, info, path });
    vec![
        level.name.clone(),
        flow.name.clone(),
        number_or_none(request.queue),
        number_or_none(place),
        distinguisher.to_owned(),
        time(level.time(request.arrived)),
        request.work.initial_seats.to_string(),
        request.work.final_seats.to_string(),
        duration(request.work.additional),
        request.started.map_or_else(|| NEVER.to_owned(), |at| time(level.time(at))),
    ]
}

fn path(detail: &Detail) -> &str {
    detail.path.as_ref().map_or("", |path| path.path())
}

fn details(detail: &Detail) -> [String; 8] {
    let info = &detail.info;
    let version = if info.group.is_empty() { info.version.clone() } else { format!("{}/{}", info.group, info.version) };
    [
        detail.user.name.clone(),
        info.verb.to_owned(),
        path(detail).to_owned(),
        info.namespace.clone(),
        info.name.clone(),
        version,
        info.resource.clone(),
        info.subresource.clone(),
    ]
}

fn time(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).map_or_else(|_| NEVER.to_owned(), |time| time.to_string())
}

fn duration(duration: Duration) -> String {
    GoDuration(duration).to_string()
}

/// Cells with commas between them, each column as wide as its widest cell.
fn table(header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let header: Vec<String> = header.iter().map(ToString::to_string).collect();
    let rows: Vec<Vec<String>> = std::iter::once(header).chain(rows).collect();
    let columns = rows[0].len();
    let width = |column: usize| {
        let widest = rows.iter().map(|row| row[column].chars().count() + 1).max().unwrap_or(0);
        MIN_WIDTH.max(widest + 1)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in &rows {
        for (column, cell) in row.iter().enumerate() {
            let written = if column + 1 == columns {
                writeln!(out, "{cell}")
            } else {
                write!(out, "{:<width$}", format!("{cell},"), width = widths[column])
            };
            written.expect("a string takes everything");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let rows = [vec!["catch-all".to_owned(), "1".to_owned(), "x".to_owned()]];
        let text = table(&["Name", "Index", "Last"], rows.into_iter());
        assert_eq!(text, "Name,      Index,  Last\ncatch-all, 1,      x\n");
    }
}
