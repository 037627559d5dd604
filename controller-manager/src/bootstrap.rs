//! Bootstrap tokens: signing `cluster-info` with each of them, and removing those that have expired.

pub mod signer;
pub mod token_cleaner;

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;

/// The type of secrets that are bootstrap tokens; all are in kube-system.
const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";
const NAMESPACE: &str = "kube-system";
const NAME_PREFIX: &str = "bootstrap-token-";

/// What a bootstrap token's secret says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Token {
    id: String,
    secret: String,
    signs: bool,
    /// `Err` when what is there is no time.
    expires: Result<Option<Timestamp>, ()>,
}

impl Token {
    /// `None` for a secret that is not a well-formed token.
    fn of(secret: &Secret) -> Option<Self> {
        if secret.type_.as_deref() != Some(SECRET_TYPE) {
            return None;
        }
        let data = secret.data.as_ref()?;
        let id = text(data, "token-id").filter(|id| is_word(id, 6))?;
        if secret.metadata.name.as_deref()?.strip_prefix(NAME_PREFIX) != Some(&id) {
            return None;
        }
        Some(Self {
            id,
            secret: text(data, "token-secret").filter(|secret| is_word(secret, 16))?,
            signs: text(data, "usage-bootstrap-signing").as_deref() == Some("true"),
            expires: text(data, "expiration").filter(|e| !e.is_empty()).map(|e| e.parse().map_err(drop)).transpose(),
        })
    }

    fn is_expired(&self, now: Timestamp) -> bool {
        match self.expires {
            Ok(expires) => expires.is_some_and(|at| at <= now),
            // A token whose end cannot be read must not live for ever.
            Err(()) => true,
        }
    }
}

fn is_word(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

fn text(data: &BTreeMap<String, ByteString>, key: &str) -> Option<String> {
    String::from_utf8(data.get(key)?.0.clone()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    pub fn secret(id: &str, more: &[(&str, &str)]) -> Secret {
        let mut secret = Secret { type_: Some(SECRET_TYPE.into()), ..Secret::default() };
        secret.metadata.name = Some(format!("{NAME_PREFIX}{id}"));
        let base = [("token-id", id), ("token-secret", "0123456789abcdef")];
        let data = base.iter().chain(more).map(|(k, v)| ((*k).to_owned(), ByteString(v.as_bytes().to_vec())));
        secret.data = Some(data.collect());
        secret
    }

    #[test]
    fn only_well_formed_secrets_are_tokens() {
        assert!(Token::of(&secret("abcdef", &[])).is_some());
        assert!(Token::of(&secret("abc", &[])).is_none());
        assert!(Token::of(&secret("abcdef", &[("token-secret", "short")])).is_none());
        let mut renamed = secret("abcdef", &[]);
        renamed.metadata.name = Some("bootstrap-token-other1".into());
        assert!(Token::of(&renamed).is_none());
    }

    #[test]
    fn tokens_expire() {
        let now: Timestamp = "2026-01-02T00:00:00Z".parse().unwrap();
        let expired = |at: &str| Token::of(&secret("abcdef", &[("expiration", at)])).unwrap().is_expired(now);
        assert!(expired("2026-01-01T00:00:00Z"));
        assert!(!expired("2026-01-03T00:00:00Z"));
        assert!(expired("tomorrow"));
        assert!(!Token::of(&secret("abcdef", &[])).unwrap().is_expired(now));
    }
}
