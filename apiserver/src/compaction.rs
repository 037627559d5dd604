//! Compaction of etcd: what was overwritten or deleted longer ago than an interval is given up. Of several apiservers, one does it
//! each time.
//!
//! They agree by the version of one key, which those of Kubernetes use too: who raises it compacts, to the revision that it saw an
//! interval ago.

use std::time::Duration;

use etcd_client::{Client, Compare, CompareOp, Error, Txn, TxnOp, TxnOpResponse};
use tokio_util::sync::CancellationToken;

const KEY: &str = "compact_rev_key";

/// What one apiserver knows of the last compaction.
struct Compactor {
    client: Client,
    /// The version of the key.
    version: i64,
    /// The revision of etcd then.
    revision: i64,
}

impl Compactor {
    fn new(client: Client) -> Self {
        Compactor { client, version: 0, revision: 0 }
    }

    /// Compacts, unless another server did since the last time. The revision up to which history was given up.
    async fn round(&mut self) -> Result<Option<i64>, Error> {
        let txn = Txn::new()
            .when([Compare::version(KEY, CompareOp::Equal, self.version)])
            .and_then([TxnOp::put(KEY, self.revision.to_string(), None)])
            .or_else([TxnOp::get(KEY, None)]);
        let response = self.client.txn(txn).await?;
        let now = response.header().map_or(0, |header| header.revision());
        let seen = std::mem::replace(&mut self.revision, now);
        if !response.succeeded() {
            self.version = version(&response.op_responses());
            return Ok(None);
        }
        self.version += 1;
        if seen == 0 {
            return Ok(None);
        }
        self.client.compact(seen, None).await?;
        Ok(Some(seen))
    }
}

fn version(responses: &[TxnOpResponse]) -> i64 {
    let keys = responses.iter().filter_map(|response| match response {
        TxnOpResponse::Get(get) => get.kvs().first(),
        _ => None,
    });
    keys.map(etcd_client::KeyValue::version).next().unwrap_or_default()
}

/// Takes part in compaction until shutdown. An interval of zero: not at all.
pub async fn run(client: Client, interval: Duration, shutdown: CancellationToken) {
    if interval.is_zero() {
        return;
    }
    let mut compactor = Compactor::new(client);
    while shutdown.run_until_cancelled(tokio::time::sleep(interval)).await.is_some() {
        match compactor.round().await {
            Ok(Some(revision)) => tracing::info!(revision, "etcd was compacted"),
            Ok(None) => tracing::debug!("etcd was compacted by another server, or it is the first time"),
            Err(error) => tracing::warn!(%error, "etcd could not be compacted"),
        }
    }
}

#[cfg(test)]
mod tests {
    use e2e::ControlPlane;
    use etcd_client::GetOptions;

    use super::*;
    use crate::testing;

    async fn put(client: &mut Client, value: &str) -> i64 {
        let response = client.put("/test", value, None).await.expect("etcd");
        response.header().expect("a header").revision()
    }

    async fn get_at(client: &mut Client, revision: i64) -> Result<String, Error> {
        let response = client.get("/test", Some(GetOptions::new().with_revision(revision))).await?;
        Ok(response.kvs()[0].value_str()?.to_owned())
    }

    #[tokio::test]
    async fn of_two_servers_one_gives_up_what_was_there_two_rounds_ago() {
        let plane = ControlPlane::start().await.expect("etcd");
        let mut client = testing::client(&plane).await;
        let mut servers = [Compactor::new(client.clone()), Compactor::new(client.clone())];
        let first = put(&mut client, "first").await;
        for server in &mut servers {
            assert_eq!(server.round().await.expect("etcd"), None, "nothing is known yet");
        }
        let second = put(&mut client, "second").await;
        assert_eq!(get_at(&mut client, first).await.expect("kept"), "first");
        let mut compacted = Vec::new();
        for server in &mut servers {
            compacted.extend(server.round().await.expect("etcd"));
        }
        assert_eq!(compacted.len(), 1, "one of them compacts");
        assert!((first..second).contains(&compacted[0]), "{compacted:?}");
        assert!(get_at(&mut client, first - 1).await.expect_err("given up").to_string().contains("compacted"));
        assert_eq!(get_at(&mut client, second).await.expect("kept"), "second");
        // The other one goes on when the first is gone.
        let [_, survivor] = &mut servers;
        survivor.round().await.expect("etcd");
        assert!(survivor.round().await.expect("etcd").is_some());
        assert!(get_at(&mut client, second - 1).await.is_err());
    }
}
