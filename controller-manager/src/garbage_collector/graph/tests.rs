use super::*;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::discovery::ApiResource;

fn resource(kind: &str) -> Arc<Resource> {
    let api = ApiResource {
        group: "apps".into(),
        version: "v1".into(),
        api_version: "apps/v1".into(),
        kind: kind.into(),
        plural: format!("{}s", kind.to_lowercase()),
    };
    Arc::new(Resource { api, namespaced: true, deletes_collections: true })
}

fn object(finalizer: Option<&str>) -> Object {
    let meta = ObjectMeta {
        name: Some("x".into()),
        namespace: Some("ns".into()),
        finalizers: finalizer.map(|f| vec![f.into()]),
        deletion_timestamp: finalizer.map(|_| Time(jiff::Timestamp::UNIX_EPOCH)),
        ..ObjectMeta::default()
    };
    Object::new(&resource("Thing"), &meta)
}

fn owner(uid: &str, blocks: bool) -> OwnerReference {
    OwnerReference { uid: uid.into(), block_owner_deletion: Some(blocks), ..OwnerReference::default() }
}

fn delete(uid: &str) -> Work {
    Work::Delete(uid.into())
}

/// `parent` owns `child`, and all lists have arrived.
fn family() -> Graph {
    let mut graph = Graph::default();
    graph.set("child", object(None), &[owner("parent", true)]);
    graph.set("parent", object(None), &[]);
    assert!(graph.complete().is_empty(), "the order of the first lists does not matter");
    graph
}

#[test]
fn a_gone_owner_makes_its_dependents_worth_a_look() {
    let mut graph = family();
    assert_eq!(graph.remove("parent"), [delete("child")]);
    graph.remove("child");
    assert_eq!(graph.len(), 0, "nothing is kept of owners without dependents");
}

#[test]
fn an_owner_never_seen_is_looked_for_after_the_first_lists() {
    let mut graph = Graph::default();
    assert!(graph.set("child", object(None), &[owner("parent", false)]).is_empty());
    assert_eq!(graph.complete(), [delete("child")]);
    assert_eq!(graph.set("late", object(None), &[owner("parent", false)]), [delete("late")]);
    graph.set("parent", object(None), &[]);
    assert_eq!(graph.dependents("parent").len(), 2, "an owner that comes late finds its dependents");
}

#[test]
fn foreground_deletion_takes_dependents_along_and_ends_with_the_last() {
    let mut graph = family();
    let work = graph.set("parent", object(Some(FOREGROUND)), &[]);
    assert!(work.contains(&delete("child")) && work.contains(&delete("parent")));
    assert_eq!(graph.blocking_dependents("parent"), ["child".into()] as [Uid; 1]);
    assert_eq!(graph.remove("child"), [delete("parent")]);
    assert!(graph.blocking_dependents("parent").is_empty());
}

#[test]
fn a_dependent_that_no_longer_blocks_frees_its_owner() {
    let mut graph = family();
    graph.set("parent", object(Some(FOREGROUND)), &[]);
    assert_eq!(graph.set("child", object(None), &[owner("parent", false)]), [delete("parent")]);
    assert!(graph.blocking_dependents("parent").is_empty());
}

#[test]
fn orphaning_is_asked_for_by_the_finalizer() {
    let mut graph = family();
    assert_eq!(graph.set("parent", object(Some(ORPHAN)), &[]), [Work::Orphan("parent".into())]);
}

#[test]
fn deletions_under_way_at_the_start_are_taken_up() {
    let mut graph = Graph::default();
    graph.set("parent", object(Some(FOREGROUND)), &[]);
    graph.set("child", object(None), &[owner("parent", true)]);
    let work = graph.complete();
    assert!(work.contains(&delete("child")) && work.contains(&delete("parent")));
}

#[test]
fn a_list_shows_what_is_missing() {
    let mut graph = family();
    let missing = graph.missing(&resource("Thing"), &HashSet::from(["parent".to_owned()]));
    assert_eq!(missing, ["child".into()] as [Uid; 1]);
    assert!(graph.missing(&resource("Other"), &HashSet::new()).is_empty());
    graph.remove("child");
}
