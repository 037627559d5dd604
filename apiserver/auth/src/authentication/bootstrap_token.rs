//! Bootstrap tokens: short-lived tokens of joining nodes, kept as Secrets in `kube-system`.
//!
//! Kubernetes documentation, "Authenticating with Bootstrap Tokens".

use std::sync::Arc;

use apiserver_storage::reader::{GroupResource, Reader};
use async_trait::async_trait;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use jiff::Timestamp;
use serde_json::Value;

use super::{AuthError, Authenticated, TokenAuthenticator};
use crate::clock::Clock;
use crate::object::{secret_text, text};
use crate::user::UserInfo;

const SECRETS: GroupResource<'static> = GroupResource::new("", "secrets");
const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";
const GROUP: &str = "system:bootstrappers";

/// Looks tokens up in the Secrets `bootstrap-token-<id>`.
pub struct BootstrapToken {
    reader: Arc<dyn Reader>,
    clock: Clock,
}

impl BootstrapToken {
    pub fn new(reader: Arc<dyn Reader>, clock: Clock) -> Self {
        BootstrapToken { reader, clock }
    }
}

#[async_trait]
impl TokenAuthenticator for BootstrapToken {
    async fn authenticate(&self, token: &str, _: &[String]) -> Result<Option<Authenticated>, AuthError> {
        let Some((id, secret)) = parse(token) else { return Ok(None) };
        let stored = self.reader.get(SECRETS, "kube-system", &format!("bootstrap-token-{id}"));
        Ok(stored.and_then(|stored| user_of(&stored, id, secret, (self.clock)())).map(Authenticated::user))
    }
}

/// `[a-z0-9]{6}.[a-z0-9]{16}` as id and secret.
fn parse(token: &str) -> Option<(&str, &str)> {
    let (id, secret) = token.split_once('.')?;
    let plain = |s: &str| s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    (id.len() == 6 && secret.len() == 16 && plain(id) && plain(secret)).then_some((id, secret))
}

/// The user that the Secret gives to who knows its secret; none where it does not hold.
fn user_of(stored: &Value, id: &str, secret: &str, now: Timestamp) -> Option<UserInfo> {
    let is_token = text(stored, "/type") == SECRET_TYPE && text(stored, "/metadata/deletionTimestamp").is_empty();
    let same_id = secret_text(stored, "token-id").as_deref() == Some(id);
    let expected = secret_text(stored, "token-secret")?;
    let same_secret = verify_slices_are_equal(expected.as_bytes(), secret.as_bytes()).is_ok();
    let enabled = secret_text(stored, "usage-bootstrap-authentication").as_deref() == Some("true");
    if !(is_token && same_id && same_secret && enabled) || expired(stored, now) {
        return None;
    }
    let mut groups = vec![GROUP.to_owned()];
    groups.extend(extra_groups(&secret_text(stored, "auth-extra-groups").unwrap_or_default())?);
    Some(UserInfo { name: format!("system:bootstrap:{id}"), groups, ..UserInfo::default() })
}

/// A token without an expiration never expires; one whose expiration cannot be read has.
fn expired(stored: &Value, now: Timestamp) -> bool {
    match secret_text(stored, "expiration").as_deref() {
        None | Some("") => false,
        Some(when) => when.parse::<Timestamp>().map_or(true, |when| now > when),
    }
}

/// The groups of a comma-separated list; none if one may not be given by a bootstrap token.
fn extra_groups(list: &str) -> Option<Vec<String>> {
    let names = list.split(',').map(str::trim).filter(|name| !name.is_empty());
    names.map(|name| allowed_group(name).then(|| name.to_owned())).collect()
}

/// `system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]`
fn allowed_group(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("system:bootstrappers:") else { return false };
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    rest.len() <= 256
        && rest.bytes().last().is_some_and(plain)
        && rest.bytes().all(|b| plain(b) || b == b':' || b == b'-')
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::json;

    use super::*;

    fn secret(changes: &[(&str, &str)]) -> Value {
        let mut object = json!({"type": SECRET_TYPE, "metadata": {"name": "bootstrap-token-abcdef"}, "data": {}});
        let plain = [
            ("token-id", "abcdef"),
            ("token-secret", "0123456789abcdef"),
            ("usage-bootstrap-authentication", "true"),
            ("expiration", "2026-01-01T00:00:00Z"),
        ];
        for (key, value) in plain.iter().chain(changes) {
            object["data"][*key] = STANDARD.encode(value).into();
        }
        object
    }

    fn groups(stored: &Value, secret: &str) -> Option<Vec<String>> {
        let now = "2025-12-31T00:00:00Z".parse().expect("time");
        user_of(stored, "abcdef", secret, now).map(|user| user.groups)
    }

    #[test]
    fn a_token_holds_only_as_its_secret_says() {
        let good = "0123456789abcdef";
        let cases = [
            (secret(&[]), good, Some(vec!["system:bootstrappers"])),
            (secret(&[]), "0123456789abcdee", None),
            (secret(&[("usage-bootstrap-authentication", "false")]), good, None),
            (secret(&[("expiration", "2025-12-30T00:00:00Z")]), good, None),
            (secret(&[("expiration", "soon")]), good, None),
            (secret(&[("expiration", "")]), good, Some(vec!["system:bootstrappers"])),
            (
                secret(&[("auth-extra-groups", "system:bootstrappers:kubeadm:default-node-token")]),
                good,
                Some(vec!["system:bootstrappers", "system:bootstrappers:kubeadm:default-node-token"]),
            ),
            (secret(&[("auth-extra-groups", "system:masters")]), good, None),
        ];
        for (stored, token, wanted) in cases {
            let wanted = wanted.map(|list| list.into_iter().map(str::to_owned).collect::<Vec<_>>());
            assert_eq!(groups(&stored, token), wanted, "{stored}");
        }
    }

    #[test]
    fn only_tokens_of_the_right_form_are_looked_up() {
        assert_eq!(parse("abcdef.0123456789abcdef"), Some(("abcdef", "0123456789abcdef")));
        for other in ["", "abcdef", "abcde.0123456789abcdef", "ABCDEF.0123456789abcdef", "a.b.c"] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
