//! RSA and EC keys from PEM: to sign tokens, to check them, and to publish them.

use std::path::Path;

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair,
    RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey as Parsed;
use x509_parser::x509::SubjectPublicKeyInfo;

#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("cannot read the key file {path}")]
    Read {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("not PEM: {0}")]
    Pem(String),
    #[error("no key found")]
    None,
    #[error("not a key that can be used: {0}")]
    Unusable(String),
}

/// A key that tokens are checked with.
#[derive(Clone, Debug)]
pub struct PublicKey {
    /// The key's name in tokens' headers and in the published set: the hash of its DER form.
    pub id: String,
    pub algorithm: Algorithm,
    pub decoding: DecodingKey,
    jwk: Value,
}

/// A key that tokens are signed with.
pub struct PrivateKey {
    pair: Pair,
    pub public: PublicKey,
}

enum Pair {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
}

impl PublicKey {
    /// Every key in the file: public keys, certificates' keys, and the public halves of private keys.
    pub fn all_from_file(path: &Path) -> Result<Vec<Self>, KeyError> {
        Self::all_from_pem(&read(path)?)
    }

    pub fn all_from_pem(text: &str) -> Result<Vec<Self>, KeyError> {
        let keys: Vec<Self> =
            parse(text)?.iter().filter_map(|block| Self::from_block(block).transpose()).collect::<Result<_, _>>()?;
        if keys.is_empty() { Err(KeyError::None) } else { Ok(keys) }
    }

    fn from_block(block: &pem::Pem) -> Result<Option<Self>, KeyError> {
        match block.tag() {
            "PUBLIC KEY" => Self::from_der(block.contents()).map(Some),
            "RSA PUBLIC KEY" => Self::from_der(&wrap_rsa(block.contents())).map(Some),
            "CERTIFICATE" => {
                let (_, certificate) = x509_parser::parse_x509_certificate(block.contents()).map_err(unusable)?;
                Self::from_der(certificate.public_key().raw).map(Some)
            }
            _ => Ok(PrivateKey::from_block(block)?.map(|private| private.public)),
        }
    }

    /// From a SubjectPublicKeyInfo.
    fn from_der(der: &[u8]) -> Result<Self, KeyError> {
        let (_, info) = SubjectPublicKeyInfo::from_der(der).map_err(unusable)?;
        let id = URL_SAFE_NO_PAD.encode(Sha256::digest(der));
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match info.parsed().map_err(unusable)? {
            Parsed::RSA(rsa) => {
                let (n, e) = (trim(rsa.modulus), trim(rsa.exponent));
                let jwk =
                    json!({"use": "sig", "kty": "RSA", "kid": id, "alg": "RS256", "n": encode(n), "e": encode(e)});
                Ok(PublicKey {
                    id,
                    algorithm: Algorithm::RS256,
                    decoding: DecodingKey::from_rsa_raw_components(n, e),
                    jwk,
                })
            }
            Parsed::EC(point) => {
                let point = point.data();
                let (algorithm, name, curve) = match point.len() {
                    65 => (Algorithm::ES256, "ES256", "P-256"),
                    97 => (Algorithm::ES384, "ES384", "P-384"),
                    _ => return Err(KeyError::Unusable("only the curves P-256 and P-384 are supported".into())),
                };
                let (x, y) = point[1..].split_at(point.len() / 2);
                let jwk = json!({
                    "use": "sig", "kty": "EC", "kid": id, "crv": curve, "alg": name, "x": encode(x), "y": encode(y),
                });
                Ok(PublicKey { id, algorithm, decoding: DecodingKey::from_ec_der(point), jwk })
            }
            _ => Err(KeyError::Unusable("only RSA and EC keys are supported".into())),
        }
    }

    /// The key as a JSON Web Key.
    pub fn jwk(&self) -> &Value {
        &self.jwk
    }
}

impl PrivateKey {
    pub fn from_file(path: &Path) -> Result<Self, KeyError> {
        Self::from_pem(&read(path)?)
    }

    /// The first private key of the text: RSA (PKCS#1, PKCS#8) or EC on P-256 or P-384 (SEC1, PKCS#8).
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        for block in parse(text)? {
            if let Some(key) = Self::from_block(&block)? {
                return Ok(key);
            }
        }
        Err(KeyError::None)
    }

    fn from_block(block: &pem::Pem) -> Result<Option<Self>, KeyError> {
        let der = block.contents();
        let pair = match block.tag() {
            "RSA PRIVATE KEY" => Pair::Rsa(RsaKeyPair::from_der(der).map_err(unusable)?),
            "EC PRIVATE KEY" => Pair::Ec(ec_pair(der)?),
            "PRIVATE KEY" => match RsaKeyPair::from_pkcs8(der) {
                Ok(pair) => Pair::Rsa(pair),
                Err(_) => Pair::Ec(ec_pair(der)?),
            },
            _ => return Ok(None),
        };
        let der: PublicKeyX509Der<'static> = match &pair {
            Pair::Rsa(pair) => pair.public_key().as_der(),
            Pair::Ec(pair) => pair.public_key().as_der(),
        }
        .map_err(unusable)?;
        Ok(Some(PrivateKey { public: PublicKey::from_der(der.as_ref())?, pair }))
    }

    /// The signature of a token's signed part.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).map_err(unusable)?;
                Ok(signature)
            }
            Pair::Ec(pair) => Ok(pair.sign(&random, message).map_err(unusable)?.as_ref().to_vec()),
        }
    }
}

/// An EC key in PKCS#8 or SEC1, on whichever of the two curves it is.
fn ec_pair(der: &[u8]) -> Result<EcdsaKeyPair, KeyError> {
    let algorithms: [&'static EcdsaSigningAlgorithm; 2] =
        [&ECDSA_P256_SHA256_FIXED_SIGNING, &ECDSA_P384_SHA384_FIXED_SIGNING];
    algorithms
        .into_iter()
        .find_map(|algorithm| {
            EcdsaKeyPair::from_pkcs8(algorithm, der)
                .or_else(|_| EcdsaKeyPair::from_private_key_der(algorithm, der))
                .ok()
        })
        .ok_or_else(|| KeyError::Unusable("neither RSA nor EC on P-256 or P-384".into()))
}

fn read(path: &Path) -> Result<String, KeyError> {
    std::fs::read_to_string(path).map_err(|source| KeyError::Read { path: path.display().to_string(), source })
}

fn parse(text: &str) -> Result<Vec<pem::Pem>, KeyError> {
    pem::parse_many(text).map_err(|e| KeyError::Pem(e.to_string()))
}

fn unusable(error: impl std::fmt::Display) -> KeyError {
    KeyError::Unusable(error.to_string())
}

/// A big-endian number without leading zeros.
fn trim(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}

/// A PKCS#1 public key as a SubjectPublicKeyInfo (RFC 3279, section 2.3.1).
fn wrap_rsa(pkcs1: &[u8]) -> Vec<u8> {
    const RSA: [u8; 15] = [0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];
    let mut bits = vec![0];
    bits.extend_from_slice(pkcs1);
    let mut body = RSA.to_vec();
    body.extend(der(0x03, &bits));
    der(0x30, &body)
}

/// One DER element.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let length = trim(&length);
    let mut out = vec![tag];
    match content.len() {
        short @ 0..=127 => out.push(short as u8),
        _ => {
            out.push(0x80 | length.len() as u8);
            out.extend_from_slice(length);
        }
    }
    out.extend_from_slice(content);
    out
}
