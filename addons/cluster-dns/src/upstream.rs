//! Names of the rest of the world: asked of other servers, remembered for a short time, and each asked only once at a time.

mod cache;
mod exchange;

use cache::{Cache, Key};
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use hickory_proto::op::{Message, OpCode, Query, ResponseCode};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::Semaphore;

/// How many questions may be open at a time. Past it, clients are told to try again.
const MAX_OPEN: usize = 512;

type Open = Shared<BoxFuture<'static, Arc<Message>>>;

/// Clones share the memory and the open questions.
#[derive(Clone)]
pub struct Upstream {
    inner: Arc<Inner>,
}

struct Inner {
    servers: Vec<SocketAddr>,
    cache: Mutex<Cache>,
    /// A question that is being asked is not asked again: those who ask too wait for the same answer. That also keeps a loop of servers
    /// from growing, for a question that comes back finds itself here.
    open: Mutex<HashMap<Key, Open>>,
    permits: Semaphore,
}

impl Upstream {
    pub fn new(servers: Vec<SocketAddr>) -> Self {
        let inner =
            Inner { servers, cache: Mutex::default(), open: Mutex::default(), permits: Semaphore::new(MAX_OPEN) };
        Self { inner: Arc::new(inner) }
    }

    pub fn servers(&self) -> &[SocketAddr] {
        &self.inner.servers
    }

    /// The answer, or `SERVFAIL`. Header fields that belong to the request are the caller's to set.
    pub async fn resolve(&self, query: &Query, dnssec: bool) -> Message {
        let key = Key::new(query, dnssec);
        if let Some(known) = self.inner.cache.lock().get(&key, Instant::now()) {
            return known;
        }
        let open = {
            let mut open = self.inner.open.lock();
            let entry = open.entry(key.clone()).or_insert_with(|| {
                let (inner, key, query) = (self.inner.clone(), key.clone(), query.clone());
                // A task of its own: it ends even if the client that asked first goes away.
                let task = tokio::spawn(async move { inner.ask(key, query, dnssec).await });
                async move { task.await.unwrap_or_else(|_| Arc::new(failure(ResponseCode::ServFail))) }.boxed().shared()
            });
            entry.clone()
        };
        Message::clone(&*open.await)
    }
}

impl Inner {
    async fn ask(&self, key: Key, query: Query, dnssec: bool) -> Arc<Message> {
        let answer = match self.permits.try_acquire() {
            Ok(_permit) => exchange::ask(&self.servers, &query, dnssec).await,
            Err(_) => {
                tracing::warn!(limit = MAX_OPEN, "too many questions are open");
                Err(exchange::Error::NoServer)
            }
        };
        let message = answer.unwrap_or_else(|error| {
            tracing::debug!(%error, %query, "no upstream server answered");
            failure(ResponseCode::ServFail)
        });
        self.cache.lock().put(key.clone(), &message, Instant::now());
        self.open.lock().remove(&key);
        Arc::new(message)
    }
}

fn failure(code: ResponseCode) -> Message {
    Message::error_msg(0, OpCode::Query, code)
}

/// The servers of a resolv.conf, without those that can only be this one: loopback, and the addresses in `own`.
pub fn servers_in(resolv_conf: &str, own: &[IpAddr]) -> Vec<SocketAddr> {
    let words = resolv_conf.lines().map(str::split_whitespace).filter_map(|mut line| match line.next() {
        Some("nameserver") => line.next(),
        _ => None,
    });
    let ips = words.filter_map(|word| word.split('%').next().unwrap_or(word).parse::<IpAddr>().ok());
    ips.filter(|ip| !ip.is_loopback() && !own.contains(ip)).map(|ip| SocketAddr::new(ip, 53)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_come_from_resolv_conf_without_ourselves() {
        let text = "# comment\nsearch x\nnameserver 10.0.0.2\nnameserver 127.0.0.53\nnameserver fe80::1%eth0\nnameserver 10.96.0.10\n";
        let servers = servers_in(text, &["10.96.0.10".parse().unwrap()]);
        assert_eq!(servers, ["10.0.0.2:53".parse().unwrap(), "[fe80::1]:53".parse::<SocketAddr>().unwrap()]);
    }
}
