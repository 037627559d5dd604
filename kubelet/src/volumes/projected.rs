//! `projected`: files of several sources in one directory, with service account tokens that are renewed before they expire.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, ProjectedVolumeSource, ServiceAccountTokenProjection};
use parking_lot::Mutex;

use super::atomic::{File, Files};
use super::config::{of_config_map, of_fields, of_secret, select};
use super::{Context, Error, Volume, access, atomic, mounts};

const DEFAULT_SECONDS: i64 = 3600;
const DEFAULT_MODE: i32 = 0o644;
const TOKEN_MODE: i32 = 0o600;

struct Token {
    text: String,
    issued: Timestamp,
    expires: Timestamp,
}

pub struct Projected {
    source: ProjectedVolumeSource,
    tokens: Mutex<BTreeMap<String, Token>>,
}

/// Longest time that a token is used.
const MAX_AGE: Duration = Duration::from_secs(24 * 3600);

impl Token {
    /// When the token has to be renewed: after four fifths of its life, or a day.
    fn renewal(&self) -> Timestamp {
        let life = Duration::try_from(self.expires.duration_since(self.issued)).unwrap_or_default();
        self.issued + (life * 4 / 5).min(MAX_AGE)
    }
}

impl Projected {
    pub fn new(source: ProjectedVolumeSource) -> Self {
        Self { source, tokens: Mutex::default() }
    }

    async fn token(&self, context: Context<'_>, projection: &ServiceAccountTokenProjection) -> Result<String, Error> {
        if let Some(token) = self.tokens.lock().get(&projection.path)
            && token.renewal() > context.now
        {
            return Ok(token.text.clone());
        }
        let seconds = projection.expiration_seconds.unwrap_or(DEFAULT_SECONDS);
        let (text, expires) = context.objects.token(context.pod, projection.audience.as_deref(), seconds).await?;
        let token = Token { text: text.clone(), issued: context.now, expires };
        self.tokens.lock().insert(projection.path.clone(), token);
        Ok(text)
    }

    async fn files(&self, context: Context<'_>) -> Result<Files, Error> {
        let default = self.source.default_mode;
        let mut files = Files::new();
        for source in self.source.sources.iter().flatten() {
            if let Some(source) = &source.config_map {
                let optional = source.optional.unwrap_or(false);
                let map = context.objects.config_map(context.pod, &source.name, optional).await?;
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
                let secret = context.objects.secret(context.pod, &source.name, optional).await?;
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
                let (mode, owner) = token_access(context.pod, default);
                files.insert(projection.path.clone(), File { content, mode, owner });
            }
            if source.cluster_trust_bundle.is_some() || source.pod_certificate.is_some() {
                return Err(Error::Unsupported("projected clusterTrustBundle or podCertificate".into()));
            }
        }
        Ok(files)
    }
}

/// Mode and owner of a token, which is for its pod's users only: where they have one group, or are one user, nobody else may read it.
fn token_access(pod: &Pod, default: Option<i32>) -> (u32, Option<u32>) {
    let owner = access::only_user(pod);
    let mode =
        if owner.is_some() || access::fs_group(pod).is_some() { TOKEN_MODE } else { default.unwrap_or(DEFAULT_MODE) };
    (u32::try_from(mode).unwrap_or(0), owner)
}

#[async_trait]
impl Volume for Projected {
    async fn set_up(&self, directory: &Path, context: Context<'_>) -> Result<PathBuf, Error> {
        let files = self.files(context).await?;
        mounts::tmpfs(directory, None)?;
        atomic::write(directory, &files, access::fs_group(context.pod))?;
        Ok(directory.to_owned())
    }

    fn is_content(&self) -> bool {
        true
    }

    fn renewal(&self) -> Option<Timestamp> {
        self.tokens.lock().values().map(Token::renewal).min()
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
        for (life, renewal) in [(3600, 2880), (1_000_000, 86_400), (0, 0)] {
            let token = Token { text: String::new(), issued: at(100), expires: at(100 + life) };
            assert_eq!(token.renewal(), at(100 + renewal), "{life}");
        }
    }

    #[test]
    fn a_token_is_readable_for_its_pod_only() {
        for (context, expected) in [
            (serde_json::json!({}), (0o644, None)),
            (serde_json::json!({"fsGroup": 7}), (0o600, None)),
            (serde_json::json!({"runAsUser": 5}), (0o600, Some(5))),
        ] {
            let pod = serde_json::json!({"spec": {"securityContext": context, "containers": [{"name": "a"}]}});
            assert_eq!(token_access(&serde_json::from_value(pod).unwrap(), None), expected);
        }
    }
}
