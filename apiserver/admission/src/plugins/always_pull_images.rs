//! AlwaysPullImages: images are pulled with the pod's own rights, even where a node has them already.

use std::collections::HashSet;

use apimachinery::ApiError;
use apimachinery::field::{Error, Path};
use async_trait::async_trait;
use serde_json::Value;

use crate::object::{containers, items, text};
use crate::{Attributes, Operation, Plugin};

const ALWAYS: &str = "Always";
const LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

pub struct AlwaysPullImages;

#[async_trait]
impl Plugin for AlwaysPullImages {
    fn name(&self) -> &'static str {
        "AlwaysPullImages"
    }

    fn handles(&self, a: &Attributes<'_>) -> bool {
        a.is("", "pods") && a.writes()
    }

    async fn admit(&self, a: &Attributes<'_>, pod: &mut Value, old: Option<&Value>) -> Result<(), ApiError> {
        if brings_nothing(a, pod, old) {
            return Ok(());
        }
        for list in LISTS {
            for container in pod["spec"].get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
                container["imagePullPolicy"] = ALWAYS.into();
            }
        }
        let volumes = pod["spec"].get_mut("volumes").and_then(Value::as_array_mut);
        for volume in volumes.into_iter().flatten() {
            if let Some(image) = volume.get_mut("image").filter(|image| image.is_object()) {
                image["pullPolicy"] = ALWAYS.into();
            }
        }
        Ok(())
    }

    async fn validate(&self, a: &Attributes<'_>, object: Option<&Value>, old: Option<&Value>) -> Result<(), ApiError> {
        let Some(pod) = object.filter(|pod| !brings_nothing(a, pod, old)) else { return Ok(()) };
        match faults(pod).first() {
            Some(fault) => Err(a.forbidden(object, &fault.to_string())),
            None => Ok(()),
        }
    }
}

fn images(pod: &Value) -> HashSet<&str> {
    let volumes = items(pod, "/spec/volumes").iter().map(|volume| text(volume, "/image/reference"));
    containers(&pod["spec"]).map(|container| text(container, "/image")).chain(volumes).collect()
}

/// Whether an update leaves the pod with images that it had.
fn brings_nothing(a: &Attributes<'_>, pod: &Value, old: Option<&Value>) -> bool {
    a.operation == Operation::Update && old.is_some_and(|old| images(pod).is_subset(&images(old)))
}

fn faults(pod: &Value) -> Vec<Error> {
    let spec = Path::new("spec");
    let mut faults = Vec::new();
    let mut check = |path: Path, policy: &str| {
        if policy != ALWAYS {
            faults.push(Error::not_supported(&path, policy, &[ALWAYS]));
        }
    };
    for list in LISTS {
        for (at, container) in items(pod, &format!("/spec/{list}")).iter().enumerate() {
            check(spec.child(list).index(at).child("imagePullPolicy"), text(container, "/imagePullPolicy"));
        }
    }
    for (at, volume) in items(pod, "/spec/volumes").iter().enumerate() {
        if volume.get("image").is_some_and(Value::is_object) {
            check(
                spec.child("volumes").index(at).child("image").child("pullPolicy"),
                text(volume, "/image/pullPolicy"),
            );
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{admit, attributes};

    #[tokio::test]
    async fn every_image_of_a_new_pod_is_pulled() {
        let a = attributes(Operation::Create, "", "pods");
        let spec = json!({
            "containers": [{"image": "a", "imagePullPolicy": "Never"}], "initContainers": [{"image": "b"}],
            "volumes": [{"image": {"reference": "c"}}, {"emptyDir": {}}],
        });
        let given = json!({"metadata": {"name": "p"}, "spec": spec});
        let pod = admit(&AlwaysPullImages, &a, given.clone()).await.expect("admitted");
        assert_eq!(pod["spec"]["containers"][0]["imagePullPolicy"], ALWAYS);
        assert_eq!(pod["spec"]["initContainers"][0]["imagePullPolicy"], ALWAYS);
        assert_eq!(
            pod["spec"]["volumes"],
            json!([{"image": {"reference": "c", "pullPolicy": ALWAYS}}, {"emptyDir": {}}])
        );
        let error = AlwaysPullImages.validate(&a, Some(&given), None).await.expect_err("refused");
        assert!(error.0.message.contains("spec.initContainers[0].imagePullPolicy: Unsupported value"), "{error:?}");
    }

    #[tokio::test]
    async fn an_update_without_new_images_is_left_alone() {
        let a = attributes(Operation::Update, "", "pods");
        let old =
            json!({"metadata": {"name": "p"}, "spec": {"containers": [{"image": "a", "imagePullPolicy": "Never"}]}});
        let mut same = old.clone();
        AlwaysPullImages.admit(&a, &mut same, Some(&old)).await.expect("admitted");
        assert_eq!(same, old);
        let mut changed = old.clone();
        changed["spec"]["containers"][0]["image"] = "b".into();
        AlwaysPullImages.admit(&a, &mut changed, Some(&old)).await.expect("admitted");
        assert_eq!(changed["spec"]["containers"][0]["imagePullPolicy"], ALWAYS);
    }
}
