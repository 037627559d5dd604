//! Node ports: one `RangeAllocation` with a bit for each port, changed by compare and write, so that several servers share it.

use std::ops::RangeInclusive;

use apimachinery::ApiError;
use apiserver_storage::{Object, Store, Written};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rand::Rng;
use serde_json::json;

const KEY: &str = "/registry/ranges/servicenodeports";
/// How often a change is tried again when others change the bits.
const MAX_TRIES: usize = 64;

/// Hands out node ports.
pub struct Ports {
    store: Store,
    range: RangeInclusive<u16>,
}

#[derive(Clone, Default, PartialEq)]
struct Bits(Vec<u8>);

impl Bits {
    fn of(object: Option<&Object>) -> Self {
        let data = object.and_then(|object| object.text(&["data"]).and_then(|data| STANDARD.decode(&*data).ok()));
        Bits(data.unwrap_or_default())
    }

    fn get(&self, bit: usize) -> bool {
        self.0.get(bit / 8).is_some_and(|byte| byte & (1 << (bit % 8)) != 0)
    }

    fn set(&mut self, bit: usize, value: bool) {
        if self.0.len() <= bit / 8 {
            self.0.resize(bit / 8 + 1, 0);
        }
        let mask = 1 << (bit % 8);
        if value { self.0[bit / 8] |= mask } else { self.0[bit / 8] &= !mask }
    }
}

impl Ports {
    pub fn new(store: Store, range: RangeInclusive<u16>) -> Self {
        Ports { store, range }
    }

    fn bit(&self, port: u16) -> Option<usize> {
        self.range.contains(&port).then(|| usize::from(port - self.range.start()))
    }

    /// Takes a port, the given one or any. The inner error says why the given one cannot be had.
    pub async fn take(&self, port: Option<u16>, dry_run: bool) -> Result<Result<u16, String>, ApiError> {
        let mut taken = Err(String::new());
        self.change(dry_run, |bits| taken = self.plan_take(bits, port)).await?;
        Ok(taken)
    }

    fn plan_take(&self, bits: &mut Bits, port: Option<u16>) -> Result<u16, String> {
        let (low, high) = (*self.range.start(), *self.range.end());
        let found = match port {
            Some(port) => match self.bit(port) {
                None => {
                    return Err(format!(
                        "provided port is not in the valid range. The range of valid ports is {low}-{high}"
                    ));
                }
                Some(bit) if bits.get(bit) => return Err("provided port is already allocated".into()),
                Some(_) => Some(port),
            },
            None => {
                let start = rand::rng().random_range(low..=high);
                (start..=high).chain(low..start).find(|port| self.bit(*port).is_some_and(|bit| !bits.get(bit)))
            }
        };
        let port = found.ok_or_else(|| "failed to allocate a nodePort: range is full".to_owned())?;
        bits.set(usize::from(port - low), true);
        Ok(port)
    }

    /// Gives ports back.
    pub async fn give_back(&self, ports: &[u16]) -> Result<(), ApiError> {
        if ports.is_empty() {
            return Ok(());
        }
        self.change(false, |bits| {
            for bit in ports.iter().filter_map(|port| self.bit(*port)) {
                bits.set(bit, false);
            }
        })
        .await
    }

    /// Makes exactly these ports taken.
    pub async fn reset(&self, ports: &[u16]) -> Result<(), ApiError> {
        self.change(false, |bits| {
            *bits = Bits::default();
            for bit in ports.iter().filter_map(|port| self.bit(*port)) {
                bits.set(bit, true);
            }
        })
        .await
    }

    async fn change(&self, dry_run: bool, mut change: impl FnMut(&mut Bits)) -> Result<(), ApiError> {
        let mut current = self.store.get_from_etcd(KEY).await?;
        for _ in 0..MAX_TRIES {
            let before = Bits::of(current.as_deref());
            let mut bits = before.clone();
            change(&mut bits);
            if dry_run || (bits == before && current.is_some()) {
                return Ok(());
            }
            let range = format!("{}-{}", self.range.start(), self.range.end());
            let object = json!({"apiVersion": "v1", "kind": "RangeAllocation", "metadata": {}, "range": range,
                "data": STANDARD.encode(&bits.0)});
            let expected = current.as_ref().map_or(0, |object| object.revision);
            match self.store.update(KEY, object.to_string().into_bytes(), expected, None).await? {
                Written::Done(_) => return Ok(()),
                Written::Conflict(found) => current = found,
            }
        }
        Err(ApiError::internal("the node ports are being changed by too many at once"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_set_and_cleared_one_by_one() {
        let mut bits = Bits::default();
        bits.set(9, true);
        assert!(bits.get(9) && !bits.get(8) && !bits.get(1000));
        bits.set(9, false);
        assert!(!bits.get(9));
    }
}
