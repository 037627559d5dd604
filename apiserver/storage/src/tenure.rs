//! Who may write: an agreement between the apiservers of one etcd that lets a lone one read consistently without asking.
//!
//! A server that is alone holds the key [`keys::SOLE`]. Every write of every server compares that key in its transaction, so that
//! while one holds it, no other one writes. What the holder reads from its cache is then consistent as soon as the cache has
//! its own last write. A second server makes itself known by a key of its own; the holder gives up at once, and both ask etcd at
//! each read from then on.
//!
//! Invariant: [`Tenure::known`] answers only within the life of the lease that [`keys::SOLE`] is bound to. That life is counted
//! from when its renewal was sent, so that it ends here before it ends in etcd: only the rate of the clock is trusted.
//!
//! Servers of upstream Kubernetes do not take part. While one of them is alive, which its identity Lease shows, no tenure is held.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use apimachinery::time::Moment;
use etcd_client::{
    Client, Compare, CompareOp, EventType, GetOptions, KeyValue, LeaseKeepAliveStream, LeaseKeeper, PutOptions,
    ResponseHeader, Txn, TxnOp, TxnOpResponse, WatchOptions, WatchResponse, WatchStream,
};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::cache::Cache;
use crate::error::Error;
use crate::etcd::{Etcd, timely};
use crate::keys;

/// How long a server that is gone holds its keys.
const LEASE: Duration = Duration::from_secs(5);
/// How long a write waits for a server that is gone: its lease, and the time that etcd takes to end it.
pub const PATIENCE: Duration = Duration::from_secs(10);
const RENEW: Duration = Duration::from_millis(1500);
/// The part of the lease's life that is relied on: clocks may differ in rate.
const RELIED_ON: f64 = 0.8;
const RETRY: Duration = Duration::from_millis(250);
/// Servers of Kubernetes renew their identity Lease every ten seconds.
const IDENTITY_LIFE: Duration = Duration::from_secs(60);
const IDENTITIES: &str = "/registry/leases/kube-system/apiserver-";

/// What this server may write under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Not known yet, or another server is the only one that may write.
    Waiting,
    /// Every server may write.
    Shared,
    /// Only this server may write, by this lease.
    Sole { lease: i64 },
}

impl Mode {
    /// What must hold in the transaction of a write.
    pub fn condition(self) -> Option<Compare> {
        match self {
            Mode::Waiting => None,
            Mode::Shared => Some(Compare::version(keys::SOLE, CompareOp::Equal, 0)),
            Mode::Sole { lease } => Some(Compare::lease(keys::SOLE, CompareOp::Equal, lease)),
        }
    }
}

/// What is known of the agreement.
pub struct Tenure {
    mode: watch::Sender<Mode>,
    born: Instant,
    /// Until when no other server can have written, in nanoseconds since `born`.
    until: AtomicU64,
    /// The last revision that this server has written.
    written: AtomicI64,
}

impl Default for Tenure {
    fn default() -> Self {
        Tenure {
            mode: watch::Sender::new(Mode::Waiting),
            born: Instant::now(),
            until: AtomicU64::new(0),
            written: AtomicI64::new(0),
        }
    }
}

impl Tenure {
    /// The revision that contains every write there is, where that is known without asking.
    pub fn known(&self) -> Option<i64> {
        let now = self.born.elapsed().as_nanos() as u64;
        (now < self.until.load(Ordering::Acquire)).then(|| self.written.load(Ordering::Acquire))
    }

    /// Notes a write of this server, before anyone is told of it.
    pub fn wrote(&self, revision: i64) {
        self.written.fetch_max(revision, Ordering::AcqRel);
    }

    /// Announces every mode.
    pub fn modes(&self) -> watch::Receiver<Mode> {
        self.mode.subscribe()
    }

    fn rely_on(&self, renewed: Instant) {
        let until = renewed.saturating_duration_since(self.born) + LEASE.mul_f64(RELIED_ON);
        self.until.store(until.as_nanos() as u64, Ordering::Release);
    }

    fn give_up(&self) {
        self.until.store(0, Ordering::Release);
    }
}

