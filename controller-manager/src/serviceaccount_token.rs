//! Tokens of service accounts in Secrets of type `kubernetes.io/service-account-token`, for those who make such Secrets: they are filled in, and go with
//! their accounts.

use std::collections::BTreeMap;

use async_trait::async_trait;
use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use component_base::client::{is_conflict, is_not_found};
use component_base::informer::{Key, Selector, Store};
use component_base::pki;
use component_base::queue::WorkQueue;
use component_base::runner::{Controller, Error, Requeue};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::api::{ObjectMeta, PartialObjectMeta, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use crate::context::Context;
use crate::writes;

const SECRET_TYPE: &str = "kubernetes.io/service-account-token";
/// Names the account of a Secret.
const ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";
const ISSUER: &str = "kubernetes/serviceaccount";
/// Index of Secrets by account.
const BY_ACCOUNT: &str = "account";

/// What of accounts is looked at.
pub type Account = PartialObjectMeta<ServiceAccount>;

struct Tokens {
    client: Client,
    secrets: Store<Secret>,
    accounts: Store<Account>,
    signer: Signer,
    authority: Option<Vec<u8>>,
}

/// Runs the controller, if `--service-account-private-key-file` is given. It acts as the process itself: there is no account with its rights.
pub async fn start(ctx: Context) -> Result<(), Error> {
    let flags = &ctx.options.controllers;
    let Some(path) = &flags.service_account_private_key_file else {
        tracing::info!("no --service-account-private-key-file: Secrets of service accounts get no tokens");
        ctx.shutdown.cancelled().await;
        return Ok(());
    };
    let read = async |path: &std::path::Path| {
        tokio::fs::read(path).await.map_err(|error| format!("cannot read {}: {error}", path.display()))
    };
    let signer = Signer::new(&read(path).await?)?;
    let authority = match &flags.root_ca_file {
        Some(path) => Some(read(path).await?),
        None => None,
    };
    let accounts = ctx.informers.get::<Account>();
    let secrets = ctx.informers.get_with::<Secret>(Selector::fields(format!("type={SECRET_TYPE}")));
    secrets.add_index(BY_ACCOUNT, |secret| {
        let account = secret.annotations().get(ACCOUNT_NAME);
        account.map(|name| Key::new(secret.namespace().unwrap_or_default(), name).to_string()).into_iter().collect()
    });
    let queue: WorkQueue<Key> = ctx.keys_of(&secrets);
    let (keys, known) = (queue.clone(), secrets.store());
    accounts.on_change(move |change| {
        for secret in known.indexed(BY_ACCOUNT, &change.key().to_string()) {
            keys.add(Key::of(secret.as_ref()));
        }
    });
    futures::join!(accounts.synced(), secrets.synced());
    let client = ctx.informers.client().clone();
    let controller = Tokens { client, secrets: secrets.store(), accounts: accounts.store(), signer, authority };
    ctx.run(controller, queue, flags.concurrent_serviceaccount_token_syncs).await;
    Ok(())
}

/// Signs tokens with the cluster's key for service accounts.
struct Signer {
    key: EncodingKey,
    header: Header,
}

impl Signer {
    fn new(pem: &[u8]) -> Result<Self, Error> {
        let pair = pki::parse_key(std::str::from_utf8(pem)?)?;
        let (algorithm, key) = match EncodingKey::from_rsa_pem(pem) {
            Ok(key) => (Algorithm::RS256, key),
            Err(_) => (Algorithm::ES256, EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes())?),
        };
        let mut header = Header::new(algorithm);
        // As Kubernetes names keys: by the hash of the public one.
        let public = pki::public_key_der(&pair);
        header.kid = Some(URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, &public)));
        header.typ = None;
        Ok(Self { key, header })
    }

    fn sign(&self, secret: &Secret, account: &Account) -> Result<String, jsonwebtoken::errors::Error> {
        let (namespace, name) = (secret.namespace().unwrap_or_default(), account.name_any());
        let claims = json!({
            "iss": ISSUER,
            "sub": format!("system:serviceaccount:{namespace}:{name}"),
            "kubernetes.io/serviceaccount/namespace": namespace,
            "kubernetes.io/serviceaccount/secret.name": secret.name_any(),
            "kubernetes.io/serviceaccount/service-account.name": name,
            "kubernetes.io/serviceaccount/service-account.uid": account.uid(),
        });
        jsonwebtoken::encode(&self.header, &claims, &self.key)
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Plan {
    Nothing,
    /// Its account is gone.
    Delete,
    /// These entries and the account's uid are missing or wrong, and a token if so said.
    Fill {
        data: BTreeMap<String, ByteString>,
        needs_token: bool,
    },
}

/// What to do about a Secret whose account is this.
fn plan(secret: &Secret, account: Option<&ObjectMeta>, authority: Option<&[u8]>) -> Plan {
    let Some(account) = account else { return Plan::Delete };
    let uid = secret.annotations().get(ACCOUNT_UID).filter(|uid| !uid.is_empty());
    if uid.is_some_and(|uid| Some(uid) != account.uid.as_ref()) {
        return Plan::Delete;
    }
    let data = secret.data.clone().unwrap_or_default();
    let namespace = secret.namespace().unwrap_or_default().into_bytes();
    let mut wanted = vec![("namespace", namespace)];
    wanted.extend(authority.map(|authority| ("ca.crt", authority.to_vec())));
    let is_there = |(name, value): &(&str, Vec<u8>)| data.get(*name).is_some_and(|known| known.0 == *value);
    let needs_token = data.get("token").is_none_or(|token| token.0.is_empty());
    if uid.is_some() && !needs_token && wanted.iter().all(is_there) {
        return Plan::Nothing;
    }
    let data = wanted.into_iter().map(|(name, value)| (name.to_owned(), ByteString(value))).collect();
    Plan::Fill { data, needs_token }
}

#[async_trait]
impl Controller for Tokens {
    type Key = Key;

    fn name(&self) -> &'static str {
        "serviceaccount-token-controller"
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(secret) = self.secrets.get(key) else { return Ok(Requeue::No) };
        let Some(name) = secret.annotations().get(ACCOUNT_NAME) else { return Ok(Requeue::No) };
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &key.namespace);
        let account = match self.accounts.find(&key.namespace, name) {
            Some(account) => Some(account),
            // The cache may be behind: that there is none is believed only from the server.
            None => {
                let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &key.namespace);
                accounts.get_metadata_opt(name).await?.map(std::sync::Arc::new)
            }
        };
        let meta = account.as_ref().map(|account| &account.metadata);
        match plan(&secret, meta, self.authority.as_deref()) {
            Plan::Nothing => Ok(Requeue::No),
            Plan::Delete => {
                writes::delete(&api, &secret.metadata).await?;
                Ok(Requeue::No)
            }
            Plan::Fill { data, needs_token } => {
                let Some(account) = account else { return Ok(Requeue::No) };
                let mut filled = (*secret).clone();
                let entries = filled.data.get_or_insert_default();
                entries.extend(data);
                if needs_token {
                    let token = self.signer.sign(&secret, &account)?;
                    entries.insert("token".to_owned(), ByteString(token.into_bytes()));
                }
                filled.annotations_mut().insert(ACCOUNT_UID.to_owned(), account.uid().unwrap_or_default());
                match api.replace(&key.name, &PostParams::default(), &filled).await {
                    Err(error) if is_conflict(&error) => Ok(Requeue::Backoff),
                    Err(error) if !is_not_found(&error) => Err(error.into()),
                    _ => Ok(Requeue::No),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(uid: &str, data: &[(&str, &str)]) -> Secret {
        let annotations =
            BTreeMap::from([(ACCOUNT_NAME.to_owned(), "robot".to_owned()), (ACCOUNT_UID.to_owned(), uid.to_owned())]);
        let data = data.iter().map(|(name, value)| ((*name).to_owned(), ByteString(value.as_bytes().to_vec())));
        let metadata = ObjectMeta {
            name: Some("robot-token".into()),
            namespace: Some("team".into()),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        };
        Secret { metadata, data: Some(data.collect()), ..Secret::default() }
    }

    #[test]
    fn a_secret_is_filled_once_and_goes_with_its_account() {
        let account = ObjectMeta { uid: Some("u".into()), ..ObjectMeta::default() };
        let full = [("namespace", "team"), ("ca.crt", "CA"), ("token", "t")];
        for (secret, account, expected) in [
            (secret("u", &full), Some(&account), Plan::Nothing),
            (secret("u", &full), None, Plan::Delete),
            (secret("earlier", &full), Some(&account), Plan::Delete),
        ] {
            assert_eq!(plan(&secret, account, Some(b"CA")), expected);
        }
        for (secret, token) in [
            (secret("", &[]), true),
            (secret("u", &full[..2]), true),
            (secret("u", &[("token", "t"), ("ca.crt", "OLD")]), false),
        ] {
            let Plan::Fill { data, needs_token } = plan(&secret, Some(&account), Some(b"CA")) else {
                panic!("{secret:?}")
            };
            assert_eq!((data["ca.crt"].0.as_slice(), data["namespace"].0.as_slice()), (&b"CA"[..], &b"team"[..]));
            assert_eq!(needs_token, token);
        }
    }

    #[test]
    fn a_token_names_its_account_and_the_key() {
        for kind in [pki::KeyType::EcdsaP256, pki::KeyType::Rsa2048] {
            let pem = pki::generate_key(kind).unwrap().serialize_pem();
            let signer = Signer::new(pem.as_bytes()).unwrap();
            let account = Account {
                metadata: ObjectMeta { name: Some("robot".into()), uid: Some("u".into()), ..ObjectMeta::default() },
                types: None,
                ..Default::default()
            };
            let token = signer.sign(&secret("", &[]), &account).unwrap();
            let header = jsonwebtoken::decode_header(&token).unwrap();
            assert_eq!(header.kid.unwrap().len(), 43);
            let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
            let claims: serde_json::Value = serde_json::from_slice(&payload).unwrap();
            assert_eq!(claims["sub"], "system:serviceaccount:team:robot");
            assert_eq!(claims["kubernetes.io/serviceaccount/service-account.uid"], "u");
        }
    }
}
