//! Why a pod fits on no node, in words.

use crate::framework::Status;
use crate::framework::status::Reason;

/// What the search for a node found out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnosis {
    /// Reasons, and for how many nodes each holds.
    reasons: Vec<(Reason, usize)>,
    /// The plugins that rejected a node, or the pod altogether.
    pub rejected_by: Vec<&'static str>,
    /// A plugin's word against the pod as such.
    pub pre_filter_message: String,
    pub post_filter_message: String,
    /// Positions of nodes where removing pods may help.
    pub preemption_candidates: Vec<usize>,
}

impl Diagnosis {
    pub fn add(&mut self, position: usize, status: Status) {
        self.rejected(status.plugin);
        if status.code == crate::framework::Code::Unschedulable {
            self.preemption_candidates.push(position);
        }
        for reason in status.reasons {
            self.count(reason, 1);
        }
    }

    pub fn rejected(&mut self, plugin: &'static str) {
        if !plugin.is_empty() && !self.rejected_by.contains(&plugin) {
            self.rejected_by.push(plugin);
        }
    }

    pub fn count(&mut self, reason: Reason, nodes: usize) {
        match self.reasons.iter_mut().find(|(r, _)| *r == reason) {
            Some((_, count)) => *count += nodes,
            None => self.reasons.push((reason, nodes)),
        }
    }

    /// The message of the condition and the event, in Kubernetes' form.
    pub fn message(&self, nodes: usize) -> String {
        let mut message = format!("0/{nodes} nodes are available:");
        if self.pre_filter_message.is_empty() {
            let mut parts: Vec<String> =
                self.reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
            parts.sort();
            if !parts.is_empty() {
                message += &format!(" {}.", parts.join(", "));
            }
        } else {
            message += &format!(" {}.", self.pre_filter_message);
        }
        if !self.post_filter_message.is_empty() {
            message += &format!(" {}", self.post_filter_message);
        }
        message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_counted_and_sorted() {
        let mut diagnosis = Diagnosis::default();
        diagnosis.add(0, Status::unresolvable("node(s) had untolerated taint(s)").by("TaintToleration"));
        diagnosis.add(1, Status::unschedulable("Insufficient cpu").by("NodeResourcesFit"));
        diagnosis.add(2, Status::unresolvable("node(s) had untolerated taint(s)").by("TaintToleration"));
        assert_eq!(
            diagnosis.message(3),
            "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had untolerated taint(s)."
        );
        assert_eq!(diagnosis.rejected_by, ["TaintToleration", "NodeResourcesFit"]);
        assert_eq!(diagnosis.preemption_candidates, [1]);
    }

    #[test]
    fn a_word_against_the_pod_replaces_the_counts() {
        let diagnosis = Diagnosis {
            pre_filter_message: "pod affinity terms conflict".into(),
            post_filter_message: "preemption: not eligible".into(),
            ..Diagnosis::default()
        };
        assert_eq!(
            diagnosis.message(2),
            "0/2 nodes are available: pod affinity terms conflict. preemption: not eligible"
        );
    }
}
