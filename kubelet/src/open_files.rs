//! How many files the kubelet may have open: `maxOpenFiles`, which is RLIMIT_NOFILE of its process.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

const FILES: Resource = Resource::RLIMIT_NOFILE;

/// Sets the limit. A machine may allow fewer (more than the hard limit takes CAP_SYS_RESOURCE, and never more than fs.nr_open): then it
/// is as many as it does, and the log says so.
pub fn limit(wanted: u64) {
    let Err(refusal) = setrlimit(FILES, wanted, wanted) else { return };
    let most = getrlimit(FILES).and_then(|(_, most)| setrlimit(FILES, most.min(wanted), most).map(|()| most));
    match most {
        Ok(most) => tracing::warn!(
            wanted, allowed = most, error = %refusal, "the machine does not allow the kubelet as many open files as maxOpenFiles"
        ),
        Err(error) => tracing::warn!(wanted, %error, "the number of files that the kubelet may open cannot be set"),
    }
}
