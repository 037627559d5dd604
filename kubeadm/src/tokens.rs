//! Bootstrap tokens: `id.secret`, stored as a Secret in kube-system; and the signature by which a joining node, which
//! knows only the token, recognizes the cluster-info.

use std::str::FromStr;

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::config::BootstrapToken;

/// A bootstrap token in its two parts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Token {
    pub id: String,
    pub secret: String,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("a token looks like abcdef.0123456789abcdef, of lower-case letters and digits")]
    Form,
    #[error("time to live {0:?}: {1}")]
    TimeToLive(String, String),
    #[error("the cluster-info has no signature by this token: it has expired, or never was one of this cluster")]
    NoSignature,
    #[error("the cluster-info's signature is not this token's")]
    WrongSignature,
}

const ID_LENGTH: usize = 6;
const SECRET_LENGTH: usize = 16;
const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";

impl FromStr for Token {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (id, secret) = text.split_once('.').ok_or(Error::Form)?;
        let good = |part: &str, length| part.len() == length && part.bytes().all(|byte| ALPHABET.contains(&byte));
        if good(id, ID_LENGTH) && good(secret, SECRET_LENGTH) {
            Ok(Token { id: id.to_owned(), secret: secret.to_owned() })
        } else {
            Err(Error::Form)
        }
    }
}

impl std::fmt::Display for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.id, self.secret)
    }
}

impl Token {
    /// A new token from the system's random numbers.
    pub fn generate() -> Self {
        use rand::Rng;
        let mut random = rand::rng();
        let mut word =
            |length| (0..length).map(|_| char::from(ALPHABET[random.random_range(0..ALPHABET.len())])).collect();
        Token { id: word(ID_LENGTH), secret: word(SECRET_LENGTH) }
    }

    /// The name of the Secret that holds it.
    pub fn secret_name(&self) -> String {
        format!("bootstrap-token-{}", self.id)
    }
}

/// The Secret of a token.
pub fn secret(token: &Token, options: &BootstrapToken, now: Timestamp) -> Result<Value, Error> {
    let mut data = json!({
        "token-id": token.id,
        "token-secret": token.secret,
        "auth-extra-groups": options.groups.join(","),
    });
    for usage in &options.usages {
        data[format!("usage-bootstrap-{usage}")] = "true".into();
    }
    if !options.description.is_empty() {
        data["description"] = options.description.clone().into();
    }
    if let Some(expiration) = expiration(&options.ttl, now)? {
        data["expiration"] = expiration.to_string().into();
    }
    Ok(json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "bootstrap.kubernetes.io/token",
        "metadata": { "name": token.secret_name(), "namespace": "kube-system" },
        "stringData": data,
    }))
}

/// When a token with this time to live ends; never, for zero.
fn expiration(ttl: &str, now: Timestamp) -> Result<Option<Timestamp>, Error> {
    let wrong = |message: String| Error::TimeToLive(ttl.to_owned(), message);
    let duration: component_base::options::GoDuration = ttl.parse().map_err(|error| wrong(format!("{error}")))?;
    if duration.0.is_zero() {
        return Ok(None);
    }
    let duration = SignedDuration::try_from(duration.0).map_err(|error| wrong(error.to_string()))?;
    let end = now.checked_add(duration).map_err(|error| wrong(error.to_string()))?;
    let whole = Timestamp::from_second(end.as_second()).map_err(|error| wrong(error.to_string()))?;
    Ok(Some(whole))
}

/// The key in the ConfigMap cluster-info under which a token's signature stands.
pub fn signature_key(token: &Token) -> String {
    format!("jws-kubeconfig-{}", token.id)
}

/// A JSON Web Signature (HS256) of `payload` with the payload left out.
pub fn sign(token: &Token, payload: &str) -> String {
    let header = URL_SAFE_NO_PAD.encode(json!({ "alg": "HS256", "kid": token.id }).to_string());
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(payload));
    let signature = hmac::sign(&key(token), signed.as_bytes());
    format!("{header}..{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
}

/// Checks a signature that `sign` (or Kubernetes' bootstrap signer) made.
pub fn verify(token: &Token, payload: &str, signature: &str) -> Result<(), Error> {
    let (header, signature) = signature.split_once("..").ok_or(Error::WrongSignature)?;
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(payload));
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| Error::WrongSignature)?;
    hmac::verify(&key(token), signed.as_bytes(), &signature).map_err(|_| Error::WrongSignature)
}

fn key(token: &Token) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, token.secret.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_two_parts_of_fixed_length() {
        let token: Token = "abcdef.0123456789abcdef".parse().unwrap();
        assert_eq!(token.secret_name(), "bootstrap-token-abcdef");
        for wrong in ["abcdef", "ABCDEF.0123456789abcdef", "abcde.0123456789abcdef", "abcdef.0123456789abcde"] {
            assert!(wrong.parse::<Token>().is_err(), "{wrong}");
        }
        assert!(Token::generate().to_string().parse::<Token>().is_ok());
    }

    #[test]
    fn a_signature_holds_for_its_token_and_text_only() {
        let (token, other) = (Token::generate(), Token::generate());
        let signature = sign(&token, "kubeconfig");
        assert!(verify(&token, "kubeconfig", &signature).is_ok());
        assert!(verify(&token, "kubeconfig!", &signature).is_err());
        assert!(verify(&other, "kubeconfig", &signature).is_err());
    }

    #[test]
    fn a_token_ends_after_its_time_to_live_or_never() {
        let token: Token = "abcdef.0123456789abcdef".parse().unwrap();
        let made = |ttl: &str| {
            let options = BootstrapToken { ttl: ttl.into(), ..BootstrapToken::default() };
            secret(&token, &options, "2026-01-01T00:00:00.5Z".parse().unwrap()).unwrap()["stringData"]["expiration"]
                .clone()
        };
        assert_eq!(made("24h"), "2026-01-02T00:00:00Z");
        assert_eq!(made("0"), Value::Null);
    }
}
