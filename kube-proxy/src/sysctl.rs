//! Kernel parameters that Services need. In a container some are read-only, and the machine's own setting holds then.

use crate::config::Conntrack;
use std::path::Path;
use std::time::Duration;

const ROOT: &str = "/proc/sys/net";
const DEFAULT_MAX_PER_CORE: u32 = 32 * 1024;
const DEFAULT_MIN: u32 = 128 * 1024;
const DEFAULT_ESTABLISHED: Duration = Duration::from_secs(24 * 3600);
const DEFAULT_CLOSE_WAIT: Duration = Duration::from_secs(3600);

/// One parameter: its path below /proc/sys/net, its value, and if a larger value that is there already stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    pub path: &'static str,
    pub value: u64,
    pub at_least: bool,
}

/// The parameters for a configuration on a machine with so many cores.
pub fn settings(conntrack: &Conntrack, cores: u32) -> Vec<Setting> {
    let mut wanted = vec![exactly("ipv4/ip_forward", 1)];
    let per_core = conntrack.max_per_core.unwrap_or(DEFAULT_MAX_PER_CORE);
    if per_core > 0 {
        let max = per_core.saturating_mul(cores).max(conntrack.min.unwrap_or(DEFAULT_MIN));
        wanted.push(Setting { path: "netfilter/nf_conntrack_max", value: max.into(), at_least: true });
    }
    let mut timeout = |path, configured: Option<Duration>| {
        if let Some(time) = configured.filter(|t| !t.is_zero()) {
            wanted.push(exactly(path, time.as_secs()));
        }
    };
    let of = |d: Option<component_base::options::GoDuration>| d.map(Duration::from);
    let established = of(conntrack.tcp_established_timeout).unwrap_or(DEFAULT_ESTABLISHED);
    let close_wait = of(conntrack.tcp_close_wait_timeout).unwrap_or(DEFAULT_CLOSE_WAIT);
    timeout("netfilter/nf_conntrack_tcp_timeout_established", Some(established));
    timeout("netfilter/nf_conntrack_tcp_timeout_close_wait", Some(close_wait));
    timeout("netfilter/nf_conntrack_udp_timeout", of(conntrack.udp_timeout));
    timeout("netfilter/nf_conntrack_udp_timeout_stream", of(conntrack.udp_stream_timeout));
    if conntrack.tcp_be_liberal == Some(true) {
        wanted.push(exactly("netfilter/nf_conntrack_tcp_be_liberal", 1));
    }
    wanted
}

fn exactly(path: &'static str, value: u64) -> Setting {
    Setting { path, value, at_least: false }
}

/// Writes what differs. What cannot be written is logged: the proxy works with the machine's own values too.
pub fn apply(settings: &[Setting]) {
    for setting in settings {
        let path = Path::new(ROOT).join(setting.path);
        let current = std::fs::read_to_string(&path).ok().and_then(|t| t.trim().parse::<u64>().ok());
        let kept = current.is_some_and(|c| c == setting.value || (setting.at_least && c > setting.value));
        if kept {
            continue;
        }
        if let Err(error) = std::fs::write(&path, setting.value.to_string()) {
            tracing::warn!(%error, path = %path.display(), wanted = setting.value, ?current, "a kernel parameter stays as it is");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(settings: &[Setting], path: &str) -> Option<u64> {
        settings.iter().find(|s| s.path.ends_with(path)).map(|s| s.value)
    }

    #[test]
    fn connection_tracking_grows_with_the_cores_from_a_floor() {
        let two = settings(&Conntrack::default(), 2);
        assert_eq!(value(&two, "nf_conntrack_max"), Some(131_072));
        assert_eq!(value(&settings(&Conntrack::default(), 64), "nf_conntrack_max"), Some(2_097_152));
        assert_eq!(value(&two, "tcp_timeout_established"), Some(86_400));
        assert_eq!(value(&two, "udp_timeout"), None);
        let off = Conntrack { max_per_core: Some(0), ..Conntrack::default() };
        assert_eq!(value(&settings(&off, 2), "nf_conntrack_max"), None);
    }
}
