use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::request::{Settings, grant};
use super::*;
use crate::authentication::service_account::{LEGACY_ISSUER, ServiceAccount};
use crate::authentication::{AuthError, Authenticated, TokenAuthenticator};
use crate::testing::State;
use crate::user::CREDENTIAL_ID;

const ISSUER: &str = "https://kubernetes.default.svc";
const START: i64 = 1_700_000_000;

struct World {
    state: Arc<State>,
    settings: Settings,
    time: Arc<AtomicI64>,
    authenticator: ServiceAccount,
}

fn key() -> PrivateKey {
    let pair = rcgen::KeyPair::generate().expect("a key");
    PrivateKey::from_pem(&pair.serialize_pem()).expect("a key")
}

fn world() -> World {
    let state = Arc::new(State::default());
    state.put("serviceaccounts", json!({"metadata": {"namespace": "dev", "name": "bot", "uid": "u-bot"}}));
    state.put("nodes", json!({"metadata": {"name": "n1", "uid": "u-n1"}}));
    let spec = json!({"serviceAccountName": "bot", "nodeName": "n1"});
    state.put("pods", json!({"metadata": {"namespace": "dev", "name": "web", "uid": "u-web"}, "spec": spec}));
    let issuer = Issuer::new(ISSUER, key());
    let keys = vec![key().public, issuer.public_key().clone()];
    let time = Arc::new(AtomicI64::new(START));
    let clock: crate::clock::Clock = {
        let time = Arc::clone(&time);
        Arc::new(move || Timestamp::from_second(time.load(Ordering::Relaxed)).expect("a time"))
    };
    let audiences = vec!["api".to_owned()];
    let reader: Arc<State> = Arc::clone(&state);
    let authenticator = ServiceAccount::new(vec![ISSUER.into()], keys, audiences.clone(), true, reader, clock);
    World {
        settings: Settings { issuer, api_audiences: audiences, max_seconds: None, extend: true },
        state,
        time,
        authenticator,
    }
}

impl World {
    async fn request(&self, spec: Value) -> Result<Value, apimachinery::ApiError> {
        let account = json!({"metadata": {"namespace": "dev", "name": "bot", "uid": "u-bot"}});
        let now = Timestamp::from_second(START).expect("a time");
        Ok(grant(&self.settings, &*self.state, &account, &json!({"spec": spec}), now).await?.object)
    }

    async fn token(&self, spec: Value) -> String {
        self.request(spec).await.expect("granted")["status"]["token"].as_str().expect("a token").to_owned()
    }

    async fn check(&self, token: &str) -> Result<Option<Authenticated>, AuthError> {
        self.authenticator.authenticate(token, &["api".to_owned()]).await
    }
}

fn pod_ref() -> Value {
    json!({"kind": "Pod", "apiVersion": "v1", "name": "web", "uid": "u-web"})
}

fn claims(token: &str) -> Claims {
    jsonwebtoken::dangerous::insecure_decode_claims(token).expect("claims")
}

#[tokio::test]
async fn a_bound_token_names_its_account_pod_and_node() {
    let world = world();
    let token = world.token(json!({"boundObjectRef": pod_ref()})).await;
    let found = world.check(&token).await.expect("valid").expect("ours");
    assert_eq!(found.user.name, "system:serviceaccount:dev:bot");
    assert_eq!(found.user.uid, "u-bot");
    assert_eq!(found.user.groups, ["system:serviceaccounts", "system:serviceaccounts:dev"]);
    assert_eq!(found.audiences, ["api"]);
    let extra = |key: &str| found.user.extra[&format!("authentication.kubernetes.io/{key}")][0].clone();
    assert_eq!((extra("pod-name").as_str(), extra("pod-uid").as_str()), ("web", "u-web"));
    assert_eq!((extra("node-name").as_str(), extra("node-uid").as_str()), ("n1", "u-n1"));
    assert_eq!(found.user.extra[CREDENTIAL_ID][0], format!("JTI={}", claims(&token).jti));
}

