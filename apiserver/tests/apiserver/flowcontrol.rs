//! API Priority and Fairness at a whole server on a real etcd. A request whose body does not come keeps its seats.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::{Context, Result};
use component_base::tls::AcceptAnyServer;
use e2e::ControlPlane;
use e2e::control_plane::Options;
use e2e::http_client::{send, send_json};
use e2e::node::eventually;
use kube::Client;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const SCHEMAS: &str = "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas";
const LEVELS: &str = "/apis/flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations";
const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
/// What one share of the 246 is worth of 600 seats.
const SEATS: usize = 3;
const BODY: &str = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"generateName":"a-"}}"#;

async fn server() -> Result<(ControlPlane, Client)> {
    let plane = ControlPlane::start().await?;
    let client = plane.client().await?;
    Ok((plane, client))
}

async fn create(client: &Client, path: &str, object: &Value) -> Result<Value> {
    let answer = send_json(client, "POST", path, object).await?;
    assert_eq!(answer.code, 201, "{answer:?}");
    Ok(answer.json())
}

async fn get(client: &Client, path: &str) -> Result<Value> {
    Ok(send(client, "GET", path, &[], "").await?.json())
}

async fn text(client: &Client, path: &str) -> Result<String> {
    Ok(String::from_utf8(send(client, "GET", path, &[], "").await?.body)?)
}

/// A level of one share.
async fn create_level(client: &Client, response: Value) -> Result<Value> {
    let limited = json!({"nominalConcurrencyShares": 1, "lendablePercent": 0, "borrowingLimitPercent": 0,
        "limitResponse": response});
    let level = json!({"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "PriorityLevelConfiguration",
        "metadata": {"name": "narrow"}, "spec": {"type": "Limited", "limited": limited}});
    create(client, LEVELS, &level).await
}

fn schema(level: &str, users: &[&str]) -> Value {
    let subjects: Vec<Value> = users.iter().map(|name| json!({"kind": "User", "user": {"name": name}})).collect();
    let rule = json!({"subjects": subjects, "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"],
        "clusterScope": true, "namespaces": ["*"]}]});
    json!({"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema", "metadata": {"name": "narrow"},
        "spec": {"matchingPrecedence": 50, "priorityLevelConfiguration": {"name": level},
            "distinguisherMethod": {"type": "ByUser"}, "rules": [rule]}})
}

fn queue(queues: u32, length: u32) -> Value {
    json!({"type": "Queue", "queuing": {"queues": queues, "handSize": 1, "queueLengthLimit": length}})
}

/// Lets everybody do everything: what they may do is not the matter here.
async fn allow_all(client: &Client) -> Result<()> {
    let group = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:authenticated"});
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": "all"}, "subjects": [group],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}});
    create(client, "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", &binding).await.map(drop)
}

/// A user's connection with one request on it.
struct Raw(TlsStream<TcpStream>);

/// The head of an answer, and what followed it.
struct Answer {
    code: u16,
    headers: HashMap<String, String>,
    body: String,
}

