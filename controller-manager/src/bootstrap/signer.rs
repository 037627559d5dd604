//! Signing the kubeconfig in the ConfigMap `kube-public/cluster-info` with each bootstrap token, so that a node which only knows its
//! token can trust what it reads there. The signature is a JWS (HS256) without its payload.

use std::collections::BTreeMap;

use async_trait::async_trait;
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use component_base::informer::{Key, Selector, Store};
use component_base::queue::WorkQueue;
use component_base::runner::{Controller, Error, Requeue};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::PostParams;
use kube::{Api, Client};

use super::{NAMESPACE, SECRET_TYPE, Token};
use crate::context::Context;

const CLUSTER_INFO: (&str, &str) = ("kube-public", "cluster-info");
const KUBECONFIG: &str = "kubeconfig";
const SIGNATURE_PREFIX: &str = "jws-kubeconfig-";

struct Signer {
    client: Client,
    secrets: Store<Secret>,
    info: Store<ConfigMap>,
}

/// Runs the controller.
pub async fn start(ctx: Context) -> Result<(), Error> {
    let client = ctx.client("bootstrap-signer").await?;
    let secrets = ctx.informers.get_namespaced::<Secret>(NAMESPACE, Selector::fields(format!("type={SECRET_TYPE}")));
    let (namespace, name) = CLUSTER_INFO;
    let info = ctx.informers.get_namespaced::<ConfigMap>(namespace, Selector::fields(format!("metadata.name={name}")));
    let queue = WorkQueue::new();
    let keys = queue.clone();
    secrets.on_change(move |_| keys.add(Key::new(namespace, name)));
    let keys = queue.clone();
    info.on_change(move |change| keys.add(change.key()));
    futures::join!(secrets.synced(), info.synced());
    let controller = Signer { client, secrets: secrets.store(), info: info.store() };
    ctx.run(controller, queue, 1).await;
    Ok(())
}

fn sign(content: &str, token: &Token) -> String {
    let header = URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"HS256","kid":"{}"}}"#, token.id));
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(content));
    let key = hmac::Key::new(hmac::HMAC_SHA256, token.secret.as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&key, signed.as_bytes()));
    format!("{header}..{signature}")
}

/// The data that the ConfigMap ought to have, or `None` if it has it or there is nothing to sign.
fn plan(info: &ConfigMap, tokens: &[Token], now: Timestamp) -> Option<BTreeMap<String, String>> {
    let data = info.data.as_ref()?;
    let content = data.get(KUBECONFIG)?;
    let unsigned = data.iter().filter(|(key, _)| !key.starts_with(SIGNATURE_PREFIX));
    let mut wanted: BTreeMap<String, String> = unsigned.map(|(k, v)| (k.clone(), v.clone())).collect();
    for token in tokens.iter().filter(|t| t.signs && !t.is_expired(now)) {
        wanted.insert(format!("{SIGNATURE_PREFIX}{}", token.id), sign(content, token));
    }
    (wanted != *data).then_some(wanted)
}

#[async_trait]
impl Controller for Signer {
    type Key = Key;

    fn name(&self) -> &'static str {
        "bootstrap-signer-controller"
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(info) = self.info.get(key) else { return Ok(Requeue::No) };
        let tokens: Vec<Token> = self.secrets.list().iter().filter_map(|secret| Token::of(secret)).collect();
        let Some(data) = plan(&info, &tokens, Timestamp::now()) else { return Ok(Requeue::No) };
        let changed = ConfigMap { data: Some(data), ..(*info).clone() };
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &key.namespace);
        api.replace(&key.name, &PostParams::default(), &changed).await?;
        Ok(Requeue::No)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bootstrap::tests::secret;

    fn info(data: &[(&str, &str)]) -> ConfigMap {
        let data = data.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        ConfigMap { data: Some(data), ..ConfigMap::default() }
    }

    #[test]
    fn the_signature_is_a_jws_without_its_payload() {
        let token = Token::of(&secret("abcdef", &[])).unwrap();
        let signature = sign("content", &token);
        let (header, mac) = signature.split_once("..").unwrap();
        assert_eq!(URL_SAFE_NO_PAD.decode(header).unwrap(), br#"{"alg":"HS256","kid":"abcdef"}"#);
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"0123456789abcdef");
        let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode("content"));
        hmac::verify(&key, signed.as_bytes(), &URL_SAFE_NO_PAD.decode(mac).unwrap()).unwrap();
    }

    #[test]
    fn signatures_follow_the_tokens() {
        let now: Timestamp = "2026-01-02T00:00:00Z".parse().unwrap();
        let token = |id, more: &[(&str, &str)]| Token::of(&secret(id, more)).unwrap();
        let tokens = [
            token("aaaaaa", &[("usage-bootstrap-signing", "true")]),
            token("bbbbbb", &[]),
            token("cccccc", &[("usage-bootstrap-signing", "true"), ("expiration", "2026-01-01T00:00:00Z")]),
        ];
        let data = plan(&info(&[("kubeconfig", "x"), ("jws-kubeconfig-oldold", "y")]), &tokens, now).unwrap();
        assert_eq!(data.keys().collect::<Vec<_>>(), ["jws-kubeconfig-aaaaaa", "kubeconfig"]);
        let settled = ConfigMap { data: Some(data), ..ConfigMap::default() };
        assert_eq!(plan(&settled, &tokens, now), None);
        assert_eq!(plan(&info(&[]), &tokens, now), None, "there is nothing to sign yet");
    }
}
