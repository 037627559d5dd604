//! Signs tokens.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde::Serialize;
use serde_json::json;

use super::claims::Claims;
use super::keys::{KeyError, PrivateKey, PublicKey};

/// Signs service account tokens with one key, under one issuer's name.
pub struct Issuer {
    /// The value of `iss`.
    pub name: String,
    key: PrivateKey,
}

impl Issuer {
    pub fn new(name: impl Into<String>, key: PrivateKey) -> Self {
        Issuer { name: name.into(), key }
    }

    pub fn public_key(&self) -> &PublicKey {
        &self.key.public
    }

    /// The token that says what the claims say.
    pub fn sign(&self, claims: &Claims) -> Result<String, KeyError> {
        let algorithm = match self.key.public.algorithm {
            Algorithm::ES256 => "ES256",
            Algorithm::ES384 => "ES384",
            _ => "RS256",
        };
        let header = json!({"alg": algorithm, "kid": self.key.public.id});
        let mut token = format!("{}.{}", encode(&header)?, encode(claims)?);
        let signature = self.key.sign(token.as_bytes())?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token)
    }
}

fn encode(part: &impl Serialize) -> Result<String, KeyError> {
    let json = serde_json::to_vec(part).map_err(|e| KeyError::Unusable(e.to_string()))?;
    Ok(URL_SAFE_NO_PAD.encode(json))
}
