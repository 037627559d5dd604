//! Leader election over a Lease (`coordination.k8s.io/v1`), with client-go's semantics: a candidate takes the lease when its holder has not renewed it for
//! the lease duration, measured on the candidate's own clock; a leader that cannot renew within the renew deadline stops.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use rand::Rng;
use tokio::time::Instant;

use crate::client;
use crate::metrics::{Registry, names};
use crate::options::GoDuration;
use crate::shutdown::Shutdown;

/// How much the retry period is stretched at random, as in client-go.
const JITTER: f64 = 1.2;

/// The leader election flags of a component; flatten it into its options. Set the lease's name with [`Flags::config`].
#[derive(Clone, Debug, clap::Args)]
#[group(id = "leader-election")]
pub struct Flags {
    /// Start a leader election client and gain leadership before executing the main loop
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub leader_elect: bool,
    /// How long non-leader candidates wait after a renewal before they try to take the lease
    #[arg(long, default_value = "15s")]
    pub leader_elect_lease_duration: GoDuration,
    /// How long the leader tries to renew before it stops leading
    #[arg(long, default_value = "10s")]
    pub leader_elect_renew_deadline: GoDuration,
    /// How long to wait between tries to acquire or renew
    #[arg(long, default_value = "2s")]
    pub leader_elect_retry_period: GoDuration,
    /// The type of the lock: only "leases"
    #[arg(long, default_value = "leases")]
    pub leader_elect_resource_lock: String,
    /// The name of the lease; the component's own name when not given
    #[arg(long)]
    pub leader_elect_resource_name: Option<String>,
    /// The namespace of the lease
    #[arg(long, default_value = "kube-system")]
    pub leader_elect_resource_namespace: String,
}

impl Flags {
    /// Checks the flags and makes a configuration for a component.
    ///
    /// # Errors
    /// When the durations do not fit each other, or the lock is not a lease.
    pub fn config(&self, component: &str, identity: String) -> Result<Config, Error> {
        let config = Config {
            namespace: self.leader_elect_resource_namespace.clone(),
            name: self.leader_elect_resource_name.clone().unwrap_or_else(|| component.to_owned()),
            identity,
            lease_duration: self.leader_elect_lease_duration.0,
            renew_deadline: self.leader_elect_renew_deadline.0,
            retry_period: self.leader_elect_retry_period.0,
        };
        if self.leader_elect_resource_lock != "leases" {
            return Err(Error::Config("--leader-elect-resource-lock must be \"leases\""));
        }
        config.check()?;
        Ok(config)
    }
}

/// Who elects, over which lease, and how fast.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The lease's namespace.
    pub namespace: String,
    /// The lease's name.
    pub name: String,
    /// This candidate, unique among all: see [`identity`].
    pub identity: String,
    /// After how long without renewal others may take the lease.
    pub lease_duration: Duration,
    /// After how long without success a leader stops.
    pub renew_deadline: Duration,
    /// Time between tries.
    pub retry_period: Duration,
}

impl Config {
    /// Whether the durations fit each other: lease > renew deadline > retry period × 1.2.
    pub fn check(&self) -> Result<(), Error> {
        if self.lease_duration <= self.renew_deadline {
            return Err(Error::Config("the lease duration must be greater than the renew deadline"));
        }
        if self.renew_deadline <= self.retry_period.mul_f64(JITTER) {
            return Err(Error::Config("the renew deadline must be greater than 1.2 times the retry period"));
        }
        if self.retry_period.is_zero() || self.lease_duration.as_secs() == 0 {
            return Err(Error::Config(
                "the retry period must be greater than zero, the lease duration at least a second",
            ));
        }
        Ok(())
    }
}

/// An identity for this process: host name and a random part.
pub fn identity() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}_{}", host.trim(), uuid::Uuid::new_v4())
}

/// How an election ends, other than by shutdown.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Flags that do not fit each other.
    #[error("leader election: {0}")]
    Config(&'static str),
    /// The lease could not be renewed in time, or another took it. The process should exit.
    #[error("leader election lost: {0}")]
    Lost(String),
}

/// What this candidate has seen of the lease.
#[derive(Clone, Debug)]
struct Observed {
    lease: Lease,
    /// When this state of the lease was first seen, on our own clock.
    since: Instant,
}

/// What to do about the lease now.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    /// Another holds it and may still be alive.
    Follow(String),
    /// Write this: it is ours, free, or its holder is gone.
    Write(Box<LeaseSpec>),
}

