//! The informers of a process, by kind and selector.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::NamespaceResourceScope;
use kube::runtime::watcher;
use kube::{Api, Client};
use parking_lot::Mutex;

use super::{Informer, Object};
use crate::shutdown::Shutdown;

/// Objects per page of a first list.
const PAGE_SIZE: u32 = 500;

/// Restricts an informer to some objects. The default is all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Selector {
    /// A field selector, such as `spec.nodeName=n1`.
    pub fields: Option<String>,
    /// A label selector, such as `!service.kubernetes.io/headless`.
    pub labels: Option<String>,
}

impl Selector {
    /// Only objects that match a field selector.
    pub fn fields(selector: impl Into<String>) -> Self {
        Self { fields: Some(selector.into()), ..Self::default() }
    }

    /// Only objects that match a label selector.
    pub fn labels(selector: impl Into<String>) -> Self {
        Self { labels: Some(selector.into()), ..Self::default() }
    }
}

/// What tells caches apart: the type, the request's path (resource and namespace) and the selector.
type CacheKey = (TypeId, String, Selector);

struct Cache {
    informer: Box<dyn Any + Send>,
    stop: Shutdown,
}

type Prune = Arc<dyn Any + Send + Sync>;

/// All informers of a process. Clones share them. Their tasks end at shutdown.
#[derive(Clone)]
pub struct Informers {
    client: Client,
    shutdown: Shutdown,
    caches: Arc<Mutex<HashMap<CacheKey, Cache>>>,
    prunes: Arc<Mutex<HashMap<TypeId, Prune>>>,
}

struct PruneFn<K>(Box<dyn Fn(&mut K) + Send + Sync>);

impl Informers {
    /// No informers yet; those that are asked for will use this client.
    pub fn new(client: Client, shutdown: Shutdown) -> Self {
        Self { client, shutdown, caches: Arc::default(), prunes: Arc::default() }
    }

    /// Says what to drop from objects of this type before they are cached, beside managed fields. Call it before the first
    /// [`get`](Self::get) of the type, and only for what no user of the cache reads or writes back.
    pub fn prune<K: Object>(&self, prune: impl Fn(&mut K) + Send + Sync + 'static) {
        self.prunes.lock().insert(TypeId::of::<K>(), Arc::new(PruneFn(Box::new(prune))));
    }

    /// The informer of all objects of a type, started now if it is the first use. Must be called within a tokio runtime.
    pub fn get<K: Object<DynamicType: Default>>(&self) -> Informer<K> {
        self.get_with(Selector::default())
    }

    /// The informer of the objects of a type that match.
    pub fn get_with<K: Object<DynamicType: Default>>(&self, selector: Selector) -> Informer<K> {
        self.get_dynamic(&K::DynamicType::default(), selector)
    }

    /// The informer of the objects of a type that are in one namespace and match: all that a role in that namespace needs to allow.
    pub fn get_namespaced<K>(&self, namespace: &str, selector: Selector) -> Informer<K>
    where
        K: Object<DynamicType: Default, Scope = NamespaceResourceScope>,
    {
        let dyntype = K::DynamicType::default();
        let api = Api::namespaced(self.client.clone(), namespace);
        self.get_api(api, &dyntype, selector)
    }

    /// The informer of a resource that is known only at run time: `PartialObjectMeta<DynamicObject>` or `DynamicObject` with its `ApiResource`.
    pub fn get_dynamic<K: Object>(&self, dyntype: &K::DynamicType, selector: Selector) -> Informer<K> {
        self.get_api(Api::all_with(self.client.clone(), dyntype), dyntype, selector)
    }

    /// Ends and forgets the informer of a resource that is gone. Its consumers get no more changes.
    pub fn forget_dynamic<K: Object>(&self, dyntype: &K::DynamicType, selector: Selector) {
        let path = K::url_path(dyntype, None);
        if let Some(cache) = self.caches.lock().remove(&(TypeId::of::<K>(), path, selector)) {
            cache.stop.cancel();
        }
    }

    /// The client that the informers use.
    pub fn client(&self) -> &Client {
        &self.client
    }

    fn get_api<K: Object>(&self, api: Api<K>, dyntype: &K::DynamicType, selector: Selector) -> Informer<K> {
        let id = (TypeId::of::<K>(), api.resource_url().to_owned(), selector.clone());
        let mut caches = self.caches.lock();
        if let Some(known) = caches.get(&id).and_then(|cache| cache.informer.downcast_ref::<Informer<K>>()) {
            return known.clone();
        }
        let informer = Informer::<K>::new();
        let stop = self.shutdown.child_token();
        caches.insert(id, Cache { informer: Box::new(informer.clone()), stop: stop.clone() });
        drop(caches);
        self.start(&informer, api, K::kind(dyntype).into_owned(), selector, stop);
        informer
    }

    fn start<K: Object>(&self, informer: &Informer<K>, api: Api<K>, kind: String, selector: Selector, stop: Shutdown) {
        let mut config = watcher::Config::default().page_size(PAGE_SIZE);
        config.field_selector = selector.fields;
        config.label_selector = selector.labels;
        let pruned = self.prunes.lock().get(&TypeId::of::<K>()).cloned();
        let informer = informer.clone();
        tokio::spawn(async move {
            let prune = |object: &mut K| {
                object.meta_mut().managed_fields = None;
                if let Some(prune) = pruned.as_deref().and_then(|prune| prune.downcast_ref::<PruneFn<K>>()) {
                    (prune.0)(object);
                }
            };
            informer.run(&kind, watcher(api, config), prune, stop).await;
        });
    }
}
