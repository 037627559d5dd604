//! Node ports: one `RangeAllocation` with a bit for each port, changed by compare and write, so that several servers share it.
//!
//! When a port was taken is noted beside the bits for a while: until its Service is written, nothing else tells that it is in use.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use apimachinery::{ApiError, time};
use apiserver_storage::{Object, Store, Written};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rand::Rng;
use serde_json::{Value, json};

use super::node_ports::{self, Refused, Source};

const KEY: &str = "/registry/ranges/servicenodeports";
/// How often a change is tried again when others change the bits.
const MAX_TRIES: usize = 64;
/// The annotation that says when ports were taken, in milliseconds since 1970.
const TAKEN: &str = "ranges.corten.dev/taken";
/// The first port that a trial names where any would do.
const ANY_OF_TRIAL: i64 = 32_768;

/// Hands out node ports.
pub struct Ports {
    store: Store,
    range: RangeInclusive<u16>,
}

/// The ports that are taken, and when those were that were taken lately.
#[derive(Clone, Default, PartialEq)]
struct Ledger {
    bits: Vec<u8>,
    taken: BTreeMap<u16, i64>,
}

impl Ledger {
    fn of(object: Option<&Object>) -> Self {
        let Some(value) = object.map(Object::to_value) else { return Ledger::default() };
        let text = |field: &Value| field.as_str().unwrap_or_default().to_owned();
        // Bits that cannot be read count as none: repair sets those that Services have.
        let bits = STANDARD.decode(text(&value["data"])).unwrap_or_default();
        let taken = serde_json::from_str(&text(&value["metadata"]["annotations"][TAKEN])).unwrap_or_default();
        Ledger { bits, taken }
    }

    fn to_value(&self, range: &str) -> Value {
        let mut object = json!({"apiVersion": "v1", "kind": "RangeAllocation", "metadata": {}, "range": range,
            "data": STANDARD.encode(&self.bits)});
        if !self.taken.is_empty() {
            object["metadata"]["annotations"] = json!({TAKEN: json!(self.taken).to_string()});
        }
        object
    }

    fn get(&self, bit: usize) -> bool {
        self.bits.get(bit / 8).is_some_and(|byte| byte & (1 << (bit % 8)) != 0)
    }

    fn set(&mut self, bit: usize, value: bool) {
        if self.bits.len() <= bit / 8 {
            self.bits.resize(bit / 8 + 1, 0);
        }
        let mask = 1 << (bit % 8);
        if value { self.bits[bit / 8] |= mask } else { self.bits[bit / 8] &= !mask }
    }
}

/// Milliseconds since 1970.
pub fn now() -> i64 {
    let now = time::Moment::now();
    now.seconds * 1000 + i64::from(now.nanos / 1_000_000)
}

/// A ledger that ports are being taken from.
struct Open<'a> {
    ledger: Ledger,
    range: &'a RangeInclusive<u16>,
    now: i64,
    taken: Vec<u16>,
}

impl Open<'_> {
    fn bit(&self, port: u16) -> usize {
        usize::from(port - self.range.start())
    }

    fn note(&mut self, port: u16) {
        let bit = self.bit(port);
        self.ledger.set(bit, true);
        self.ledger.taken.insert(port, self.now);
        self.taken.push(port);
    }
}

impl Source for Open<'_> {
    fn take(&mut self, port: i64) -> Result<(), Refused> {
        let (low, high) = (self.range.start(), self.range.end());
        let Some(port) = u16::try_from(port).ok().filter(|port| self.range.contains(port)) else {
            let detail = format!("provided port is not in the valid range. The range of valid ports is {low}-{high}");
            return Err(Refused::Given(detail));
        };
        if self.ledger.get(self.bit(port)) {
            return Err(Refused::Given("provided port is already allocated".into()));
        }
        self.note(port);
        Ok(())
    }

    fn take_any(&mut self) -> Result<i64, Refused> {
        let (low, high) = (*self.range.start(), *self.range.end());
        let start = rand::rng().random_range(low..=high);
        let free = (start..=high).chain(low..start).find(|port| !self.ledger.get(self.bit(*port)));
        let port = free.ok_or_else(|| Refused::Any("range is full".into()))?;
        self.note(port);
        Ok(port.into())
    }
}

/// A trial: nothing is taken, so that a port is only refused that another has, and any port is as good as the next.
struct Trial<'a> {
    open: Open<'a>,
    named: Vec<i64>,
}

impl Source for Trial<'_> {
    fn take(&mut self, port: i64) -> Result<(), Refused> {
        let known = u16::try_from(port).ok().filter(|port| self.open.range.contains(port));
        if self.named.contains(&port) || known.is_some_and(|port| self.open.ledger.get(self.open.bit(port))) {
            return Err(Refused::Given("provided port is already allocated".into()));
        }
        self.named.push(port);
        Ok(())
    }

    fn take_any(&mut self) -> Result<i64, Refused> {
        let port = self.named.iter().max().map_or(ANY_OF_TRIAL, |highest| highest.saturating_add(1));
        self.named.push(port);
        Ok(port)
    }
}

