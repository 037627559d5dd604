//! The watches: pods that have not finished, nodes, the labels of namespaces, disruption budgets, and what selects pods. Objects are made compact at once; the full ones are not kept.

use std::sync::Arc;

use component_base::runner::chain;
use component_base::shutdown::Shutdown;
use futures::StreamExt;
use k8s_openapi::api::apps::v1::{ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1 as api;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::PartialObjectMeta;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use tokio::sync::mpsc;

use crate::cache::Budget;
use crate::groups::{Key, Kind, of_map};
use crate::labels::{Labels, Str, intern};
use crate::node::Node;
use crate::pod::Pod;
use crate::scheduler::Input;
use crate::selector::Selector;

/// Finished pods hold nothing; that a pod finishes is shown as its deletion.
const UNFINISHED: &str = "status.phase!=Succeeded,status.phase!=Failed";

/// Starts all watches. They end with the shutdown, or with the receiver.
pub fn start(client: &Client, inputs: &mpsc::Sender<Input>, shutdown: &Shutdown) {
    let pods = Watch::<api::Pod, Arc<Pod>> {
        compact: |pod| Pod::new(pod).map(Arc::new),
        one: Input::Pod,
        gone: |pod| pod.metadata.uid.as_deref().map(|uid| Input::PodGone { uid: uid.into() }),
        all: Input::AllPods,
        listed: Vec::new(),
    };
    let nodes = Watch::<api::Node, Arc<Node>> {
        compact: |node| Node::new(node).map(Arc::new),
        one: Input::Node,
        gone: |node| node.metadata.name.as_deref().map(|name| Input::NodeGone { name: intern(name) }),
        all: Input::AllNodes,
        listed: Vec::new(),
    };
    let namespaces = Watch::<PartialObjectMeta<api::Namespace>, (Str, Labels)> {
        compact: |object| {
            let meta = &object.metadata;
            Some((intern(meta.name.as_deref()?), Labels::new(meta.labels.as_ref())))
        },
        one: |(name, labels)| Input::Namespace { name, labels },
        gone: |object| object.metadata.name.as_deref().map(|name| Input::NamespaceGone { name: intern(name) }),
        all: Input::AllNamespaces,
        listed: Vec::new(),
    };
    let budgets = Watch::<PodDisruptionBudget, (Str, Budget)> {
        compact: |object| Some((budget_key(object)?, budget(object)?)),
        one: |(key, budget)| Input::Budget { key, budget },
        gone: |object| budget_key(object).map(|key| Input::BudgetGone { key }),
        all: Input::AllBudgets,
        listed: Vec::new(),
    };
    let (client, all) = (|| client.clone(), watcher::Config::default);
    tokio::spawn(pods.run(Api::all(client()), all().fields(UNFINISHED), inputs.clone(), shutdown.clone()));
    tokio::spawn(nodes.run(Api::all(client()), all(), inputs.clone(), shutdown.clone()));
    tokio::spawn(namespaces.run(Api::all(client()), all(), inputs.clone(), shutdown.clone()));
    tokio::spawn(budgets.run(Api::all(client()), all(), inputs.clone(), shutdown.clone()));
    tokio::spawn(groups::<api::Service>().run(Api::all(client()), all(), inputs.clone(), shutdown.clone()));
    tokio::spawn(groups::<api::ReplicationController>().run(
        Api::all(client()),
        all(),
        inputs.clone(),
        shutdown.clone(),
    ));
    tokio::spawn(groups::<ReplicaSet>().run(Api::all(client()), all(), inputs.clone(), shutdown.clone()));
    tokio::spawn(groups::<StatefulSet>().run(Api::all(client()), all(), inputs.clone(), shutdown.clone()));
}

fn budget_key(object: &PodDisruptionBudget) -> Option<Str> {
    let meta = &object.metadata;
    Some(format!("{}/{}", meta.namespace.as_deref()?, meta.name.as_deref()?).into())
}

fn budget(object: &PodDisruptionBudget) -> Option<Budget> {
    Some(Budget {
        namespace: intern(object.metadata.namespace.as_deref()?),
        selector: Selector::new(object.spec.as_ref()?.selector.as_ref()),
        allowed: object.status.as_ref().and_then(|status| status.disruptions_allowed).unwrap_or(0),
    })
}

/// What selects pods.
trait Group: kube::Resource {
    const KIND: Kind;

    fn selector(&self) -> Selector;
}

impl Group for api::Service {
    const KIND: Kind = Kind::Service;

    fn selector(&self) -> Selector {
        of_map(self.spec.as_ref().and_then(|spec| spec.selector.as_ref()))
    }
}

impl Group for api::ReplicationController {
    const KIND: Kind = Kind::ReplicationController;

    fn selector(&self) -> Selector {
        of_map(self.spec.as_ref().and_then(|spec| spec.selector.as_ref()))
    }
}

impl Group for ReplicaSet {
    const KIND: Kind = Kind::ReplicaSet;

    fn selector(&self) -> Selector {
        Selector::new(self.spec.as_ref().map(|spec| &spec.selector))
    }
}

impl Group for StatefulSet {
    const KIND: Kind = Kind::StatefulSet;

    fn selector(&self) -> Selector {
        Selector::new(self.spec.as_ref().map(|spec| &spec.selector))
    }
}

fn groups<K: Group>() -> Watch<K, (Key, Selector)> {
    Watch {
        compact: |object| Some((Key::new(K::KIND, object.meta())?, object.selector())),
        one: |(key, selector)| Input::Group { key, selector },
        gone: |object| Key::new(K::KIND, object.meta()).map(|key| Input::GroupGone { key }),
        all: |all| Input::AllGroups { kind: K::KIND, all },
        listed: Vec::new(),
    }
}

/// How the events of one kind become inputs.
struct Watch<K, T> {
    compact: fn(&K) -> Option<T>,
    one: fn(T) -> Input,
    gone: fn(&K) -> Option<Input>,
    all: fn(Vec<T>) -> Input,
    /// What the list under way has brought so far.
    listed: Vec<T>,
}

impl<K, T> Watch<K, T>
where
    K: kube::Resource + Clone + serde::de::DeserializeOwned + std::fmt::Debug + Send + 'static,
    T: Send + 'static,
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
