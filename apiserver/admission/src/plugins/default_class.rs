//! The class that objects get which name none: the one that an annotation marks as the default.

use std::collections::BTreeMap;

use apimachinery::meta;
use apiserver_storage::reader::Change;
use parking_lot::RwLock;

/// The classes marked as default, by name, with the time of their creation.
#[derive(Default)]
pub(super) struct DefaultClass {
    marked: RwLock<BTreeMap<String, String>>,
}

impl DefaultClass {
    /// The newest of those that are marked; of two from the same second, the first by name.
    pub(super) fn name(&self) -> Option<String> {
        let marked = self.marked.read();
        let newest = marked.values().max()?;
        marked.iter().find(|(_, created)| *created == newest).map(|(name, _)| name.clone())
    }

    /// `annotations` mark a class when they are `true`.
    pub(super) fn observe(&self, change: &Change<'_>, annotations: &[&str]) {
        let mut marked = self.marked.write();
        marked.remove(change.name);
        if let Some(class) = change.new.as_deref()
            && annotations.iter().any(|key| meta::annotation(class, key) == Some("true"))
        {
            marked.insert(change.name.to_owned(), meta::creation_timestamp(class).to_owned());
        }
    }
}
