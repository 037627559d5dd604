//! The loop between planning and the kernel: the first change goes out at once, those that follow gather for the least
//! time between two changes, a failure is retried with everything, and now and then the table is looked for.

use crate::conntrack::Conntrack;
use crate::health::Status;
use crate::metrics::Metrics;
use crate::nft::{self, Nft};
use crate::proxier::{Proxier, Sync};
use crate::transaction::{TABLE, Transaction};
use crate::view::Family;
use component_base::shutdown::Shutdown;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// The waits after failures: double, up to the last.
const FIRST_RETRY: Duration = Duration::from_millis(200);
const LAST_RETRY: Duration = Duration::from_secs(30);

pub struct Syncer {
    pub proxier: Arc<Mutex<Proxier>>,
    /// Told when the proxier has something to do.
    pub wake: Arc<Notify>,
    pub nft: Arc<dyn Nft>,
    pub conntrack: Arc<dyn Conntrack>,
    pub families: Vec<Family>,
    pub min_period: Duration,
    pub check_period: Duration,
    pub status: Arc<Status>,
    pub metrics: Metrics,
    /// Counts synchronizations, for those who wait for one.
    pub done: watch::Sender<u64>,
}

impl Syncer {
    pub async fn run(self, shutdown: Shutdown) {
        let mut next_allowed = Instant::now();
        let mut failures = 0;
        loop {
            let wait = if failures > 0 { retry_delay(failures) } else { self.check_period };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.woken(), if failures == 0 => {}
                () = tokio::time::sleep(wait) => self.look_for_table().await,
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep_until(next_allowed) => {}
            }
            failures = if self.sync().await { 0 } else { failures + 1 };
            next_allowed = Instant::now() + self.min_period;
        }
    }

    async fn woken(&self) {
        if !self.proxier.lock().is_dirty() {
            self.wake.notified().await;
        }
    }

    /// One synchronization. Says if the kernel took it.
    pub async fn sync(&self) -> bool {
        let planned = {
            let mut proxier = self.proxier.lock();
            if !proxier.is_dirty() {
                return true;
            }
            proxier.plan()
        };
        let begin = Instant::now();
        let applied = self.apply(planned).await;
        self.metrics.synced(begin.elapsed(), applied.is_ok());
        match applied {
            Ok(()) => {
                self.status.synced();
                self.done.send_modify(|n| *n += 1);
                true
            }
            Err(error) => {
                tracing::error!(%error, "the rules could not be changed, and will be rebuilt");
                self.proxier.lock().failed();
                false
            }
        }
    }

    async fn apply(&self, sync: Sync) -> Result<(), nft::Error> {
        if !sync.transaction.is_empty() {
            self.status.pending();
            let script = render(sync.transaction);
            self.nft.apply(&script).await?;
        }
        for cut in &sync.cuts {
            if let Err(error) = self.conntrack.cut(cut).await {
                tracing::warn!(%error, ?cut, "UDP flows to an endpoint that is gone could not be cut");
            }
        }
        Ok(())
    }

    /// Another program may have removed the table: then it is built again.
    async fn look_for_table(&self) {
        for family in &self.families {
            let look = format!("chain {} {TABLE} services", family.nft());
            if let Err(error) = self.nft.list(&look).await {
                tracing::warn!(%error, family = family.nft(), "the table is gone, and will be rebuilt");
                self.proxier.lock().failed();
            }
        }
    }
}

fn render(transaction: Transaction) -> String {
    let script = transaction.render();
    tracing::debug!(objects = transaction.len(), bytes = script.len(), "changing the rules");
    script
}

fn retry_delay(failures: u32) -> Duration {
    FIRST_RETRY.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1))).min(LAST_RETRY)
}

#[cfg(test)]
mod tests;
