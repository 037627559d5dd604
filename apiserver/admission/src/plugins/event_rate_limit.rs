//! EventRateLimit: not more events than the configuration says: in all, in a namespace, of a user, or about the same.

use std::collections::HashMap;

use apimachinery::ApiError;
use apiserver_auth::clock::Clock;
use async_trait::async_trait;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::Value;

use crate::object::text;
use crate::{Attributes, Plugin};

/// The kinds that the configuration comes as.
pub const KINDS: [(&str, &str); 1] = [("eventratelimit.admission.k8s.io/v1alpha1", "Configuration")];

const DEFAULT_CACHE_SIZE: usize = 4096;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Configuration {
    #[serde(default)]
    limits: Vec<Limit>,
}

impl Configuration {
    /// Finds limits that limit nothing, or everything.
    ///
    /// # Errors
    /// The first, in words.
    pub fn check(&self) -> Result<(), String> {
        if self.limits.is_empty() {
            return Err("limits must not be empty".to_owned());
        }
        match self.limits.iter().position(|limit| limit.qps == 0 || limit.burst == 0) {
            Some(at) => Err(format!("limits[{at}]: qps and burst must be positive")),
            None => Ok(()),
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Limit {
    #[serde(rename = "type")]
    kind: Kind,
    /// How many events a second, on average.
    qps: u32,
    /// How many at once.
    burst: u32,
    /// Of how many namespaces, users or sources the events are counted.
    #[serde(default)]
    cache_size: usize,
}

/// Which events are counted together.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
enum Kind {
    Server,
    Namespace,
    User,
    SourceAndObject,
}

impl Kind {
    fn key(self, a: &Attributes<'_>, event: &Value) -> String {
        match self {
            Kind::Server => String::new(),
            Kind::Namespace => a.namespace.to_owned(),
            Kind::User => a.user.name.clone(),
            Kind::SourceAndObject => [
                "/source/component",
                "/source/host",
                "/involvedObject/kind",
                "/involvedObject/namespace",
                "/involvedObject/name",
                "/involvedObject/uid",
                "/involvedObject/apiVersion",
            ]
            .map(|pointer| text(event, pointer))
            .concat(),
        }
    }
}

/// What is left for a key, and as of when.
struct Bucket {
    left: f64,
    at: Timestamp,
}

struct Enforcer {
    limit: Limit,
    buckets: Mutex<HashMap<String, Bucket>>,
}

impl Enforcer {
    /// Takes one from what is left, if there is one.
    fn accepts(&self, key: &str, now: Timestamp) -> bool {
        let burst = f64::from(self.limit.burst);
        let size = match self.limit.cache_size {
            0 => DEFAULT_CACHE_SIZE,
            size => size,
        };
        let mut buckets = self.buckets.lock();
        if buckets.len() >= size && !buckets.contains_key(key) {
            let oldest = buckets.iter().min_by_key(|(_, bucket)| bucket.at).map(|(key, _)| key.clone());
            oldest.map(|key| buckets.remove(&key));
        }
        let bucket = buckets.entry(key.to_owned()).or_insert(Bucket { left: burst, at: now });
        let passed = now.duration_since(bucket.at).as_secs_f64().max(0.0);
        bucket.left = (bucket.left + passed * f64::from(self.limit.qps)).min(burst);
        bucket.at = now;
        let accepts = bucket.left >= 1.0;
        if accepts {
            bucket.left -= 1.0;
        }
        accepts
    }
}

pub struct EventRateLimit {
    enforcers: Vec<Enforcer>,
    clock: Clock,
}

impl EventRateLimit {
    pub fn new(clock: Clock, configuration: Configuration) -> Self {
        let enforcers = configuration.limits.into_iter().map(|limit| Enforcer { limit, buckets: Mutex::default() });
        EventRateLimit { enforcers: enforcers.collect(), clock }
    }
}

#[async_trait]
impl Plugin for EventRateLimit {
    fn name(&self) -> &'static str {
        "EventRateLimit"
    }

    fn handles(&self, a: &Attributes<'_>) -> bool {
        a.is("", "events") && a.writes() && !a.dry_run
    }

    async fn validate(&self, a: &Attributes<'_>, object: Option<&Value>, _: Option<&Value>) -> Result<(), ApiError> {
        let Some(event) = object else { return Ok(()) };
        let now = (self.clock)();
        let mut refusal = None;
        // All are asked: an event that one refuses counts for the others too.
        for enforcer in &self.enforcers {
            let key = enforcer.limit.kind.key(a, event);
            if !enforcer.accepts(&key, now) {
                refusal = Some(format!("limit reached on type {:?} for key {key}", enforcer.limit.kind));
            }
        }
        refusal.map_or(Ok(()), |message| Err(ApiError::too_many_requests(message, 1)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};

    use serde_json::json;

    use super::*;
    use crate::Operation;
    use crate::testing::attributes;

    #[tokio::test]
    async fn events_beyond_the_rate_are_refused_until_time_has_passed() {
        let limits = json!({"limits": [
            {"type": "Namespace", "qps": 1, "burst": 2, "cacheSize": 1},
            {"type": "SourceAndObject", "qps": 100, "burst": 100},
        ]});
        let seconds = Arc::new(AtomicI64::new(0));
        let now = seconds.clone();
        let clock: Clock = Arc::new(move || Timestamp::from_second(now.load(Ordering::SeqCst)).expect("a time"));
        let configuration: Configuration = serde_json::from_value(limits).expect("a configuration");
        assert!(Configuration::default().check().is_err() && configuration.check().is_ok());
        let plugin = EventRateLimit::new(clock, configuration);
        let event = json!({"source": {"component": "c"}, "involvedObject": {"kind": "Pod", "name": "p"}});
        let create = async |namespace: &'static str| {
            let a = Attributes { namespace, ..attributes(Operation::Create, "", "events") };
            assert!(plugin.handles(&a));
            plugin.validate(&a, Some(&event), None).await.map_err(|error| (error.code(), error.0.message))
        };
        let refusal = Err((429, "limit reached on type Namespace for key a".to_owned()));
        assert_eq!([create("a").await, create("a").await, create("a").await], [Ok(()), Ok(()), refusal]);
        seconds.store(1, Ordering::SeqCst);
        assert_eq!(create("a").await, Ok(()));
        assert!(create("a").await.is_err());
        assert_eq!(create("b").await, Ok(()), "each namespace has its own, and the cache holds one");
        assert_eq!(create("a").await, Ok(()), "which was forgotten");
    }
}