#[tokio::test]
async fn a_token_ends_with_its_time_and_with_what_it_is_bound_to() {
    let world = world();
    let token = world.token(json!({"boundObjectRef": pod_ref(), "expirationSeconds": 600})).await;
    assert!(world.check(&token).await.is_ok());
    world.time.store(START + 600 + 61, Ordering::Relaxed);
    assert!(world.check(&token).await.expect_err("late").to_string().contains("expired"));
    world.time.store(START, Ordering::Relaxed);
    world.state.put("pods", json!({"metadata": {"namespace": "dev", "name": "web", "uid": "another"}}));
    assert!(world.check(&token).await.expect_err("another pod").to_string().contains("invalidated"));
    world.state.remove("pods", "dev", "web");
    assert!(world.check(&token).await.is_err());
    let plain = world.token(json!({})).await;
    assert!(world.check(&plain).await.is_ok());
    world.state.remove("serviceaccounts", "dev", "bot");
    assert!(world.check(&plain).await.is_err());
}

#[tokio::test]
async fn a_deleted_pods_token_holds_for_a_minute_more() {
    let world = world();
    let token = world.token(json!({"boundObjectRef": pod_ref()})).await;
    let deleted = Timestamp::from_second(START).expect("a time").to_string();
    let metadata = json!({"namespace": "dev", "name": "web", "uid": "u-web", "deletionTimestamp": deleted});
    world.state.put("pods", json!({"metadata": metadata}));
    for (after, holds) in [(0, true), (60, true), (61, false)] {
        world.time.store(START + after, Ordering::Relaxed);
        assert_eq!(world.check(&token).await.is_ok(), holds, "{after} s after");
    }
}

#[tokio::test]
async fn tokens_of_others_are_refused() {
    let world = world();
    let token = world.token(json!({})).await;
    let (signed, signature) = token.rsplit_once('.').expect("three parts");
    let tampered = format!("{signed}.{}{}", if signature.starts_with('A') { "B" } else { "A" }, &signature[1..]);
    assert!(world.check(&tampered).await.is_err());
    let strangers = Issuer::new(ISSUER, key()).sign(&claims(&token)).expect("signed");
    assert!(world.check(&strangers).await.is_err());
    let elsewhere = Claims { iss: "https://elsewhere".into(), ..claims(&token) };
    let elsewhere = Issuer::new("x", key()).sign(&elsewhere).expect("signed");
    assert_eq!(world.check(&elsewhere).await, Ok(None), "for another authenticator");
    assert_eq!(world.check("not a token").await, Ok(None));
    let other_audience = world.token(json!({"audiences": ["vault"]})).await;
    assert!(world.check(&other_audience).await.expect_err("not for us").to_string().contains("audiences"));
}

#[tokio::test]
async fn the_tokens_of_projected_volumes_hold_long_and_warn() {
    let world = world();
    let object = world.request(json!({"boundObjectRef": pod_ref(), "expirationSeconds": 3607})).await.expect("granted");
    let claims = claims(object["status"]["token"].as_str().expect("a token"));
    assert_eq!(claims.exp, Some(START + 365 * 24 * 3600));
    assert_eq!(claims.kubernetes.expect("claims").warnafter, Some(START + 3607));
    let shown: Timestamp = object["status"]["expirationTimestamp"].as_str().expect("a time").parse().expect("a time");
    assert_eq!(shown.as_second(), START + 3607);
}

#[tokio::test]
async fn requests_that_cannot_be_granted_say_why() {
    let world = world();
    let bound = |changes: Value| {
        let mut reference = pod_ref();
        for (key, value) in changes.as_object().expect("an object") {
            reference[key] = value.clone();
        }
        json!({"boundObjectRef": reference})
    };
    world.state.put(
        "pods",
        json!({"metadata": {"namespace": "dev", "name": "db", "uid": "u-db"}, "spec": {"serviceAccountName": "db"}}),
    );
    let cases = [
        (json!({"expirationSeconds": 599}), 422),
        (json!({"expirationSeconds": 1_i64 << 33}), 422),
        (bound(json!({"name": "absent"})), 404),
        (bound(json!({"uid": "another"})), 409),
        (bound(json!({"name": "db", "uid": "u-db"})), 400),
        (bound(json!({"kind": "ConfigMap"})), 400),
    ];
    for (spec, code) in cases {
        assert_eq!(world.request(spec.clone()).await.map_err(|e| e.code()), Err(code), "{spec}");
    }
}