impl Ports {
    pub fn new(store: Store, range: RangeInclusive<u16>) -> Self {
        Ports { store, range }
    }

    /// Takes the ports that a Service needs beyond those it had as `old`. The Service with its ports, and the ports that were taken.
    ///
    /// # Errors
    /// `Invalid` for a port that cannot be had; `InternalError` when none is left.
    pub async fn allocate(
        &self,
        service: &Value,
        old: Option<&Value>,
        dry_run: bool,
    ) -> Result<(Value, Vec<u16>), ApiError> {
        if !node_ports::concerns(service) {
            return Ok((service.clone(), Vec::new()));
        }
        if dry_run {
            let ledger = Ledger::of(self.store.get_from_etcd(KEY).await?.as_deref());
            let mut trial = Trial { open: self.open(ledger), named: Vec::new() };
            let mut service = service.clone();
            node_ports::allocate(&mut service, old, &mut trial)?;
            return Ok((service, Vec::new()));
        }
        self.change(|ledger| {
            let mut open = self.open(ledger.clone());
            let mut service = service.clone();
            node_ports::allocate(&mut service, old, &mut open)?;
            *ledger = open.ledger;
            Ok((service, open.taken))
        })
        .await
    }

    fn open(&self, ledger: Ledger) -> Open<'_> {
        Open { ledger, range: &self.range, now: now(), taken: Vec::new() }
    }

    fn bit(&self, port: u16) -> Option<usize> {
        self.range.contains(&port).then(|| usize::from(port - self.range.start()))
    }

    /// Gives ports back that nobody else can have taken since, for a request that began at `since`: what it took itself, and what was
    /// taken before it.
    pub async fn give_back(&self, ports: &[u16], own: &[u16], since: i64) -> Result<(), ApiError> {
        if ports.is_empty() {
            return Ok(());
        }
        self.change(|ledger| {
            for (port, bit) in ports.iter().filter_map(|port| Some((port, self.bit(*port)?))) {
                let others = ledger.taken.get(port).is_some_and(|taken| *taken >= since) && !own.contains(port);
                if !others {
                    ledger.set(bit, false);
                    ledger.taken.remove(port);
                }
            }
            Ok(())
        })
        .await
    }

    /// Takes the ports that Services have, and gives back those that no Service has and that were taken longer ago than `in_flight`:
    /// a port is taken before its Service is written.
    pub async fn repair(&self, used: &[u16], in_flight: Duration) -> Result<(), ApiError> {
        let limit = now() - i64::try_from(in_flight.as_millis()).unwrap_or(i64::MAX);
        self.change(|ledger| {
            ledger.taken.retain(|_, taken| *taken > limit);
            let unused: Vec<u16> = self.range.clone().filter(|port| !used.contains(port)).collect();
            for (port, bit) in unused.iter().filter_map(|port| Some((port, self.bit(*port)?))) {
                if ledger.get(bit) && !ledger.taken.contains_key(port) {
                    tracing::info!(port, "a node port that no service has was given back");
                    ledger.set(bit, false);
                }
            }
            for bit in used.iter().filter_map(|port| self.bit(*port)) {
                ledger.set(bit, true);
            }
            Ok(())
        })
        .await
    }

    /// Changes the ledger by compare and write: `change` is asked again with what others made of it meanwhile.
    async fn change<T>(&self, change: impl Fn(&mut Ledger) -> Result<T, ApiError>) -> Result<T, ApiError> {
        let mut current = self.store.get_from_etcd(KEY).await?;
        for _ in 0..MAX_TRIES {
            let before = Ledger::of(current.as_deref());
            let mut ledger = before.clone();
            let result = change(&mut ledger)?;
            if ledger == before && current.is_some() {
                return Ok(result);
            }
            let range = format!("{}-{}", self.range.start(), self.range.end());
            let expected = current.as_ref().map_or(0, |object| object.revision);
            let json = ledger.to_value(&range).to_string().into_bytes();
            match self.store.update(KEY, json, expected, None).await? {
                Written::Done(_) => return Ok(result),
                Written::Conflict(found) => current = found,
            }
        }
        Err(ApiError::internal("the node ports are being changed by too many at once"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(range: &RangeInclusive<u16>) -> Open<'_> {
        Open { ledger: Ledger::default(), range, now: 7, taken: Vec::new() }
    }

    fn node_port(port: Option<u16>) -> Value {
        let mut service = json!({"metadata": {"name": "a"}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}});
        if let Some(port) = port {
            service["spec"]["ports"][0]["nodePort"] = json!(port);
        }
        service
    }

    async fn ports() -> (e2e::ControlPlane, Ports) {
        let plane = e2e::ControlPlane::start().await.expect("etcd");
        let store = crate::testing::store(&plane).await;
        (plane, Ports::new(store, 30_000..=30_999))
    }

    #[tokio::test]
    async fn repair_takes_back_what_no_service_has_but_not_what_a_request_has_just_taken() {
        let (_plane, ports) = ports().await;
        let service = node_port(Some(30_080));
        let (_, taken) = ports.allocate(&service, None, false).await.expect("free");
        assert_eq!(taken, [30_080]);
        ports.repair(&[30_081], Duration::from_secs(180)).await.expect("etcd");
        for taken in [30_080, 30_081] {
            assert!(ports.allocate(&node_port(Some(taken)), None, false).await.is_err(), "{taken}");
        }
        ports.repair(&[], Duration::ZERO).await.expect("etcd");
        for free in [30_080, 30_081] {
            assert!(ports.allocate(&node_port(Some(free)), None, false).await.is_ok(), "{free}");
        }
    }

    #[tokio::test]
    async fn requests_and_repairs_at_the_same_time_never_give_a_port_twice() {
        let (_plane, ports) = ports().await;
        let requests = (0..40).map(|_| async {
            let (service, taken) = ports.allocate(&node_port(None), None, false).await.expect("free");
            assert_eq!(service["spec"]["ports"][0]["nodePort"], taken[0]);
            taken[0]
        });
        let repairs = (0..10).map(|_| async { ports.repair(&[], Duration::from_secs(180)).await.expect("etcd") });
        let (mut given, _) = futures::join!(futures::future::join_all(requests), futures::future::join_all(repairs));
        let all = given.len();
        given.sort_unstable();
        given.dedup();
        assert_eq!(given.len(), all);
        for port in given {
            assert!(ports.allocate(&node_port(Some(port)), None, false).await.is_err(), "{port}");
        }
    }

    #[tokio::test]
    async fn a_port_that_another_has_taken_meanwhile_is_not_given_back() {
        let (_plane, ports) = ports().await;
        let began = now();
        tokio::time::sleep(Duration::from_millis(2)).await;
        ports.allocate(&node_port(Some(30_080)), None, false).await.expect("free");
        ports.give_back(&[30_080], &[], began).await.expect("etcd");
        assert!(ports.allocate(&node_port(Some(30_080)), None, false).await.is_err());
        ports.give_back(&[30_080], &[30_080], began).await.expect("etcd");
        assert!(ports.allocate(&node_port(Some(30_080)), None, false).await.is_ok());
    }

    #[test]
    fn bits_are_set_and_cleared_one_by_one() {
        let mut ledger = Ledger::default();
        ledger.set(9, true);
        assert!(ledger.get(9) && !ledger.get(8) && !ledger.get(1000));
        ledger.set(9, false);
        assert!(!ledger.get(9));
    }

    #[test]
    fn a_ledger_is_read_as_it_was_written() {
        let mut ledger = Ledger::default();
        ledger.set(3, true);
        ledger.taken.insert(30_003, 5);
        let json = ledger.to_value("30000-30010").to_string();
        let object = Object::new(KEY.into(), json.as_bytes(), 1).expect("an object");
        assert!(Ledger::of(Some(&object)) == ledger);
    }

    #[test]
    fn every_port_is_taken_once_and_none_outside() {
        let range = 30_000..=30_002;
        let mut open = open(&range);
        assert_eq!(open.take(30_001), Ok(()));
        assert!(matches!(open.take(30_001), Err(Refused::Given(_))));
        assert!(matches!(open.take(29_999), Err(Refused::Given(_))));
        assert!(matches!(open.take(i64::from(i32::MAX)), Err(Refused::Given(_))));
        let mut rest = [open.take_any(), open.take_any()].map(|port| port.expect("free"));
        rest.sort_unstable();
        assert_eq!(rest, [30_000, 30_002]);
        assert!(matches!(open.take_any(), Err(Refused::Any(_))));
        assert_eq!(open.ledger.taken.values().copied().collect::<Vec<_>>(), [7, 7, 7]);
    }

    #[test]
    fn a_trial_takes_nothing_and_refuses_only_what_another_has() {
        let range = 30_000..=30_002;
        let mut taken = open(&range);
        taken.take(30_001).expect("free");
        let ledger = taken.ledger.clone();
        let mut trial = Trial { open: taken, named: Vec::new() };
        assert!(trial.take(30_001).is_err());
        assert_eq!(trial.take(i64::from(i32::MAX)), Ok(()));
        assert!(trial.take(i64::from(i32::MAX)).is_err());
        assert!(trial.take_any().is_ok());
        assert!(trial.open.ledger == ledger);
    }
}