impl Raw {
    async fn connect(plane: &ControlPlane, user: &str, groups: &[&str]) -> Result<Self> {
        let own = plane.certificate_for(user, groups)?;
        let chain = CertificateDer::pem_slice_iter(own.certificate.as_bytes()).collect::<Result<Vec<_>, _>>()?;
        let config = rustls::ClientConfig::builder()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AcceptAnyServer::default()))
            .with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(own.key.as_bytes())?)?;
        let stream = TcpStream::connect(("127.0.0.1", plane.apiserver_port())).await?;
        Ok(Raw(TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost")?, stream).await?))
    }

    /// Begins to create a ConfigMap: its body is still to be sent.
    async fn hold(plane: &ControlPlane, user: &str) -> Result<Self> {
        let mut raw = Self::connect(plane, user, &[]).await?;
        let length = BODY.len();
        let head = format!(
            "POST {CONFIG_MAPS} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        );
        raw.0.write_all(head.as_bytes()).await?;
        Ok(raw)
    }

    async fn get(plane: &ControlPlane, user: &str, groups: &[&str]) -> Result<Self> {
        let mut raw = Self::connect(plane, user, groups).await?;
        let head = format!("GET {CONFIG_MAPS}/absent HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        raw.0.write_all(head.as_bytes()).await?;
        Ok(raw)
    }

    /// Sends what was held back.
    async fn complete(mut self) -> Result<Answer> {
        self.0.write_all(BODY.as_bytes()).await?;
        self.answer().await
    }

    async fn answer(mut self) -> Result<Answer> {
        let mut bytes = Vec::new();
        // A server may end the connection without saying so in TLS; the head tells whether the answer is whole.
        let ended = self.0.read_to_end(&mut bytes).await;
        let text = String::from_utf8(bytes)?;
        let (head, body) = text.split_once("\r\n\r\n").with_context(|| format!("{ended:?}: {text}"))?;
        let mut lines = head.lines();
        let code = lines.next().and_then(|line| line.split(' ').nth(1)).context("a status line")?.parse()?;
        let headers = lines.filter_map(|line| line.split_once(": "));
        let headers = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
        Ok(Answer { code, headers, body: body.to_owned() })
    }
}

/// The row of a level in a dump, by column.
async fn row(client: &Client, level: &str) -> Result<HashMap<String, String>> {
    let dump = text(client, "/debug/api_priority_and_fairness/dump_priority_levels").await?;
    let cells = |line: &str| line.split(',').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let mut rows = dump.lines().map(cells);
    let header = rows.next().context("a header")?;
    let row = rows.find(|row| row[0] == level).with_context(|| format!("{level} in {dump}"))?;
    Ok(header.into_iter().zip(row).collect())
}

/// Waits until so many requests of the level run and wait.
async fn await_load(client: &Client, executing: usize, waiting: usize) -> Result<()> {
    let wanted = [executing, waiting].map(|count| count.to_string());
    eventually(&format!("{executing} requests run and {waiting} wait"), async || {
        let row = row(client, "narrow").await?;
        let now = [&row["ExecutingRequests"], &row["WaitingRequests"]];
        Ok((now == [&wanted[0], &wanted[1]]).then_some(()))
    })
    .await
}

async fn hold_all(plane: &ControlPlane, client: &Client, user: &str) -> Result<Vec<Raw>> {
    let mut held = Vec::new();
    for _ in 0..SEATS {
        held.push(Raw::hold(plane, user).await?);
    }
    await_load(client, SEATS, 0).await?;
    Ok(held)
}

#[tokio::test]
async fn a_user_with_many_requests_does_not_keep_another_waiting() -> Result<()> {
    let (plane, client) = server().await?;
    allow_all(&client).await?;
    create_level(&client, queue(64, 50)).await?;
    create(&client, SCHEMAS, &schema("narrow", &["noisy", "quiet"])).await?;
    let held = hold_all(&plane, &client, "noisy").await?;
    let mut waiting = Vec::new();
    for _ in 0..10 {
        waiting.push(Raw::hold(&plane, "noisy").await?);
    }
    await_load(&client, SEATS, 10).await?;
    let quiet = Raw::get(&plane, "quiet", &[]).await?;
    await_load(&client, SEATS, 11).await?;
    let dump = text(&client, "/debug/api_priority_and_fairness/dump_requests?includeRequestDetails=1").await?;
    let of = |user: &str| dump.lines().filter(|line| line.contains(user)).count();
    assert_eq!((of("noisy"), of("quiet")), (SEATS + 10, 1), "{dump}");
    assert!(dump.contains("configmaps") && dump.contains("RequestIndexInQueue"), "{dump}");
    let queues = text(&client, "/debug/api_priority_and_fairness/dump_queues").await?;
    assert_eq!(queues.lines().filter(|line| line.starts_with("narrow,")).count(), 64, "{queues}");
    // What the noisy user's requests took is known when they end: then it is the quiet user's turn, and others came before.
    for request in held {
        assert_eq!(request.complete().await?.code, 201);
    }
    assert_eq!(quiet.answer().await?.code, 404);
    await_load(&client, SEATS, 10 - SEATS).await?;
    // Who goes away waits no longer, and holds no seat.
    let gone = Raw::get(&plane, "quiet", &[]).await?;
    await_load(&client, SEATS, 10 - SEATS + 1).await?;
    drop(gone);
    await_load(&client, SEATS, 10 - SEATS).await?;
    drop(waiting);
    await_load(&client, 0, 0).await?;
    let metrics = text(&client, "/metrics").await?;
    for wanted in [
        r#"apiserver_flowcontrol_nominal_limit_seats{priority_level="narrow"} 3"#,
        r#"apiserver_flowcontrol_current_executing_requests{flow_schema="narrow",priority_level="narrow"} 0"#,
        r#"apiserver_flowcontrol_rejected_requests_total{flow_schema="narrow",priority_level="narrow",reason="cancelled"}"#,
        r#"apiserver_flowcontrol_request_wait_duration_seconds_count{execute="true",flow_schema="narrow",priority_level="narrow"}"#,
    ] {
        assert!(metrics.contains(wanted), "{wanted} is not in {metrics}");
    }
    Ok(())
}

fn assert_refused(answer: &Answer, level: &Value, schema: &Value) {
    assert_eq!((answer.code, answer.headers["retry-after"].as_str()), (429, "1"));
    assert!(answer.body.contains("Too many requests, please try again later."), "{}", answer.body);
    assert_marked(answer, level, schema);
}

fn assert_marked(answer: &Answer, level: &Value, schema: &Value) {
    let marks =
        ["x-kubernetes-pf-prioritylevel-uid", "x-kubernetes-pf-flowschema-uid"].map(|name| &answer.headers[name]);
    assert_eq!(marks.map(|mark| json!(mark)), [level, schema].map(|object| object["metadata"]["uid"].clone()));
}

#[tokio::test]
async fn who_finds_no_seat_and_no_place_in_a_queue_is_refused_and_the_exempt_are_served() -> Result<()> {
    let (plane, client) = server().await?;
    allow_all(&client).await?;
    let level = create_level(&client, json!({"type": "Reject"})).await?;
    let schema = create(&client, SCHEMAS, &schema("narrow", &["noisy"])).await?;
    let served = Raw::get(&plane, "noisy", &[]).await?.answer().await?;
    assert_eq!(served.code, 404);
    assert_marked(&served, &level, &schema);
    let held = hold_all(&plane, &client, "noisy").await?;
    assert_refused(&Raw::get(&plane, "noisy", &[]).await?.answer().await?, &level, &schema);
    let exempt = Raw::get(&plane, "noisy", &["system:masters"]).await?.answer().await?;
    assert_eq!(exempt.code, 404);
    let [of_level, of_schema] = [LEVELS, SCHEMAS].map(|path| format!("{path}/exempt"));
    assert_marked(&exempt, &get(&client, &of_level).await?, &get(&client, &of_schema).await?);
    drop(held);
    await_load(&client, 0, 0).await?;

    let patch = json!({"spec": {"limited": {"limitResponse": queue(1, 1)}}}).to_string();
    let headers = [("content-type", "application/merge-patch+json")];
    let patched = send(&client, "PATCH", &format!("{LEVELS}/narrow"), &headers, patch).await?;
    assert_eq!(patched.code, 200, "{patched:?}");
    let held = hold_all(&plane, &client, "noisy").await?;
    let waits = Raw::get(&plane, "noisy", &[]).await?;
    await_load(&client, SEATS, 1).await?;
    assert_refused(&Raw::get(&plane, "noisy", &[]).await?.answer().await?, &level, &schema);
    drop(held);
    assert_eq!(waits.answer().await?.code, 404);
    Ok(())
}

#[tokio::test]
async fn a_watch_has_seats_until_its_initial_events_are_sent() -> Result<()> {
    let (plane, client) = server().await?;
    allow_all(&client).await?;
    create_level(&client, json!({"type": "Reject"})).await?;
    create(&client, SCHEMAS, &schema("narrow", &["noisy"])).await?;
    let mut watches = Vec::new();
    for _ in 0..2 * SEATS {
        let mut raw = Raw::connect(&plane, "noisy", &[]).await?;
        let head = format!(
            "GET {CONFIG_MAPS}?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true HTTP/1.1\r\nhost: x\r\n\r\n"
        );
        raw.0.write_all(head.as_bytes()).await?;
        let mut seen = Vec::new();
        while !String::from_utf8_lossy(&seen).contains("BOOKMARK") {
            let read = raw.0.read_buf(&mut seen).await?;
            assert!(read > 0, "{}", String::from_utf8_lossy(&seen));
        }
        watches.push(raw);
        await_load(&client, 0, 0).await?;
    }
    Ok(())
}

/// Waits until an object is as it should be.
async fn await_object(client: &Client, path: &str, what: &str, is: impl Fn(&Value) -> bool) -> Result<Value> {
    eventually(&format!("{path}: {what}"), async || Ok(Some(get(client, path).await?).filter(&is))).await
}

#[tokio::test]
async fn suggested_objects_are_kept_up_unless_their_annotation_says_otherwise() -> Result<()> {
    let (_plane, client) = server().await?;
    let merge = async |path: &str, patch: Value| {
        let headers = [("content-type", "application/merge-patch+json")];
        let answer = send(&client, "PATCH", path, &headers, patch.to_string()).await?;
        assert_eq!(answer.code, 200, "{answer:?}");
        anyhow::Ok(answer.json())
    };
    let [probes, system] = [format!("{SCHEMAS}/probes"), format!("{LEVELS}/system")];
    let deleted = send(&client, "DELETE", &probes, &[], "").await?;
    assert_eq!(deleted.code, 200, "{deleted:?}");
    await_object(&client, &probes, "is back", |object| object["spec"]["matchingPrecedence"] == 2).await?;
    let wanted = get(&client, &system).await?["spec"].clone();
    merge(&system, json!({"spec": {"limited": {"lendablePercent": 1}}})).await?;
    await_object(&client, &system, "is as it was", |object| object["spec"] == wanted).await?;

    let annotations = |value: &str| json!({"annotations": {"apf.kubernetes.io/autoupdate-spec": value}});
    let own = json!({"metadata": annotations("false"), "spec": {"limited": {"lendablePercent": 1}}});
    merge(&system, own).await?;
    // What the server makes is no longer wanted: it is deleted. That shows that the server has looked.
    let mut old = schema("exempt", &["nobody"]);
    old["metadata"] = json!({"name": "old", "annotations": annotations("true")["annotations"]});
    create(&client, SCHEMAS, &old).await?;
    await_object(&client, &format!("{SCHEMAS}/old"), "is deleted", |object| object["code"] == 404).await?;
    assert_eq!(get(&client, &system).await?["spec"]["limited"]["lendablePercent"], 1);
    merge(&system, json!({"metadata": annotations("true")})).await?;
    await_object(&client, &system, "is as it was", |object| object["spec"] == wanted).await?;
    Ok(())
}

#[tokio::test]
async fn a_schema_says_whether_its_level_exists() -> Result<()> {
    let (_plane, client) = server().await?;
    create(&client, SCHEMAS, &schema("narrow", &["nobody"])).await?;
    let path = format!("{SCHEMAS}/narrow");
    let says = |status: &'static str, reason: &'static str, end: &'static str| {
        move |object: &Value| {
            let condition = &object["status"]["conditions"][0];
            let message =
                format!("This FlowSchema references the PriorityLevelConfiguration object named \"narrow\" {end}");
            condition["type"] == "Dangling"
                && [&condition["status"], &condition["reason"], &condition["message"]] == [status, reason, &*message]
        }
    };
    let dangles = || says("True", "NotFound", "but there is no such object");
    await_object(&client, &path, "dangles", dangles()).await?;
    create_level(&client, json!({"type": "Reject"})).await?;
    await_object(&client, &path, "has its level", says("False", "Found", "and it exists")).await?;
    assert_eq!(send(&client, "DELETE", &format!("{LEVELS}/narrow"), &[], "").await?.code, 200);
    await_object(&client, &path, "dangles again", dangles()).await?;
    Ok(())
}

#[tokio::test]
async fn without_priority_and_fairness_requests_are_only_counted() -> Result<()> {
    let flag = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let apiserver_flags =
        vec![flag("enable-priority-and-fairness", "false"), flag("max-mutating-requests-inflight", "1")];
    let plane = ControlPlane::start_with(Options { apiserver_flags, ..Options::default() }).await?;
    let client = plane.client().await?;
    allow_all(&client).await?;
    let held = Raw::hold(&plane, "a").await?;
    let refused = eventually("a second write is refused", async || {
        let answer = Raw::hold(&plane, "b").await?.complete().await?;
        Ok((answer.code == 429).then_some(answer))
    })
    .await?;
    assert_eq!(refused.headers["retry-after"], "1");
    assert!(!refused.headers.contains_key("x-kubernetes-pf-flowschema-uid"));
    assert_eq!(Raw::get(&plane, "b", &[]).await?.answer().await?.code, 404);
    assert_eq!(held.complete().await?.code, 201);
    assert_eq!(send(&client, "GET", "/debug/api_priority_and_fairness/dump_queues", &[], "").await?.code, 404);
    Ok(())
}
