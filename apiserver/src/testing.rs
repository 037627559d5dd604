//! What tests of this crate share: a connection to a real etcd.

use std::sync::Arc;

use apiserver_storage::{Etcd, Store};
use clap::Parser;
use e2e::ControlPlane;
use etcd_client::Client;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::options::Options;
use crate::run::connect_etcd;
use crate::stored::StoredValues;

/// A client of the control plane's etcd.
pub async fn client(plane: &ControlPlane) -> Client {
    let file = |name: &str| plane.pki_dir().join(name).display().to_string();
    let options = Options::parse_from([
        "kube-apiserver".to_owned(),
        format!("--etcd-servers={}", plane.etcd_endpoint()),
        format!("--etcd-cafile={}", file("etcd/ca.crt")),
        format!("--etcd-certfile={}", file("apiserver-etcd-client.crt")),
        format!("--etcd-keyfile={}", file("apiserver-etcd-client.key")),
    ]);
    connect_etcd(&options).await.expect("etcd")
}

/// A running store on the control plane's etcd, as another server beside the control plane's.
pub async fn store(plane: &ControlPlane) -> Store {
    let (store, _, _) = server(plane, "another-server").await;
    store
}

/// As [`store`], with a name, its end, and what runs until then.
pub async fn server(plane: &ControlPlane, name: &str) -> (Store, CancellationToken, JoinHandle<()>) {
    let store = Store::new(Etcd::new(client(plane).await), Arc::new(StoredValues));
    let end = CancellationToken::new();
    let running = tokio::spawn(store.clone().run(name.to_owned(), end.clone()));
    store.ready().await;
    (store, end, running)
}
