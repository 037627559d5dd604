//! SchedulingGates: a pod waits until all its scheduling gates are removed.

use crate::framework::{Actions, Event, Hint, Plugin, Point, Points, Status};
use crate::labels::Str;
use crate::pod::Pod;

pub const NAME: &str = "SchedulingGates";

pub fn open(gates: &[Str]) -> Status {
    if gates.is_empty() {
        return Status::success();
    }
    Status::unresolvable(format!("waiting for scheduling gates: [{}]", gates.join(" ")))
}

pub struct SchedulingGates;

impl Plugin for SchedulingGates {
    fn name(&self) -> &'static str {
        NAME
    }

    fn points(&self) -> Points {
        Points::of(&[Point::PreEnqueue])
    }

    fn events(&self) -> Actions {
        Actions::POD_UPDATE
    }

    fn hint(&self, _: &Pod, event: &Event) -> Hint {
        Hint::queue_if(matches!(event, Event::PodUpdated { new, .. } if new.gates.is_empty()))
    }

    fn pre_enqueue(&self, pod: &Pod) -> Status {
        open(&pod.gates)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labels::intern;

    #[test]
    fn gates_hold_a_pod_back_and_are_named() {
        assert!(open(&[]).is_success());
        assert_eq!(open(&[intern("a"), intern("b")]).message(), "waiting for scheduling gates: [a b]");
    }
}