/// The decision about a lease: pure.
fn step(observed: &Observed, config: &Config, now: Instant, wall: Timestamp) -> Step {
    let spec = observed.lease.spec.clone().unwrap_or_default();
    let holder = spec.holder_identity.clone().unwrap_or_default();
    let ours = holder == config.identity;
    let expired = now.duration_since(observed.since) >= config.lease_duration;
    if !ours && !holder.is_empty() && !expired {
        return Step::Follow(holder);
    }
    let transitions = spec.lease_transitions.unwrap_or(0);
    let acquired = if ours { spec.acquire_time.clone() } else { None };
    Step::Write(Box::new(LeaseSpec {
        lease_transitions: Some(if ours { transitions } else { transitions.saturating_add(1) }),
        acquire_time: acquired.or(Some(MicroTime(wall))),
        ..held(config, wall)
    }))
}

/// A lease that this candidate holds, for the first time.
fn held(config: &Config, wall: Timestamp) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(config.identity.clone()),
        lease_duration_seconds: Some(i32::try_from(config.lease_duration.as_secs()).unwrap_or(i32::MAX)),
        acquire_time: Some(MicroTime(wall)),
        renew_time: Some(MicroTime(wall)),
        lease_transitions: Some(0),
        ..LeaseSpec::default()
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct LeaseLabel {
    name: String,
}

/// Waits until this process leads, then runs `lead` with a token that is cancelled when the lead is lost or the process shuts down.
///
/// Gives `Ok` after shutdown or when `lead` ended by itself; the lease is then released, so that another need not wait.
/// When the lead is lost, `lead` is cancelled and dropped, and the error says why: the process must then exit.
pub async fn run<F, R>(
    client: Client,
    config: Config,
    registry: &Registry,
    shutdown: Shutdown,
    lead: F,
) -> Result<(), Error>
where
    F: FnOnce(Shutdown) -> R,
    R: Future<Output = ()>,
{
    config.check()?;
    let status: Family<LeaseLabel, Gauge> = registry.register(names::LEADER, Family::default());
    let gauge = status.get_or_create_owned(&LeaseLabel { name: config.name.clone() });
    gauge.set(0);
    let mut elector = Elector { api: Api::namespaced(client, &config.namespace), config, observed: None };
    tokio::select! {
        () = shutdown.cancelled() => return Ok(()),
        () = elector.acquire() => {}
    }
    tracing::info!(lease = elector.config.name, identity = elector.config.identity, "became leader");
    gauge.set(1);
    let token = shutdown.child_token();
    let outcome = tokio::select! {
        () = lead(token.clone()) => Ok(()),
        reason = elector.renew() => Err(Error::Lost(reason)),
    };
    token.cancel();
    gauge.set(0);
    if outcome.is_ok() {
        elector.release().await;
    }
    outcome
}

struct Elector {
    api: Api<Lease>,
    config: Config,
    observed: Option<Observed>,
}

impl Elector {
    async fn acquire(&mut self) {
        let mut known = String::new();
        loop {
            match self.attempt().await {
                Ok(None) => return,
                Ok(Some(holder)) => {
                    if holder != known {
                        tracing::info!(lease = self.config.name, %holder, "another leads");
                        known = holder;
                    }
                }
                Err(error) => {
                    tracing::warn!(lease = self.config.name, %error, "acquiring the lease failed, will retry")
                }
            }
            let stretch = rand::rng().random_range(1.0..=JITTER);
            tokio::time::sleep(self.config.retry_period.mul_f64(stretch)).await;
        }
    }

    /// Renews until that fails for the renew deadline; gives the reason.
    async fn renew(&mut self) -> String {
        let mut renewed = Instant::now();
        loop {
            tokio::time::sleep(self.config.retry_period).await;
            let deadline = renewed + self.config.renew_deadline;
            match tokio::time::timeout_at(deadline, self.attempt()).await {
                Ok(Ok(None)) => renewed = Instant::now(),
                Ok(Ok(Some(holder))) => return format!("{holder} holds the lease"),
                Ok(Err(error)) => {
                    tracing::warn!(lease = self.config.name, %error, "renewing the lease failed");
                    if Instant::now() >= deadline {
                        return format!("not renewed for {:?}: {error}", self.config.renew_deadline);
                    }
                }
                Err(_) => return format!("not renewed for {:?}: no answer", self.config.renew_deadline),
            }
        }
    }

