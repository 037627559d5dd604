//! How many seats a request takes (Kubernetes documentation, "API Priority and Fairness", seats occupied by a request; execution
//! time tweaks for watch).

use std::time::Duration;

use super::configuration::Flow;
use super::fair_queue::Work;
use crate::served::Served;
use crate::server::{Context, Server, selected_name};

/// So many objects of a list are worth a seat.
const OBJECTS_PER_SEAT: usize = 100;
/// So many watchers that are told of a write are worth a seat ...
const WATCHERS_PER_SEAT: usize = 10;
/// ... for this time.
const EVENT_DURATION: Duration = Duration::from_millis(5);

/// The work of a request.
pub fn work(server: &Server, context: &Context, flow: &Flow) -> Work {
    let (info, query) = (&context.info, &context.query);
    let lists = info.verb == "list" || (info.verb == "watch" && query.flag("sendInitialEvents"));
    let writes = matches!(info.verb, "create" | "update" | "patch" | "delete");
    if !info.is_resource || !(lists || writes) {
        return Work::seats(1);
    }
    let Some(served) = server.resources.find(&info.group, &info.version, &info.resource) else { return Work::seats(1) };
    if lists {
        return list(count(server, context, &served), flow.level.max_seats());
    }
    if info.subresource == "token" {
        // Nothing is written, so nobody is told.
        return Work::seats(1);
    }
    let watchers = server.store.cache().watchers(&served.prefix, &info.namespace, &info.name);
    flow.metrics.watchers.observe(watchers as f64);
    write(watchers, flow.level.max_seats())
}

/// How many objects a list goes through.
fn count(server: &Server, context: &Context, served: &Served) -> usize {
    let Context { info, query, .. } = context;
    if !info.name.is_empty() || !selected_name(info, query).is_empty() {
        return 1;
    }
    let snapshot = server.store.cache().snapshot();
    let stored = if served.resource.namespaced && !info.namespace.is_empty() {
        snapshot.count(&format!("{}{}/", served.prefix, info.namespace))
    } else {
        snapshot.count(&served.prefix)
    };
    let selects = !query.get("labelSelector").is_empty() || !query.get("fieldSelector").is_empty();
    match query.get("limit").parse() {
        Ok(limit) if limit > 0 && !selects => stored.min(limit),
        _ => stored,
    }
}

fn list(objects: usize, max_seats: u32) -> Work {
    Work::seats(u32::try_from(objects.div_ceil(OBJECTS_PER_SEAT)).unwrap_or(u32::MAX).clamp(1, max_seats.max(1)))
}

fn write(watchers: usize, max_seats: u32) -> Work {
    if watchers < WATCHERS_PER_SEAT {
        return Work::seats(1);
    }
    let wide = u32::try_from(watchers.div_ceil(WATCHERS_PER_SEAT)).unwrap_or(u32::MAX);
    let final_seats = wide.min(max_seats.max(1));
    // Narrower is longer: the work is the same.
    let additional = EVENT_DURATION.mul_f64(f64::from(wide) / f64::from(final_seats));
    Work { initial_seats: 1, final_seats, additional }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_as_wide_as_they_are_long() {
        let seats = |objects| list(objects, 9).max_seats();
        assert_eq!([0, 1, 100, 101, 850, 100_000].map(seats), [1, 1, 1, 2, 9, 9]);
    }

    #[test]
    fn writes_that_many_watch_take_seats_after_they_are_answered() {
        assert_eq!(write(9, 10), Work::seats(1));
        let ms = Duration::from_millis;
        assert_eq!(write(40, 10), Work { initial_seats: 1, final_seats: 4, additional: ms(5) });
        assert_eq!(write(1000, 10), Work { initial_seats: 1, final_seats: 10, additional: ms(50) });
    }
}
