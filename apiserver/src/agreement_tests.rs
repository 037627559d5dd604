//! Reads of several servers on one real etcd: nothing that was acknowledged by one is missing from what another one answers.

use std::time::{Duration, Instant};

use apiserver_storage::{Mode, Store, Written};
use e2e::ControlPlane;
use nix::sys::signal::Signal;
use serde_json::json;

use crate::testing;

fn key(number: usize) -> String {
    format!("/registry/configmaps/default/c-{number}")
}

async fn create(store: &Store, number: usize) -> i64 {
    let json = json!({"metadata": {"name": format!("c-{number}")}}).to_string().into_bytes();
    match store.create(&key(number), json, None).await.expect("etcd") {
        Written::Done(object) => object.revision,
        Written::Conflict(_) => panic!("{number} exists"),
    }
}

/// An etcd without an apiserver.
async fn etcd() -> ControlPlane {
    let mut plane = ControlPlane::start().await.expect("etcd");
    plane.apiserver().expect("it runs").stop(Duration::from_secs(20)).expect("it ends");
    plane
}

async fn until_sole(store: &Store) {
    let mut modes = store.modes();
    let sole = modes.wait_for(|mode| matches!(mode, Mode::Sole { .. }));
    let taken = tokio::time::timeout(Duration::from_secs(20), sole).await.expect("the right to write alone is taken");
    taken.expect("the store lives");
    assert!(store.known().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lone_server_answers_what_it_has_written_without_asking() {
    let mut plane = etcd().await;
    let (store, _end, _running) = testing::server(&plane, "one").await;
    until_sole(&store).await;
    for number in 0..100 {
        create(&store, number).await;
        store.consistent().await.expect("consistent");
        assert!(store.cache().get(&key(number)).is_some(), "{number}");
    }
    plane.etcd().expect("it runs").signal(Signal::SIGSTOP).expect("it stands still");
    store.consistent().await.expect("nobody is asked");
    let begun = Instant::now();
    while store.known().is_some() {
        assert!(begun.elapsed() < Duration::from_secs(5), "a lease that etcd may have ended is relied on");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    plane.etcd().expect("it stands still").signal(Signal::SIGCONT).expect("it goes on");
    store.consistent().await.expect("etcd is asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_of_two_servers_acknowledges_the_other_one_reads() {
    let plane = etcd().await;
    let (one, _end, _running) = testing::server(&plane, "one").await;
    until_sole(&one).await;
    let (two, end, running) = testing::server(&plane, "two").await;
    for number in 0..200 {
        let (writer, reader) = if number % 2 == 0 { (&two, &one) } else { (&one, &two) };
        create(writer, number).await;
        reader.consistent().await.expect("consistent");
        assert!(reader.cache().get(&key(number)).is_some(), "{number}");
    }
    assert!(one.known().is_none() && two.known().is_none());
    end.cancel();
    running.await.expect("it ends");
    until_sole(&one).await;
    create(&one, 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_vanished_does_not_keep_the_others_from_writing_for_long() {
    let plane = etcd().await;
    let (gone, _end, running) = testing::server(&plane, "gone").await;
    until_sole(&gone).await;
    running.abort();
    let (next, _end, _running) = testing::server(&plane, "next").await;
    create(&next, 0).await;
    assert!(gone.known().is_none(), "both rely on being alone");
    // The same process name: nobody has to wait for the lease.
    let (again, _end, running) = testing::server(&plane, "next").await;
    running.abort();
    let begun = Instant::now();
    let (restarted, _end, _running) = testing::server(&plane, "next").await;
    create(&restarted, 1).await;
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    drop(again);
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_a_server_of_kubernetes_every_read_asks() {
    let plane = etcd().await;
    let (store, _end, _running) = testing::server(&plane, "one").await;
    until_sole(&store).await;
    let now = apimachinery::time::Moment::now().to_micros();
    let identity = json!({"metadata": {"name": "apiserver-x", "namespace": "kube-system"}, "spec": {"renewTime": now}});
    let mut client = testing::client(&plane).await;
    client.put("/registry/leases/kube-system/apiserver-x", identity.to_string(), None).await.expect("etcd");
    let begun = Instant::now();
    while store.known().is_some() {
        assert!(begun.elapsed() < Duration::from_secs(10), "the other server is not seen");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    create(&store, 0).await;
}
