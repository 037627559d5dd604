//! Get and list. Answers are cut from the watch cache; what is read is at least as new as the client asked for.
//!
//! Kubernetes documentation, "Kubernetes API concepts": resource versions, retrieving large results in chunks.

use std::sync::Arc;

use apimachinery::ApiError;
use apimachinery::status::Reason;
use apiserver_storage::{Object, Snapshot, Store};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::present::ListPosition;
use crate::request::Query;
use crate::selection::Selection;
use crate::served::Served;

/// What a `resourceVersion` parameter asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// The most recent state.
    Latest,
    /// Whatever there is.
    Any,
    /// A state not older than this.
    NotOlderThan(i64),
    /// Exactly this state.
    Exact(i64),
}

/// Reads a resource version.
///
/// # Errors
/// `BadRequest` when it is not a number.
pub fn parse_version(text: &str) -> Result<i64, ApiError> {
    let parsed = text.parse::<i64>().ok().filter(|version| *version >= 0);
    parsed.ok_or_else(|| {
        ApiError::bad_request(format!(
            "invalid resource version {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax"
        ))
    })
}

impl Freshness {
    pub fn of(query: &Query) -> Result<Self, ApiError> {
        let matching = query.get("resourceVersionMatch");
        let invalid = |detail: &str| {
            Err(ApiError::bad_request(format!("resourceVersionMatch: Invalid value: {matching:?}: {detail}")))
        };
        let version = query.get("resourceVersion");
        if matching.is_empty() {
            return Ok(match version {
                "" => Freshness::Latest,
                "0" => Freshness::Any,
                version => Freshness::NotOlderThan(parse_version(version)?),
            });
        }
        if version.is_empty() {
            return invalid("resourceVersionMatch is forbidden unless resourceVersion is provided");
        }
        match (matching, parse_version(version)?) {
            ("Exact", 0) => invalid("resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\""),
            ("Exact", version) => Ok(Freshness::Exact(version)),
            ("NotOlderThan", 0) => Ok(Freshness::Any),
            ("NotOlderThan", version) => Ok(Freshness::NotOlderThan(version)),
            _ => invalid("supported values: \"Exact\", \"NotOlderThan\""),
        }
    }

    /// Waits until the cache is as new as asked for.
    pub async fn wait(self, store: &Store) -> Result<(), ApiError> {
        match self {
            Freshness::Latest => store.consistent().await?,
            Freshness::NotOlderThan(version) | Freshness::Exact(version) => store.at_least(version).await?,
            Freshness::Any => {}
        }
        Ok(())
    }
}

/// Reads one object.
///
/// # Errors
/// `NotFound`; `Timeout` when the version asked for is in the future; `ServiceUnavailable` without etcd.
pub async fn get(
    store: &Store,
    served: &Served,
    namespace: &str,
    name: &str,
    query: &Query,
) -> Result<Arc<Object>, ApiError> {
    Freshness::of(query)?.wait(store).await?;
    find(store, served, namespace, name)
}

/// The object in the cache as it is now.
pub fn find(store: &Store, served: &Served, namespace: &str, name: &str) -> Result<Arc<Object>, ApiError> {
    let found = store.cache().get(&served.key(namespace, name));
    found.ok_or_else(|| ApiError::not_found(&served.resource.group, &served.resource.resource, name))
}

/// Where the next page begins: the form of upstream's tokens.
#[derive(Serialize, Deserialize)]
struct Token {
    v: String,
    rv: i64,
    start: String,
    /// How many objects the pages before had, where that says how many remain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seen: Option<usize>,
}

const TOKEN_VERSION: &str = "meta.k8s.io/v1";
/// The revision in a token that continues at whatever is current.
const INCONSISTENT: i64 = -1;

impl Token {
    fn encode(revision: i64, start: &str, seen: Option<usize>) -> String {
        let token = Token { v: TOKEN_VERSION.into(), rv: revision, start: start.into(), seen };
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token).expect("a token is plain data"))
    }

    fn decode(text: &str) -> Result<Self, ApiError> {
        let invalid = || ApiError::bad_request("continue key is not valid: encoded token is not usable");
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| invalid())?;
        let token: Token = serde_json::from_slice(&bytes).map_err(|_| invalid())?;
        let escapes = token.start.split('/').any(|part| part == "..");
        if token.v != TOKEN_VERSION || token.rv == 0 || escapes { Err(invalid()) } else { Ok(token) }
    }
}

/// A list's answer.
pub struct List {
    pub items: Vec<Arc<Object>>,
    pub position: ListPosition,
}