/// Takes part in the agreement on behalf of one server.
pub struct Keeper {
    pub etcd: Etcd,
    pub cache: Arc<Cache>,
    pub tenure: Arc<Tenure>,
    /// The server's name: that of no other process that is alive.
    pub server: String,
}

/// The keys of the agreement, as etcd has them at a revision.
struct View {
    keys: BTreeMap<String, String>,
    revision: i64,
}

impl View {
    fn new(kvs: &[KeyValue], revision: i64) -> Self {
        View { keys: kvs.iter().map(text).collect(), revision }
    }

    /// Takes events into account that came after the view was read.
    fn take(&mut self, change: &WatchResponse) {
        for event in change.events() {
            let Some(kv) = event.kv().filter(|kv| kv.mod_revision() > self.revision) else { continue };
            let (key, value) = text(kv);
            match event.event_type() {
                EventType::Put => self.keys.insert(key, value),
                EventType::Delete => self.keys.remove(&key),
            };
        }
    }

    fn holder(&self) -> Option<&str> {
        self.keys.get(keys::SOLE).map(String::as_str)
    }

    fn has_others(&self, server: &str) -> bool {
        self.keys.keys().filter_map(|key| key.strip_prefix(keys::SERVERS)).any(|other| other != server)
    }
}

/// A lease, and what is kept by it.
struct Term {
    client: Client,
    lease: i64,
    renewed: Instant,
    keeper: LeaseKeeper,
    renewals: LeaseKeepAliveStream,
    changes: WatchStream,
    view: View,
}

