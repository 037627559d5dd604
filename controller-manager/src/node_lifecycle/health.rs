//! Whether a node still reports: pure, by this process's clock alone (nodes' clocks may differ).

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// The conditions that nobody knows any more when the kubelet is silent.
const REPORTED: &[&str] = &["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/// How long a node may be silent.
#[derive(Clone, Copy, Debug)]
pub struct Grace {
    /// Once it has reported.
    pub running: Duration,
    /// Before it has.
    pub starting: Duration,
}

/// What is known of a node's reports.
#[derive(Clone, Debug)]
pub struct Health {
    /// When a report was last noticed.
    noticed: Timestamp,
    renewed: Option<Timestamp>,
    heartbeat: Option<Timestamp>,
    ready: bool,
}

/// The outcome.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It reports, or is silent and marked so already.
    Reporting,
    /// It is silent: these conditions must be written.
    Silent(Vec<NodeCondition>),
}

/// A node's condition of a type.
pub fn condition<'a>(node: &'a Node, type_: &str) -> Option<&'a NodeCondition> {
    node.status.as_ref()?.conditions.iter().flatten().find(|condition| condition.type_ == type_)
}

/// Whether the node says that it is ready.
pub fn is_ready(node: &Node) -> bool {
    condition(node, "Ready").is_some_and(|condition| condition.status == "True")
}

/// Whether the node was found to be silent.
pub fn is_silent(node: &Node) -> bool {
    condition(node, "Ready").is_some_and(|condition| condition.status == "Unknown")
}

fn heartbeat(node: &Node) -> Option<Timestamp> {
    condition(node, "Ready")?.last_heartbeat_time.as_ref().map(|time| time.0)
}

impl Health {
    /// A node that was not known: one that never reported has been silent since it was made.
    pub fn first_seen(node: &Node, now: Timestamp) -> Self {
        let created = node.metadata.creation_timestamp.as_ref().map(|time| time.0);
        let noticed = if condition(node, "Ready").is_none() { created.unwrap_or(now) } else { now };
        Self { noticed, renewed: None, heartbeat: heartbeat(node), ready: is_ready(node) }
    }

    /// Takes note of a renewed lease or a changed status. A status that we wrote ourselves leaves the heartbeat as it was.
    pub fn observe(&mut self, node: &Node, renewed: Option<Timestamp>, now: Timestamp) {
        if renewed > self.renewed {
            // The first look at a lease tells nothing about now, unless the lease is fresh.
            self.noticed = now;
            self.renewed = renewed;
        }
        let heartbeat = heartbeat(node);
        if heartbeat > self.heartbeat {
            self.noticed = now;
            self.heartbeat = heartbeat;
        }
        self.ready = is_ready(node);
    }

    /// Whether it was ready when last looked at.
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// Notes whether it is ready.
    pub fn set_ready(&mut self, ready: bool) {
        self.ready = ready;
    }

    /// Whether the node has been silent for too long.
    pub fn judge(&self, node: &Node, grace: &Grace, now: Timestamp) -> Verdict {
        let reported = condition(node, "Ready").is_some_and(|ready| ready.last_heartbeat_time.is_some());
        let grace = if reported { grace.running } else { grace.starting };
        if now.duration_since(self.noticed).as_secs_f64() <= grace.as_secs_f64() {
            return Verdict::Reporting;
        }
        let unknown: Vec<NodeCondition> = REPORTED.iter().filter_map(|type_| unknown(node, type_, now)).collect();
        if unknown.is_empty() { Verdict::Reporting } else { Verdict::Silent(unknown) }
    }
}

/// A condition as unknown; `None` if it is so already.
fn unknown(node: &Node, type_: &str, now: Timestamp) -> Option<NodeCondition> {
    let Some(current) = condition(node, type_) else {
        return Some(NodeCondition {
            type_: type_.to_owned(),
            status: "Unknown".to_owned(),
            reason: Some("NodeStatusNeverUpdated".to_owned()),
            message: Some("Kubelet never posted node status.".to_owned()),
            last_heartbeat_time: node.metadata.creation_timestamp.clone(),
            last_transition_time: Some(Time(now)),
        });
    };
    (current.status != "Unknown").then(|| NodeCondition {
        status: "Unknown".to_owned(),
        reason: Some("NodeStatusUnknown".to_owned()),
        message: Some("Kubelet stopped posting node status.".to_owned()),
        last_transition_time: Some(Time(now)),
        ..current.clone()
    })
}

#[cfg(test)]
pub(crate) mod testing {
    use k8s_openapi::api::core::v1::NodeStatus;
    use kube::api::ObjectMeta;

    use super::*;

    /// A node that says this of its readiness, with a heartbeat at a second of the epoch.
    pub fn node(name: &str, ready: &str, heartbeat: i64) -> Node {
        let condition = NodeCondition {
            type_: "Ready".into(),
            status: ready.into(),
            last_heartbeat_time: Some(Time(Timestamp::from_second(heartbeat).unwrap())),
            ..NodeCondition::default()
        };
        Node {
            metadata: ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() },
            status: Some(NodeStatus { conditions: Some(vec![condition]), ..NodeStatus::default() }),
            ..Node::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::node;
    use super::*;

    const GRACE: Grace = Grace { running: Duration::from_secs(50), starting: Duration::from_secs(60) };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn lease_or_status_keep_a_node_alive_by_our_clock() {
        let alive = node("n", "True", 0);
        let mut health = Health::first_seen(&alive, at(1000));
        assert_eq!(health.judge(&alive, &GRACE, at(1050)), Verdict::Reporting);
        health.observe(&alive, Some(at(5)), at(1040));
        assert_eq!(health.judge(&alive, &GRACE, at(1090)), Verdict::Reporting);
        health.observe(&node("n", "True", 7), Some(at(5)), at(1080));
        assert_eq!(health.judge(&alive, &GRACE, at(1130)), Verdict::Reporting);
        health.observe(&node("n", "True", 7), Some(at(5)), at(1131));
        assert!(matches!(health.judge(&alive, &GRACE, at(1131)), Verdict::Silent(_)));
    }

    #[test]
    fn a_silent_node_is_unknown_once() {
        let mut silent = node("n", "True", 0);
        let health = Health::first_seen(&silent, at(0));
        let Verdict::Silent(conditions) = health.judge(&silent, &GRACE, at(51)) else { panic!() };
        assert_eq!(conditions.len(), 4);
        assert_eq!(
            (conditions[0].status.as_str(), conditions[0].reason.as_deref()),
            ("Unknown", Some("NodeStatusUnknown"))
        );
        assert_eq!(conditions[1].reason.as_deref(), Some("NodeStatusNeverUpdated"));
        silent.status.as_mut().unwrap().conditions = Some(conditions);
        assert_eq!(health.judge(&silent, &GRACE, at(99)), Verdict::Reporting);
    }

    #[test]
    fn a_node_that_never_reported_has_its_starting_grace() {
        let mut fresh = Node::default();
        fresh.metadata.creation_timestamp = Some(Time(at(100)));
        let health = Health::first_seen(&fresh, at(155));
        assert_eq!(health.judge(&fresh, &GRACE, at(160)), Verdict::Reporting);
        assert!(matches!(health.judge(&fresh, &GRACE, at(161)), Verdict::Silent(_)));
    }
}
