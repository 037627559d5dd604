//! Getting images: the pull policy, one pull of an image at a time, and a back-off after failures.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Container;
use parking_lot::Mutex;
use proto::cri as api;

use crate::pod::backoff::{self, Backoff};
use crate::pod::status::Waiting;
use crate::runtime::{Error, Runtime};

/// When an image is pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Policy {
    Always,
    IfNotPresent,
    Never,
}

/// The policy of a container, with the API's default: `Always` for the tag `latest`, else `IfNotPresent`.
fn policy(container: &Container, image: &str) -> Policy {
    match container.image_pull_policy.as_deref() {
        Some("Always") => Policy::Always,
        Some("Never") => Policy::Never,
        Some(_) => Policy::IfNotPresent,
        None => {
            let last = image.rsplit('/').next().unwrap_or(image);
            let pinned = image.contains('@') || last.split_once(':').is_some_and(|(_, tag)| tag != "latest");
            if pinned { Policy::IfNotPresent } else { Policy::Always }
        }
    }
}

/// Whether a text can name an image: parts of lower case letters, digits and separators, a tag and a digest.
fn is_valid(image: &str) -> bool {
    let (rest, digest) = image.split_once('@').map_or((image, None), |(rest, digest)| (rest, Some(digest)));
    let slash = rest.rfind('/').map_or(0, |at| at + 1);
    let (name, tag) = match rest[slash..].rfind(':') {
        Some(colon) => (&rest[..slash + colon], Some(&rest[slash + colon + 1..])),
        None => (rest, None),
    };
    let tag_ok = tag.is_none_or(|tag| {
        !tag.is_empty() && tag.len() <= 128 && tag.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
    });
    let digest_ok = digest.is_none_or(|digest| {
        digest.split_once(':').is_some_and(|(_, hex)| hex.len() >= 32 && hex.chars().all(|c| c.is_ascii_hexdigit()))
    });
    let port_ok = |part: &str| {
        part.rsplit_once(':').is_none_or(|(_, port)| port.ends_with(']') || port.chars().all(|c| c.is_ascii_digit()))
    };
    let path_ok = |part: &str, host: bool| {
        !part.is_empty()
            && port_ok(part)
            && part.chars().all(|c| {
                c.is_ascii_lowercase()
                    || c.is_ascii_digit()
                    || "._-".contains(c)
                    || host && (c.is_ascii_uppercase() || ":[]".contains(c))
            })
    };
    let parts: Vec<&str> = name.split('/').collect();
    let names_ok = parts.iter().enumerate().all(|(index, part)| path_ok(part, index == 0 && parts.len() > 1));
    tag_ok && digest_ok && names_ok
}

/// What happened to get an image, for events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Present,
    Pulled(Duration),
}

/// Gets images for all pods of the node.
pub struct Images {
    runtime: Arc<dyn Runtime>,
    backoffs: Mutex<HashMap<String, (Backoff, Timestamp, String)>>,
    pulls: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

fn waiting(reason: &str, message: String) -> Waiting {
    Waiting { reason: reason.to_owned(), message }
}

impl Images {
    pub fn new(runtime: Arc<dyn Runtime>) -> Self {
        Self { runtime, backoffs: Mutex::default(), pulls: Mutex::default() }
    }

    /// The image of a container, present on the node; else why it waits, and until when a retry makes no sense.
    pub async fn ensure(
        &self,
        container: &Container,
        sandbox: &api::PodSandboxConfig,
    ) -> Result<(api::Image, Origin), (Waiting, Option<Timestamp>)> {
        let image = container.image.as_deref().unwrap_or_default();
        if !is_valid(image) {
            let message = format!(
                "Failed to apply default image tag {image:?}: couldn't parse image name {image:?}: invalid reference format"
            );
            return Err((waiting("InvalidImageName", message), None));
        }
        let policy = policy(container, image);
        let inspect =
            |error: Error| (waiting("ImageInspectError", format!("Failed to inspect image {image:?}: {error}")), None);
        if policy != Policy::Always
            && let Some(found) = self.runtime.image(image).await.map_err(inspect)?
        {
            return Ok((found, Origin::Present));
        }
        if policy == Policy::Never {
            let message = format!("Container image {image:?} is not present with pull policy of Never");
            return Err((waiting("ErrImageNeverPull", message), None));
        }
        self.pull(image, sandbox).await
    }

    async fn pull(
        &self,
        image: &str,
        sandbox: &api::PodSandboxConfig,
    ) -> Result<(api::Image, Origin), (Waiting, Option<Timestamp>)> {
        let turn = Arc::clone(self.pulls.lock().entry(image.to_owned()).or_default());
        let _turn = turn.lock().await;
        let now = Timestamp::now();
        if let Some((entry, failed, error)) = self.backoffs.lock().get(image)
            && let Some(until) = backoff::blocked_until(Some(entry), *failed, now)
        {
            let message = format!("Back-off pulling image {image:?}: ErrImagePull: {error}");
            return Err((waiting("ImagePullBackOff", message), Some(until)));
        }
        let started = tokio::time::Instant::now();
        let failed = |error: Error| {
            let mut backoffs = self.backoffs.lock();
            let now = Timestamp::now();
            let old = backoffs.get(image).map(|(entry, _, _)| *entry);
            let entry = backoff::next(old.as_ref(), now, now, backoff::MAX);
            backoffs.insert(image.to_owned(), (entry, now, error.to_string()));
            (waiting("ErrImagePull", error.to_string()), Some(now + Duration::from_millis(500)))
        };
        let reference = self.runtime.pull(image, None, sandbox).await.map_err(failed)?;
        self.backoffs.lock().remove(image);
        let found = self.runtime.image(&reference).await.map_err(failed)?;
        let missing = || (waiting("ErrImagePull", format!("image {reference:?} is not there after its pull")), None);
        Ok((found.ok_or_else(missing)?, Origin::Pulled(started.elapsed())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_policy_follows_the_tag() {
        let container = Container::default();
        for (image, expected) in [
            ("a", Policy::Always),
            ("a:latest", Policy::Always),
            ("a:1", Policy::IfNotPresent),
            ("host:5000/a", Policy::Always),
            ("host:5000/a:1", Policy::IfNotPresent),
            ("a@sha256:00", Policy::IfNotPresent),
        ] {
            assert_eq!(policy(&container, image), expected, "{image}");
        }
    }

    #[test]
    fn names_of_images_are_checked() {
        let digest = format!("a@sha256:{}", "0".repeat(64));
        for good in ["a", "a:b", "Host:5000/a/b:1.2", "registry.k8s.io/pause:3.10", digest.as_str(), "localhost/a_b-c"]
        {
            assert!(is_valid(good), "{good}");
        }
        for bad in ["", "A", "a:", "a b", "a/", "a@x", "a:b/c", "/a", "a:b:c"] {
            assert!(!is_valid(bad), "{bad}");
        }
    }
}
