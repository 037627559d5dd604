//! What relying parties need to check our tokens: the OpenID discovery document and the set of keys.

use serde_json::{Value, json};

use super::keys::PublicKey;

/// Where the discovery document is served.
pub const DISCOVERY_PATH: &str = "/.well-known/openid-configuration";
/// Where the set of keys is served.
pub const JWKS_PATH: &str = "/openid/v1/jwks";
/// The media type of the set of keys.
pub const JWKS_TYPE: &str = "application/jwk-set+json";

/// The document at [`DISCOVERY_PATH`].
pub fn document(issuer: &str, jwks_uri: &str, keys: &[PublicKey]) -> Value {
    let mut algorithms: Vec<String> =
        keys.iter().filter_map(|key| Some(key.jwk()["alg"].as_str()?.to_owned())).collect();
    algorithms.sort();
    algorithms.dedup();
    json!({
        "issuer": issuer,
        "jwks_uri": jwks_uri,
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": algorithms,
    })
}

/// The document at [`JWKS_PATH`].
pub fn jwks(keys: &[PublicKey]) -> Value {
    json!({"keys": keys.iter().map(PublicKey::jwk).collect::<Vec<_>>()})
}
