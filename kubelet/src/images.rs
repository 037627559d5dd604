//! Getting images: the pull policy, credentials, how many pulls at a time, and a back-off after failures.

pub mod collect;
pub mod credentials;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use component_base::client::Limiter;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};
use parking_lot::Mutex;
use proto::cri as api;
use tokio::sync::Semaphore;

use crate::clock::Clock;
use crate::config::KubeletConfiguration;
use crate::objects::Objects;
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

/// Why a container has no image yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    pub waiting: Waiting,
    /// Before this nothing is gained by trying again.
    pub until: Option<Timestamp>,
}

/// The last failure to pull an image for a pod.
struct Failed {
    backoff: Backoff,
    at: Timestamp,
    error: String,
}

/// Gets images for all pods of the node.
pub struct Images {
    runtime: Arc<dyn Runtime>,
    clock: Clock,
    /// By pod and image: another pod may have other credentials.
    failures: Mutex<HashMap<(String, String), Failed>>,
    /// How many images may be pulled at a time.
    turns: Semaphore,
    /// How often the runtime may be asked to pull; who would have to wait fails, and tries again later.
    limiter: Option<Limiter>,
}

fn refusal(reason: &str, message: String) -> Refusal {
    Refusal { waiting: Waiting { reason: reason.to_owned(), message }, until: None }
}

impl Images {
    /// As many pulls at a time, and a second, as the configuration allows.
    pub fn new(runtime: Arc<dyn Runtime>, clock: Clock, config: &KubeletConfiguration) -> Self {
        let turns = Semaphore::new(config.parallel_pulls().min(Semaphore::MAX_PERMITS));
        Self { runtime, clock, failures: Mutex::default(), turns, limiter: config.pull_limiter() }
    }

    /// Forgets a pod that is gone.
    pub fn forget(&self, uid: &str) {
        self.failures.lock().retain(|(owner, _), _| owner != uid);
    }

    /// The image of a container, present on the node; else why it waits.
    pub async fn ensure(
        &self,
        pod: &Pod,
        container: &Container,
        sandbox: &api::PodSandboxConfig,
        objects: &Objects,
    ) -> Result<(api::Image, Origin), Refusal> {
        let image = container.image.as_deref().unwrap_or_default();
        if !is_valid(image) {
            let message = format!(
                "Failed to apply default image tag {image:?}: couldn't parse image name {image:?}: invalid reference format"
            );
            return Err(refusal("InvalidImageName", message));
        }
        let policy = policy(container, image);
        let inspect =
            |error: Error| refusal("ImageInspectError", format!("Failed to inspect image {image:?}: {error}"));
        if policy != Policy::Always
            && let Some(found) = self.runtime.image(image).await.map_err(inspect)?
        {
            return Ok((found, Origin::Present));
        }
        if policy == Policy::Never {
            let message = format!("Container image {image:?} is not present with pull policy of Never");
            return Err(refusal("ErrImageNeverPull", message));
        }
        self.may_try(pod, image)?;
        self.pull(pod, image, sandbox, objects).await.map_err(|error| self.note_failure(pod, image, &error))
    }

    /// Whether the last failure is long enough ago.
    fn may_try(&self, pod: &Pod, image: &str) -> Result<(), Refusal> {
        let failures = self.failures.lock();
        let Some(failed) = failures.get(&key(pod, image)) else { return Ok(()) };
        match backoff::blocked_until(Some(&failed.backoff), failed.at, self.clock.now()) {
            None => Ok(()),
            Some(until) => {
                let message = format!("Back-off pulling image {image:?}: ErrImagePull: {}", failed.error);
                Err(Refusal { until: Some(until), ..refusal("ImagePullBackOff", message) })
            }
        }
    }

    fn note_failure(&self, pod: &Pod, image: &str, error: &Error) -> Refusal {
        let mut failures = self.failures.lock();
        let now = self.clock.now();
        let old = failures.get(&key(pod, image)).map(|failed| failed.backoff);
        let backoff = backoff::next(old.as_ref(), now, now, backoff::MAX);
        failures.insert(key(pod, image), Failed { backoff, at: now, error: error.to_string() });
        refusal("ErrImagePull", error.to_string())
    }

    async fn pull(
        &self,
        pod: &Pod,
        image: &str,
        sandbox: &api::PodSandboxConfig,
        objects: &Objects,
    ) -> Result<(api::Image, Origin), Error> {
        let credentials = credentials::matching(image, self.credentials(pod, objects).await);
        // The semaphore is never closed.
        let _turn = self.turns.acquire().await;
        let started = tokio::time::Instant::now();
        let mut outcome = None;
        for auth in &credentials {
            outcome = Some(self.ask(image, Some(auth.clone()), sandbox).await);
            if matches!(outcome, Some(Ok(_))) {
                break;
            }
        }
        let reference = match outcome {
            Some(outcome) => outcome?,
            None => self.ask(image, None, sandbox).await?,
        };
        self.failures.lock().remove(&key(pod, image));
        let found = self.runtime.image(&reference).await?.ok_or(Error::Missing("image that was pulled"))?;
        Ok((found, Origin::Pulled(started.elapsed())))
    }

    /// Asks the runtime to pull, unless it was asked too often.
    async fn ask(
        &self,
        image: &str,
        auth: Option<api::AuthConfig>,
        sandbox: &api::PodSandboxConfig,
    ) -> Result<String, Error> {
        if self.limiter.as_ref().is_some_and(|limiter| !limiter.try_take()) {
            return Err(Error::PullLimit);
        }
        self.runtime.pull(image, auth, sandbox).await
    }

    /// What the pod's pull secrets give. One that is missing or wrong is passed over: the image may not need it.
    async fn credentials(&self, pod: &Pod, objects: &Objects) -> Vec<credentials::Credential> {
        let mut all = Vec::new();
        for secret in crate::pod::spec(pod).image_pull_secrets.iter().flatten().filter(|secret| !secret.name.is_empty())
        {
            let name = secret.name.as_str();
            match objects.secret(pod, name, false).await {
                Ok(Some(found)) => match credentials::parse(&found) {
                    Ok(found) => all.extend(found),
                    Err(error) => {
                        tracing::warn!(secret = name, error = crate::worker::chain(&error), "not a pull secret")
                    }
                },
                Ok(None) => {}
                Err(error) => tracing::warn!(secret = name, error = crate::worker::chain(&error), "no pull secret"),
            }
        }
        all
    }
}

fn key(pod: &Pod, image: &str) -> (String, String) {
    (crate::pod::uid(pod).to_owned(), image.to_owned())
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