#[tokio::test]
async fn an_older_token_holds_while_its_secret_does() {
    use base64::Engine;
    let world = world();
    let claims = Claims {
        iss: LEGACY_ISSUER.into(),
        sub: "system:serviceaccount:dev:bot".into(),
        legacy_namespace: Some("dev".into()),
        legacy_secret: Some("bot-token".into()),
        legacy_name: Some("bot".into()),
        legacy_uid: Some("u-bot".into()),
        ..Claims::default()
    };
    let token = world.settings.issuer.sign(&claims).expect("signed");
    assert!(world.check(&token).await.is_err(), "no Secret");
    let data = json!({"token": base64::engine::general_purpose::STANDARD.encode(&token)});
    world.state.put("secrets", json!({"metadata": {"namespace": "dev", "name": "bot-token"}, "data": data}));
    let found = world.check(&token).await.expect("valid").expect("ours");
    assert_eq!(found.user.name, "system:serviceaccount:dev:bot");
}

#[test]
fn published_keys_check_the_tokens() {
    let issuer = Issuer::new(ISSUER, key());
    let keys = [issuer.public_key().clone()];
    let token = issuer.sign(&Claims { iss: ISSUER.into(), ..Claims::default() }).expect("signed");
    let set: jsonwebtoken::jwk::JwkSet = serde_json::from_value(discovery::jwks(&keys)).expect("a key set");
    let header = jsonwebtoken::decode_header(&token).expect("a header");
    let jwk = set.find(&header.kid.expect("a key id")).expect("the key");
    let mut rules = jsonwebtoken::Validation::new(header.alg);
    (rules.validate_exp, rules.validate_aud) = (false, false);
    rules.required_spec_claims.clear();
    let decoded = jsonwebtoken::decode::<Claims>(&token, &jwk.try_into().expect("a key"), &rules).expect("valid");
    assert_eq!(decoded.claims.iss, ISSUER);
    let document = discovery::document(ISSUER, "https://x/openid/v1/jwks", &keys);
    assert_eq!(document["id_token_signing_alg_values_supported"], json!(["ES256"]));
}

/// Where the PKCS#1 form begins within the PKCS#8 form of a 2048-bit key.
const PKCS1_OFFSET: usize = 26;

#[test]
fn rsa_keys_are_read_in_every_form() {
    use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
    use aws_lc_rs::rsa::{KeyPair, KeySize};
    use aws_lc_rs::signature::KeyPair as _;

    let pair = KeyPair::generate(KeySize::Rsa2048).expect("a key");
    let pkcs8: Pkcs8V1Der<'_> = pair.as_der().expect("PKCS#8");
    let spki: PublicKeyX509Der<'_> = pair.public_key().as_der().expect("a public key");
    let forms = [
        ("PRIVATE KEY", pkcs8.as_ref()),
        ("RSA PRIVATE KEY", &pkcs8.as_ref()[PKCS1_OFFSET..]),
        ("PUBLIC KEY", spki.as_ref()),
        ("RSA PUBLIC KEY", pair.public_key().as_ref()),
    ];
    let pem: Vec<String> = forms.iter().map(|(tag, der)| pem::encode(&pem::Pem::new(*tag, *der))).collect();
    let keys: Vec<PublicKey> = pem.iter().flat_map(|text| PublicKey::all_from_pem(text).expect(text)).collect();
    assert_eq!(keys.len(), forms.len());
    assert!(keys.iter().all(|key| key.id == keys[0].id), "one key");
    assert_eq!(PublicKey::all_from_pem(&pem.concat()).expect("all").len(), forms.len());
    for private in &pem[..2] {
        let issuer = Issuer::new(ISSUER, PrivateKey::from_pem(private).expect("a private key"));
        let token = issuer.sign(&Claims::default()).expect("signed");
        let mut rules = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::RS256);
        (rules.validate_exp, rules.validate_aud) = (false, false);
        rules.required_spec_claims.clear();
        jsonwebtoken::decode::<Claims>(&token, &keys[3].decoding, &rules).expect("valid");
    }
}
