//! AlwaysAdmit and AlwaysDeny: for tests of clusters, and without meaning besides.

use apimachinery::ApiError;
use async_trait::async_trait;
use serde_json::Value;

use crate::{Attributes, Plugin};

/// Does nothing.
pub struct AlwaysAdmit;

/// Refuses every write.
pub struct AlwaysDeny;

impl Plugin for AlwaysAdmit {
    fn name(&self) -> &'static str {
        "AlwaysAdmit"
    }

    fn handles(&self, _: &Attributes<'_>) -> bool {
        false
    }
}

#[async_trait]
impl Plugin for AlwaysDeny {
    fn name(&self) -> &'static str {
        "AlwaysDeny"
    }

    fn handles(&self, _: &Attributes<'_>) -> bool {
        true
    }

    async fn validate(&self, a: &Attributes<'_>, object: Option<&Value>, _: Option<&Value>) -> Result<(), ApiError> {
        Err(a.forbidden(object, "admission control is denying all modifications"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Operation;
    use crate::testing::{admit, attributes};

    #[tokio::test]
    async fn one_lets_everything_in_and_the_other_nothing() {
        let a = attributes(Operation::Create, "", "pods");
        let pod = json!({"metadata": {"name": "p"}});
        assert_eq!(admit(&AlwaysAdmit, &a, pod.clone()).await, Ok(pod.clone()));
        let error = admit(&AlwaysDeny, &a, pod).await.expect_err("refused");
        assert_eq!(error.0.message, "pods \"p\" is forbidden: admission control is denying all modifications");
        assert!(AlwaysDeny.handles(&attributes(Operation::Delete, "", "nodes")));
    }
}
