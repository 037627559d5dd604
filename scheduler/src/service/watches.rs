//! The watches: pods that have not finished, and nodes. Objects are made compact at once; the full ones are not kept.

use std::sync::Arc;

use component_base::runner::chain;
use component_base::shutdown::Shutdown;
use futures::StreamExt;
use k8s_openapi::api::core::v1 as api;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use tokio::sync::mpsc;

use crate::labels::intern;
use crate::node::Node;
use crate::pod::Pod;
use crate::scheduler::Input;

/// Finished pods hold nothing; that a pod finishes is shown as its deletion.
const UNFINISHED: &str = "status.phase!=Succeeded,status.phase!=Failed";

/// Starts both watches. They end with the shutdown, or with the receiver.
pub fn start(client: &Client, inputs: &mpsc::Sender<Input>, shutdown: &Shutdown) {
    let pods = Watch::<api::Pod, Pod> {
        compact: |pod| Pod::new(pod).map(Arc::new),
        one: Input::Pod,
        gone: |pod| pod.metadata.uid.as_deref().map(|uid| Input::PodGone { uid: uid.into() }),
        all: Input::AllPods,
        listed: Vec::new(),
    };
    let nodes = Watch::<api::Node, Node> {
        compact: |node| Node::new(node).map(Arc::new),
        one: Input::Node,
        gone: |node| node.metadata.name.as_deref().map(|name| Input::NodeGone { name: intern(name) }),
        all: Input::AllNodes,
        listed: Vec::new(),
    };
    let config = watcher::Config::default().fields(UNFINISHED);
    tokio::spawn(pods.run(Api::all(client.clone()), config, inputs.clone(), shutdown.clone()));
    tokio::spawn(nodes.run(Api::all(client.clone()), watcher::Config::default(), inputs.clone(), shutdown.clone()));
}

/// How the events of one kind become inputs.
struct Watch<K, T> {
    compact: fn(&K) -> Option<Arc<T>>,
    one: fn(Arc<T>) -> Input,
    gone: fn(&K) -> Option<Input>,
    all: fn(Vec<Arc<T>>) -> Input,
    /// What the list under way has brought so far.
    listed: Vec<Arc<T>>,
}

impl<K, T> Watch<K, T>
where
    K: kube::Resource + Clone + serde::de::DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    async fn run(mut self, api: Api<K>, config: watcher::Config, inputs: mpsc::Sender<Input>, shutdown: Shutdown) {
        let mut events = watcher(api, config).default_backoff().boxed();
        loop {
            let event = tokio::select! {
                () = shutdown.cancelled() => return,
                event = events.next() => event,
            };
            let input = match event {
                Some(Ok(event)) => self.input(event),
                Some(Err(error)) => {
                    tracing::warn!(error = chain(&error), "a watch failed and is tried again");
                    None
                }
                None => return,
            };
            if let Some(input) = input
                && inputs.send(input).await.is_err()
            {
                return;
            }
        }
    }

    fn input(&mut self, event: Event<K>) -> Option<Input> {
        match event {
            Event::Apply(object) => (self.compact)(&object).map(self.one),
            Event::Delete(object) => (self.gone)(&object),
            Event::Init => {
                self.listed.clear();
                None
            }
            Event::InitApply(object) => {
                self.listed.extend((self.compact)(&object));
                None
            }
            Event::InitDone => Some((self.all)(std::mem::take(&mut self.listed))),
        }
    }
}