impl Keeper {
    /// Takes part until shutdown, and leaves the agreement then.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut lease = None;
        loop {
            let ended = tokio::select! {
                () = shutdown.cancelled() => break,
                ended = self.serve(&mut lease) => ended,
            };
            if let Err(error) = ended {
                warn!(%error, "the agreement with other servers is interrupted");
            }
            tokio::time::sleep(RETRY).await;
        }
        self.tenure.give_up();
        if let Some(lease) = lease
            && let Err(error) = timely(self.etcd.client().lease_revoke(lease)).await
        {
            warn!(%error, "the agreement with other servers ends by itself");
        }
    }

    async fn serve(&self, lease: &mut Option<i64>) -> Result<(), Error> {
        // Which other servers are alive is in the cache.
        let mut revisions = self.cache.revisions();
        drop(revisions.wait_for(|revision| *revision > 0).await);
        let mut term = self.begin(lease).await?;
        let mut renew = tokio::time::interval(RENEW);
        renew.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut asked = term.renewed;
        loop {
            self.decide(&mut term).await?;
            tokio::select! {
                _ = renew.tick() => {
                    asked = Instant::now();
                    timely(term.keeper.keep_alive()).await?;
                }
                renewal = term.renewals.message() => match renewal? {
                    Some(renewal) if renewal.ttl() > 0 => self.renewed(&mut term, asked),
                    _ => return Err(Error::Unavailable("the lease has expired".into())),
                },
                change = term.changes.message() => match change? {
                    Some(change) if !change.canceled() => term.view.take(&change),
                    _ => return Err(Error::Unavailable("the watch was closed".into())),
                },
            }
        }
    }

    async fn begin(&self, slot: &mut Option<i64>) -> Result<Term, Error> {
        let mut client = self.etcd.client();
        let renewed = Instant::now();
        let lease = timely(client.lease_grant(LEASE.as_secs() as i64, None)).await?.id();
        *slot = Some(lease);
        let bound = PutOptions::new().with_lease(lease);
        timely(client.put(format!("{}{}", keys::SERVERS, self.server), "", Some(bound))).await?;
        let found = timely(client.get(keys::OWN, Some(GetOptions::new().with_prefix()))).await?;
        let view = View::new(found.kvs(), revision_of(found.header()));
        let options = WatchOptions::new().with_prefix().with_start_revision(view.revision + 1);
        let changes = timely(client.watch(keys::OWN, Some(options))).await?;
        let (keeper, renewals) = timely(client.lease_keep_alive(lease)).await?;
        Ok(Term { client, lease, renewed, keeper, renewals, changes, view })
    }

    fn renewed(&self, term: &mut Term, asked: Instant) {
        term.renewed = asked;
        if *self.tenure.mode.borrow() == (Mode::Sole { lease: term.lease }) {
            self.tenure.rely_on(asked);
        }
    }

    /// Brings the mode to what the keys say, and claims or gives up the sole right.
    async fn decide(&self, term: &mut Term) -> Result<(), Error> {
        let alone = self.is_alone(&term.view);
        let holder = term.view.holder();
        let mode = *self.tenure.mode.borrow();
        match (holder, alone) {
            (Some(holder), true) if holder == self.server && mode == (Mode::Sole { lease: term.lease }) => Ok(()),
            // Its own, from before: as another process, or by a lease that has expired.
            (Some(holder), true) if holder == self.server => {
                let own = Compare::value(keys::SOLE, CompareOp::Equal, self.server.clone());
                self.claim(term, own).await
            }
            (None, true) => self.claim(term, Compare::version(keys::SOLE, CompareOp::Equal, 0)).await,
            (Some(holder), false) if holder == self.server => self.step_down(term).await,
            (Some(_), _) => {
                self.announce(Mode::Waiting);
                Ok(())
            }
            (None, false) => {
                self.announce(Mode::Shared);
                Ok(())
            }
        }
    }

    fn announce(&self, mode: Mode) {
        if !matches!(mode, Mode::Sole { .. }) {
            self.tenure.give_up();
        }
        // Writers that were refused wait for any announcement, also for the same mode again.
        if self.tenure.mode.send_replace(mode) != mode {
            info!(?mode, "the agreement with other servers");
        }
    }

    fn is_alone(&self, view: &View) -> bool {
        !view.has_others(&self.server) && !upstream_is_alive(&self.cache)
    }

    async fn claim(&self, term: &mut Term, condition: Compare) -> Result<(), Error> {
        let bound = PutOptions::new().with_lease(term.lease);
        let txn = Txn::new().when([condition]).and_then([
            TxnOp::put(keys::SOLE, self.server.clone(), Some(bound)),
            TxnOp::get(keys::OWN, Some(GetOptions::new().with_prefix())),
        ]);
        let response = timely(term.client.txn(txn)).await?;
        if !response.succeeded() {
            // Someone was faster; the watch will tell.
            self.announce(Mode::Waiting);
            return Ok(());
        }
        let revision = revision_of(response.header());
        for operation in response.op_responses() {
            if let TxnOpResponse::Get(found) = operation {
                term.view = View::new(found.kvs(), revision);
            }
        }
        if !self.is_alone(&term.view) {
            return self.step_down(term).await;
        }
        // Writes of others come before this one.
        self.tenure.wrote(revision);
        self.tenure.rely_on(term.renewed);
        self.announce(Mode::Sole { lease: term.lease });
        Ok(())
    }

    async fn step_down(&self, term: &mut Term) -> Result<(), Error> {
        self.tenure.give_up();
        let own = Compare::value(keys::SOLE, CompareOp::Equal, self.server.clone());
        let txn = Txn::new().when([own]).and_then([TxnOp::delete(keys::SOLE, None)]);
        let response = timely(term.client.txn(txn)).await?;
        term.view.keys.remove(keys::SOLE);
        term.view.revision = revision_of(response.header());
        self.announce(Mode::Shared);
        Ok(())
    }
}

fn revision_of(header: Option<&ResponseHeader>) -> i64 {
    header.map_or(0, ResponseHeader::revision)
}

fn text(kv: &KeyValue) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(kv.key()), text(kv.value()))
}

/// Whether a server that is not of this agreement renews its identity (KEP-1965).
fn upstream_is_alive(cache: &Cache) -> bool {
    let horizon = Moment::now().seconds - IDENTITY_LIFE.as_secs() as i64;
    let snapshot = cache.snapshot();
    snapshot.range(IDENTITIES, None).any(|lease| {
        let renewed = lease.text(&["spec", "renewTime"]).and_then(|time| Moment::parse(&time));
        renewed.is_some_and(|renewed| renewed.seconds > horizon)
    })
}
