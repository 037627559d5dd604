//! UDP flows have no end of their own: connection tracking sends their packets to the endpoint that the first one was
//! given, also when it is gone. What has to be cut is planned here; the `conntrack` program cuts it.

use crate::plan::{UdpFront, UdpFrontend};
use crate::view::Family;
use async_trait::async_trait;
use std::collections::HashMap;
use std::net::IpAddr;
use tokio::process::Command;

/// UDP flows to forget: those that came in at `front`, and were sent to `endpoint` (or to none, if it is `None`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cut {
    pub front: UdpFront,
    pub endpoint: Option<IpAddr>,
}

/// What to forget when the ways into a Service change: flows to endpoints that it no longer has, and flows that
/// found none, now that there are some.
pub fn cuts(before: &[UdpFrontend], after: &[UdpFrontend]) -> Vec<Cut> {
    let now: HashMap<UdpFront, &UdpFrontend> = after.iter().map(|f| (f.front, f)).collect();
    let then: HashMap<UdpFront, &UdpFrontend> = before.iter().map(|f| (f.front, f)).collect();
    let mut cuts = Vec::new();
    for old in before {
        let kept = now.get(&old.front);
        let gone = old.backends.iter().filter(|b| !kept.is_some_and(|k| k.backends.contains(b)));
        cuts.extend(gone.map(|(ip, _)| Cut { front: old.front, endpoint: Some(*ip) }));
    }
    for new in after.iter().filter(|f| !f.backends.is_empty()) {
        if then.get(&new.front).is_none_or(|old| old.backends.is_empty()) {
            cuts.push(Cut { front: new.front, endpoint: None });
        }
    }
    cuts.sort_unstable();
    cuts.dedup();
    cuts
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot run conntrack: install the package conntrack")]
    Spawn(#[source] std::io::Error),
    #[error("conntrack failed: {0}")]
    Failed(String),
}

/// The kernel's table of connections, behind one narrow trait.
#[async_trait]
pub trait Conntrack: Send + Sync {
    async fn cut(&self, cut: &Cut) -> Result<(), Error>;
}

/// The `conntrack` program.
#[derive(Debug, Clone, Default)]
pub struct Program {
    /// What stands before `conntrack`, to run it in another place (`ip netns exec NAME`).
    pub prefix: Vec<String>,
}

#[async_trait]
impl Conntrack for Program {
    async fn cut(&self, cut: &Cut) -> Result<(), Error> {
        let mut words = self.prefix.iter().cloned().chain(["conntrack".to_owned()]).chain(arguments(cut));
        let program = words.next().unwrap_or_default();
        let output = Command::new(program).args(words).output().await.map_err(Error::Spawn)?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        // Nothing to delete is an exit code of 1, with this as the only sign.
        if output.status.success() || complaint.contains("0 flow entries") {
            return Ok(());
        }
        Err(Error::Failed(complaint.trim().to_owned()))
    }
}

fn arguments(cut: &Cut) -> Vec<String> {
    let (family, front) = match cut.front {
        UdpFront::Ip(ip, port) => {
            (Family::of(&ip), vec!["--orig-dst".to_owned(), ip.to_string(), "--dport".into(), port.to_string()])
        }
        UdpFront::NodePort(family, port) => (family, vec!["--dport".to_owned(), port.to_string()]),
    };
    let family = match family {
        Family::V4 => "ipv4",
        Family::V6 => "ipv6",
    };
    let mut arguments: Vec<String> = ["-D", "-f", family, "-p", "udp"].map(String::from).into();
    arguments.extend(front);
    arguments.extend(cut.endpoint.iter().flat_map(|ip| ["--dst-nat".to_owned(), ip.to_string()]));
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frontend(backends: &[&str]) -> UdpFrontend {
        UdpFrontend {
            front: UdpFront::Ip("10.96.0.10".parse().unwrap(), 53),
            backends: backends.iter().map(|b| (b.parse().unwrap(), 5353)).collect(),
        }
    }

    fn endpoints(cuts: &[Cut]) -> Vec<Option<String>> {
        cuts.iter().map(|c| c.endpoint.map(|ip| ip.to_string())).collect()
    }

    #[test]
    fn flows_to_endpoints_that_left_are_cut() {
        let cuts = cuts(&[frontend(&["10.1.0.1", "10.1.0.2"])], &[frontend(&["10.1.0.2", "10.1.0.3"])]);
        assert_eq!(endpoints(&cuts), [Some("10.1.0.1".into())]);
    }

    #[test]
    fn flows_of_a_deleted_service_are_cut() {
        let cuts = cuts(&[frontend(&["10.1.0.1"])], &[]);
        assert_eq!(endpoints(&cuts), [Some("10.1.0.1".into())]);
    }

    #[test]
    fn flows_that_found_no_endpoint_are_cut_when_one_comes() {
        assert_eq!(endpoints(&cuts(&[frontend(&[])], &[frontend(&["10.1.0.1"])])), [None]);
        assert_eq!(endpoints(&cuts(&[], &[frontend(&["10.1.0.1"])])), [None]);
        assert!(cuts(&[], &[frontend(&[])]).is_empty());
    }

    #[test]
    fn the_program_is_told_family_front_and_endpoint() {
        let cut = Cut { front: UdpFront::NodePort(Family::V6, 30053), endpoint: Some("fd00::1".parse().unwrap()) };
        assert_eq!(arguments(&cut).join(" "), "-D -f ipv6 -p udp --dport 30053 --dst-nat fd00::1");
        let cut = Cut { front: UdpFront::Ip("10.96.0.10".parse().unwrap(), 53), endpoint: None };
        assert_eq!(arguments(&cut).join(" "), "-D -f ipv4 -p udp --orig-dst 10.96.0.10 --dport 53");
    }
}
