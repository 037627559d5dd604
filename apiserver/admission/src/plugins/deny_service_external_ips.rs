//! DenyServiceExternalIPs: Services take no addresses that nobody gave them.

use apimachinery::ApiError;
use async_trait::async_trait;
use serde_json::Value;

use crate::object::items;
use crate::{Attributes, Plugin};

pub struct DenyServiceExternalIPs;

#[async_trait]
impl Plugin for DenyServiceExternalIPs {
    fn name(&self) -> &'static str {
        "DenyServiceExternalIPs"
    }

    fn handles(&self, a: &Attributes<'_>) -> bool {
        a.is("", "services") && a.writes()
    }

    /// Those that a Service has may stay.
    async fn validate(&self, a: &Attributes<'_>, object: Option<&Value>, old: Option<&Value>) -> Result<(), ApiError> {
        let of = |service: Option<&Value>| service.map(|service| items(service, "/spec/externalIPs").to_vec());
        let (new, old) = (of(object).unwrap_or_default(), of(old).unwrap_or_default());
        if new.iter().all(|address| old.contains(address)) {
            return Ok(());
        }
        Err(a.forbidden(object, "Use of external IPs is denied by admission control"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Operation;
    use crate::testing::attributes;

    #[tokio::test]
    async fn addresses_are_kept_and_removed_but_not_added() {
        let service = |addresses: Value| json!({"metadata": {"name": "s"}, "spec": {"externalIPs": addresses}});
        for (old, new, wanted) in [
            (None, json!([]), true),
            (None, json!(["192.0.2.1"]), false),
            (Some(json!(["192.0.2.1", "192.0.2.2"])), json!(["192.0.2.2"]), true),
            (Some(json!(["192.0.2.1"])), json!(["192.0.2.1", "192.0.2.2"]), false),
        ] {
            let a = attributes(if old.is_none() { Operation::Create } else { Operation::Update }, "", "services");
            let old = old.map(service);
            let got = DenyServiceExternalIPs.validate(&a, Some(&service(new.clone())), old.as_ref()).await;
            assert_eq!(got.is_ok(), wanted, "{old:?} {new}");
        }
    }
}
