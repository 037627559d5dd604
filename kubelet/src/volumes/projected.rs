//! `projected`: files of several sources in one directory, with service account tokens that are renewed before they expire.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ProjectedVolumeSource, ServiceAccountTokenProjection};
use parking_lot::Mutex;

use super::atomic::{File, Files};
use super::config::{of_config_map, of_fields, of_secret, select};
use super::{Context, Error, Volume, atomic, mounts};

const DEFAULT_SECONDS: i64 = 3600;
const DEFAULT_MODE: i32 = 0o644;

struct Token {
    text: String,
    issued: Timestamp,
    expires: Timestamp,
}

pub struct Projected {
    source: ProjectedVolumeSource,
    tokens: Mutex<BTreeMap<String, Token>>,
}

/// Whether a token has to be renewed: after four fifths of its life, or a day. Pure.
fn is_old(issued: Timestamp, expires: Timestamp, now: Timestamp) -> bool {
    let (life, age) = (expires.as_second() - issued.as_second(), now.as_second() - issued.as_second());
    age * 5 >= life * 4 || age > 24 * 3600
}

impl Projected {
    pub fn new(source: ProjectedVolumeSource) -> Self {
        Self { source, tokens: Mutex::default() }
    }

    async fn token(&self, context: Context<'_>, projection: &ServiceAccountTokenProjection) -> Result<String, Error> {
        let now = Timestamp::now();
        if let Some(token) = self.tokens.lock().get(&projection.path)
            && !is_old(token.issued, token.expires, now)
        {
            return Ok(token.text.clone());
        }
        let seconds = projection.expiration_seconds.unwrap_or(DEFAULT_SECONDS);
        let (text, expires) = context.objects.token(context.pod, projection.audience.as_deref(), seconds).await?;
        let token = Token { text: text.clone(), issued: now, expires };
        self.tokens.lock().insert(projection.path.clone(), token);
        Ok(text)
    }

    async fn files(&self, context: Context<'_>) -> Result<Files, Error> {
        let namespace = crate::pod::namespace(context.pod);
        let default = self.source.default_mode;
        let mut files = Files::new();
        for source in self.source.sources.iter().flatten() {
            if let Some(source) = &source.config_map {
                let optional = source.optional.unwrap_or(false);
                let map = context.objects.config_map(namespace, &source.name, optional).await?;
                files.extend(select(
                    "config",
                    of_config_map(map.as_deref()),
                    source.items.as_deref(),
                    default,
                    optional,
                )?);
            }
            if let Some(source) = &source.secret {
                let optional = source.optional.unwrap_or(false);
                let secret = context.objects.secret(namespace, &source.name, optional).await?;
                files.extend(select(
                    "secret",
                    of_secret(secret.as_deref()),
                    source.items.as_deref(),
                    default,
                    optional,
                )?);
            }
            if let Some(source) = &source.downward_api {
                files.extend(of_fields(
                    context.pod,
                    source.items.as_deref().unwrap_or_default(),
                    default,
                    &context.facts,
                )?);
            }
            if let Some(projection) = &source.service_account_token {
                let content = self.token(context, projection).await?.into_bytes();
                files.insert(projection.path.clone(), File { content, mode: token_mode(context, default) });
            }
            if source.cluster_trust_bundle.is_some() || source.pod_certificate.is_some() {
                return Err(Error::Unsupported("projected clusterTrustBundle or podCertificate".into()));
            }
        }
        Ok(files)
    }
}

/// Tokens are for their pod's users only: when all containers run as one user the group's access is enough.
fn token_mode(context: Context<'_>, default: Option<i32>) -> u32 {
    let spec = crate::pod::spec(context.pod);
    let fs_group = spec.security_context.as_ref().and_then(|context| context.fs_group);
    if fs_group.is_some() { 0o600 } else { u32::try_from(default.unwrap_or(DEFAULT_MODE)).unwrap_or(0o644) }
}

#[async_trait]
impl Volume for Projected {
    async fn set_up(&self, directory: &Path, context: Context<'_>) -> Result<PathBuf, Error> {
        let files = self.files(context).await?;
        mounts::tmpfs(directory)?;
        atomic::write(directory, &files)?;
        Ok(directory.to_owned())
    }

    fn follows(&self) -> bool {
        true
    }

    fn plugin(&self) -> &'static str {
        "projected"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_renewed_after_four_fifths_of_their_life_or_a_day() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        for (life, age, old) in [
            (3600, 0, false),
            (3600, 2879, false),
            (3600, 2880, true),
            (1_000_000, 86_401, true),
            (1_000_000, 86_399, false),
        ] {
            assert_eq!(is_old(at(0), at(life), at(age)), old, "{life} {age}");
        }
    }
}