    /// Tries once to acquire or renew; gives the holder if it is another.
    async fn attempt(&mut self) -> Result<Option<String>, kube::Error> {
        let read = tokio::time::timeout(self.config.renew_deadline, self.api.get_opt(&self.config.name)).await;
        let Some(lease) = read.map_err(|elapsed| kube::Error::Service(elapsed.into()))?? else {
            let metadata = ObjectMeta { name: Some(self.config.name.clone()), ..ObjectMeta::default() };
            let lease = Lease { metadata, spec: Some(held(&self.config, Timestamp::now())) };
            return match self.api.create(&PostParams::default(), &lease).await {
                Ok(lease) => {
                    self.observe(lease);
                    Ok(None)
                }
                Err(error) => Err(error),
            };
        };
        self.observe(lease);
        let Some(observed) = &self.observed else { return Ok(None) };
        match step(observed, &self.config, Instant::now(), Timestamp::now()) {
            Step::Follow(holder) => Ok(Some(holder)),
            Step::Write(spec) => {
                let lease = Lease { spec: Some(*spec), ..observed.lease.clone() };
                let written = self.api.replace(&self.config.name, &PostParams::default(), &lease).await?;
                self.observe(written);
                Ok(None)
            }
        }
    }

    fn observe(&mut self, lease: Lease) {
        if self.observed.as_ref().is_none_or(|observed| observed.lease.spec != lease.spec) {
            self.observed = Some(Observed { lease, since: Instant::now() });
        } else if let Some(observed) = &mut self.observed {
            observed.lease = lease;
        }
    }

    /// Gives the lease up, so that the next leader need not wait for it to expire.
    async fn release(&mut self) {
        let Some(observed) = self.observed.take() else { return };
        let spec = observed.lease.spec.clone().unwrap_or_default();
        let now = MicroTime(Timestamp::now());
        let released = LeaseSpec {
            holder_identity: Some(String::new()),
            lease_duration_seconds: Some(1),
            acquire_time: Some(now.clone()),
            renew_time: Some(now),
            ..spec
        };
        let lease = Lease { spec: Some(released), ..observed.lease };
        let params = PostParams::default();
        let write = self.api.replace(&self.config.name, &params, &lease);
        match tokio::time::timeout(self.config.retry_period, write).await {
            Ok(Ok(_)) => tracing::info!(lease = self.config.name, "lease released"),
            Ok(Err(error)) if client::is_conflict(&error) => {}
            Ok(Err(error)) => tracing::warn!(lease = self.config.name, %error, "lease not released"),
            Err(_) => tracing::warn!(lease = self.config.name, "lease not released in time"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config {
            namespace: "kube-system".into(),
            name: "kube-scheduler".into(),
            identity: "me".into(),
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }

    fn lease(holder: &str) -> Lease {
        let spec = LeaseSpec {
            holder_identity: Some(holder.into()),
            lease_transitions: Some(3),
            acquire_time: Some(MicroTime(Timestamp::UNIX_EPOCH)),
            ..LeaseSpec::default()
        };
        Lease { metadata: ObjectMeta::default(), spec: Some(spec) }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_is_taken_only_when_free_ours_or_expired_on_our_clock() {
        let wall = Timestamp::from_second(1000).unwrap();
        let since = Instant::now();
        let at = |holder, seconds| {
            step(&Observed { lease: lease(holder), since }, &config(), since + Duration::from_secs(seconds), wall)
        };
        assert_eq!(at("other", 14), Step::Follow("other".into()));
        for (holder, seconds, transitions, acquired) in
            [("other", 15, 4, 1000), ("", 0, 4, 1000), ("me", 0, 3, 0), ("me", 99, 3, 0)]
        {
            let Step::Write(spec) = at(holder, seconds) else { panic!("{holder} {seconds}: not taken") };
            assert_eq!(spec.holder_identity.as_deref(), Some("me"));
            assert_eq!(spec.lease_transitions, Some(transitions), "{holder} {seconds}");
            assert_eq!(spec.acquire_time.unwrap().0.as_second(), acquired);
            assert_eq!(spec.renew_time.unwrap().0, wall);
        }
    }

    #[test]
    fn durations_must_fit_each_other() {
        assert!(config().check().is_ok());
        assert!(Config { renew_deadline: Duration::from_secs(15), ..config() }.check().is_err());
        assert!(Config { retry_period: Duration::from_secs(9), ..config() }.check().is_err());
    }
}
