//! Objects that pods name, each followed by a watch of its own while a pod of this node uses it. A pod is told when what it was given
//! is no longer what the API has.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use component_base::informer::{Informer, Informers, Key, Object, Selector};
use component_base::shutdown::Shutdown;
use k8s_openapi::NamespaceResourceScope;
use kube::{Api, Client};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// The watched objects of one kind.
pub struct Watched<K> {
    client: Client,
    entries: Mutex<HashMap<Key, Entry<K>>>,
}

struct Entry<K> {
    informer: Informer<K>,
    users: Arc<Users>,
    stop: Shutdown,
}

/// The pods that use an object, by uid.
type Users = Mutex<HashMap<String, User>>;

struct User {
    changed: Arc<Notify>,
    given: Given,
}

/// What a pod was last given.
#[derive(Clone, Debug, Default, PartialEq)]
enum Given {
    #[default]
    Nothing,
    Absent,
    Version(String),
}

impl Given {
    fn of<K: kube::Resource>(object: Option<&K>) -> Self {
        object.map_or(Self::Absent, |object| Self::Version(object.meta().resource_version.clone().unwrap_or_default()))
    }
}

impl<K> Watched<K>
where
    K: Object + kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    pub fn new(client: Client) -> Self {
        Self { client, entries: Mutex::default() }
    }

    /// From now on the pod uses exactly these objects of its namespace; `changed` is set off when one of them is not what it was given.
    pub fn follow(&self, uid: &str, namespace: &str, names: &BTreeSet<String>, changed: &Arc<Notify>) {
        let mut entries = self.entries.lock();
        for name in names {
            let key = Key::new(namespace, name);
            let entry = entries.entry(key.clone()).or_insert_with(|| self.watch(&key));
            let user = || User { changed: Arc::clone(changed), given: Given::Nothing };
            entry.users.lock().entry(uid.to_owned()).or_insert_with(user);
        }
        entries.retain(|key, entry| {
            let mut users = entry.users.lock();
            if !(key.namespace == namespace && names.contains(&key.name)) {
                users.remove(uid);
            }
            if users.is_empty() {
                entry.stop.cancel();
            }
            !users.is_empty()
        });
    }

    fn watch(&self, key: &Key) -> Entry<K> {
        let stop = Shutdown::new();
        let informers = Informers::new(self.client.clone(), stop.clone());
        let selector = Selector::fields(format!("metadata.name={}", key.name));
        let informer = informers.get_namespaced::<K>(&key.namespace, selector);
        let users: Arc<Users> = Arc::default();
        let told = Arc::clone(&users);
        informer.on_change(move |change| {
            let now = Given::of(change.new.as_deref());
            for user in told.lock().values().filter(|user| user.given != now) {
                user.changed.notify_one();
            }
        });
        Entry { informer, users, stop }
    }

    /// The object for a pod: from its watch, or asked for while there is none yet.
    pub async fn get(&self, uid: &str, namespace: &str, name: &str) -> Result<Option<Arc<K>>, kube::Error> {
        let key = Key::new(namespace, name);
        let cached = self.entries.lock().get(&key).filter(|entry| entry.informer.is_synced()).map(|entry| {
            let object = entry.informer.store().get(&key);
            entry.give(uid, object.as_deref());
            object
        });
        if let Some(object) = cached {
            return Ok(object);
        }
        let object = Api::<K>::namespaced(self.client.clone(), namespace).get_opt(name).await?.map(Arc::new);
        if let Some(entry) = self.entries.lock().get(&key) {
            entry.give(uid, object.as_deref());
            // The watch may have come first, with something newer.
            if entry.informer.is_synced()
                && Given::of(entry.informer.store().get(&key).as_deref()) != Given::of(object.as_deref())
            {
                entry.tell(uid);
            }
        }
        Ok(object)
    }
}

impl<K: kube::Resource> Entry<K> {
    fn give(&self, uid: &str, object: Option<&K>) {
        if let Some(user) = self.users.lock().get_mut(uid) {
            user.given = Given::of(object);
        }
    }

    fn tell(&self, uid: &str) {
        if let Some(user) = self.users.lock().get(uid) {
            user.changed.notify_one();
        }
    }
}