/// Reads a list, or one page of it.
///
/// # Errors
/// As [`get`]; `Expired` with a fresh token when the revision of a `continue` token is no longer there.
pub async fn list(store: &Store, selection: &Selection, query: &Query) -> Result<List, ApiError> {
    let limit = match query.get("limit") {
        "" => 0,
        text => text
            .parse::<i64>()
            .map_err(|_| ApiError::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")))?
            .max(0) as usize,
    };
    let (freshness, start) = match query.get("continue") {
        "" => (Freshness::of(query)?, Start { key: None, seen: Some(0) }),
        text => {
            if query.has("resourceVersion") && !matches!(query.get("resourceVersion"), "" | "0") {
                return Err(ApiError::bad_request("specifying resource version is not allowed when using continue"));
            }
            let token = Token::decode(text)?;
            let freshness = if token.rv == INCONSISTENT { Freshness::Latest } else { Freshness::Exact(token.rv) };
            (freshness, Start { key: Some(format!("{}{}", selection.prefix(), token.start)), seen: token.seen })
        }
    };
    freshness.wait(store).await?;
    let Freshness::Exact(revision) = freshness else {
        let snapshot = store.cache().snapshot();
        return Ok(page(store, selection, snapshot, &start, limit));
    };
    match store.snapshot_at(revision) {
        Some(snapshot) => Ok(page(store, selection, snapshot, &start, limit)),
        None => old_page(store, selection, revision, start.key.as_deref(), limit).await,
    }
}

/// Where a page starts.
struct Start {
    key: Option<String>,
    /// How many objects come before it, where that is known.
    seen: Option<usize>,
}

fn page(store: &Store, selection: &Selection, snapshot: Arc<Snapshot>, start: &Start, limit: usize) -> List {
    let mut selected = selection.select(&snapshot, start.key.as_deref());
    let mut position = ListPosition { revision: snapshot.revision, ..Default::default() };
    if limit == 0 {
        let items = selected.cloned().collect();
        return List { items, position };
    }
    let items: Vec<Arc<Object>> = selected.by_ref().take(limit).cloned().collect();
    if let (Some(next), Some(last)) = (selected.next(), items.last()) {
        let seen = start.seen.map(|seen| seen + items.len()).filter(|_| selection.is_everything());
        position.remaining = match seen {
            Some(seen) => Some(snapshot.count(&selection.prefix()).saturating_sub(seen)),
            None => selection.is_everything().then(|| 1 + selected.count()),
        };
        let start = continue_start(selection, &last.key);
        position.continue_token = Some(Token::encode(snapshot.revision, &start, seen));
        debug_assert!(next.key > last.key);
        store.keep(snapshot.clone());
    }
    List { items, position }
}

/// The part of a key below the selection's prefix, followed by the least character: where the next page starts.
fn continue_start(selection: &Selection, last: &str) -> String {
    format!("{}\0", last.strip_prefix(&selection.prefix()).unwrap_or(last))
}

/// A page at a revision that is only in etcd.
async fn old_page(
    store: &Store,
    selection: &Selection,
    revision: i64,
    start: Option<&str>,
    limit: usize,
) -> Result<List, ApiError> {
    let prefix = selection.prefix();
    let mut next = Some(start.unwrap_or(&prefix).to_owned());
    let mut items = Vec::new();
    while let Some(from) = next.take().filter(|_| limit == 0 || items.len() < limit) {
        let wanted = if limit == 0 { 0 } else { limit - items.len() };
        let listed = match store.range_at(&prefix, &from, wanted, revision).await {
            Ok(listed) => listed,
            Err(apiserver_storage::Error::Compacted) => return Err(expired(selection, start)),
            Err(error) => return Err(error.into()),
        };
        items.extend(listed.items.into_iter().filter(|object| selection.matches(object)));
        next = listed.next;
    }
    let continue_token = next.map(|next| Token::encode(revision, next.strip_prefix(&prefix).unwrap_or(&next), None));
    Ok(List { items, position: ListPosition { revision, continue_token, remaining: None } })
}

/// 410, with a token that continues the list at what is current, where the list was being continued.
fn expired(selection: &Selection, start: Option<&str>) -> ApiError {
    let Some(start) = start else {
        return ApiError::expired("The resourceVersion for the provided list is too old.");
    };
    let start = start.strip_prefix(&selection.prefix()).unwrap_or(start);
    let mut error = ApiError::new(
        Reason::Expired,
        "The provided continue parameter is too old to display a consistent list result. You can start a new list without \
         the continue parameter, or use the continue token in this response to retrieve the remainder of the results. \
         Continuing with the provided token results in an inconsistent list - objects that were created, modified, or \
         deleted between the time the first chunk was returned and now may show up in the list.",
    );
    error.0.metadata.continue_ = Token::encode(INCONSISTENT, start, None);
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    fn freshness(query: &str) -> Result<Freshness, u16> {
        Freshness::of(&Query::parse(Some(query))).map_err(|error| error.code())
    }

    #[test]
    fn resource_versions_mean_what_the_api_concepts_say() {
        assert_eq!(freshness(""), Ok(Freshness::Latest));
        assert_eq!(freshness("resourceVersion=0"), Ok(Freshness::Any));
        assert_eq!(freshness("resourceVersion=7"), Ok(Freshness::NotOlderThan(7)));
        assert_eq!(freshness("resourceVersion=7&resourceVersionMatch=Exact"), Ok(Freshness::Exact(7)));
        assert_eq!(freshness("resourceVersion=0&resourceVersionMatch=NotOlderThan"), Ok(Freshness::Any));
        assert_eq!(freshness("resourceVersion=0&resourceVersionMatch=Exact"), Err(400));
        assert_eq!(freshness("resourceVersionMatch=Exact"), Err(400));
        assert_eq!(freshness("resourceVersion=7&resourceVersionMatch=Newest"), Err(400));
        assert_eq!(freshness("resourceVersion=x"), Err(400));
    }

    #[test]
    fn tokens_round_trip_and_others_are_refused() {
        let token = Token::decode(&Token::encode(42, "ns/pod\0", Some(3))).expect("its own token");
        assert_eq!((token.rv, token.start.as_str()), (42, "ns/pod\0"));
        for bad in ["x", "e30", &Token::encode(0, "a", None), &Token::encode(3, "../secrets/", None)] {
            assert_eq!(Token::decode(bad).err().map(|error| error.code()), Some(400), "{bad}");
        }
    }
}
