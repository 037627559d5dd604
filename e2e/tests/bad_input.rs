//! Input that the apiserver must refuse: each gets the code, reason and causes that Kubernetes gives, and nothing is stored.

use anyhow::Result;
use e2e::{
    ControlPlane,
    http_client::{Answer, send, send_json},
};
use kube::Client;
use serde_json::{Value, json};

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const JSON: &str = "application/json";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const LIMIT: usize = 3 << 20;

fn config_map(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name }, "data": { "key": "value" } })
}

async fn post(client: &Client, media_type: &str, body: impl Into<Vec<u8>>) -> Result<Answer> {
    send(client, "POST", CONFIG_MAPS, &[("content-type", media_type)], body).await
}

/// Nothing but the ConfigMap that every namespace gets.
async fn assert_nothing_stored(client: &Client) -> Result<()> {
    let list = send(client, "GET", CONFIG_MAPS, &[], "").await?.json();
    let names: Vec<&str> = list["items"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|item| item["metadata"]["name"].as_str())
        .filter(|name| *name != "kube-root-ca.crt")
        .collect();
    assert_eq!(names, [] as [&str; 0]);
    Ok(())
}

#[tokio::test]
async fn malformed_bodies_are_bad_requests_in_every_encoding() -> Result<()> {
    let plane = ControlPlane::start().await?;
    let client = plane.client().await?;
    let broken_protobuf = b"k8s\0\x0a\xff\xff\xff\xff\xff".to_vec();
    let cases: [(&str, &str, Vec<u8>); 7] = [
        ("half an object", JSON, b"{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\"".to_vec()),
        ("not JSON", JSON, b"no, thanks".to_vec()),
        ("an empty body", JSON, Vec::new()),
        ("an array", JSON, b"[]".to_vec()),
        ("bad indentation", "application/yaml", b"apiVersion: v1\nkind: ConfigMap\n  metadata: {\n".to_vec()),
        ("no protobuf prefix", PROTOBUF, b"nothing of the kind".to_vec()),
        ("a length past the end", PROTOBUF, broken_protobuf),
    ];
    for (what, media_type, body) in cases {
        let answer = post(&client, media_type, body).await?;
        assert_eq!((answer.code, answer.reason().as_str()), (400, "BadRequest"), "{what}: {answer:?}");
    }
    assert_nothing_stored(&client).await
}

#[tokio::test]
async fn unknown_and_duplicate_fields_follow_field_validation() -> Result<()> {
    let plane = ControlPlane::start().await?;
    let client = plane.client().await?;
    let body = |name: &str| {
        format!(
            "{{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{{\"name\":\"{name}\",\"colour\":\"red\"}},\
             \"data\":{{}},\"data\":{{}}}}"
        )
    };
    let path = |mode: &str| format!("{CONFIG_MAPS}?fieldValidation={mode}");
    let headers = [("content-type", JSON)];

    let strict = send(&client, "POST", &path("Strict"), &headers, body("strict")).await?;
    assert_eq!((strict.code, strict.reason().as_str()), (400, "BadRequest"), "{strict:?}");
    let message = strict.json()["message"].as_str().unwrap_or_default().to_owned();
    assert!(
        message.contains("unknown field \"metadata.colour\"") && message.contains("duplicate field \"data\""),
        "{message}"
    );
    assert_nothing_stored(&client).await?;

    let warn = send(&client, "POST", &path("Warn"), &headers, body("warn")).await?;
    assert_eq!(warn.code, 201, "{warn:?}");
    let warnings = warn.warnings.join("\n");
    assert!(warnings.contains("metadata.colour") && warnings.contains("duplicate field"), "{warnings}");

    let ignore = send(&client, "POST", &path("Ignore"), &headers, body("ignore")).await?;
    assert_eq!((ignore.code, ignore.warnings.len()), (201, 0), "{ignore:?}");
    assert_eq!(ignore.json()["metadata"]["colour"], Value::Null);

    let wrong = send(&client, "POST", &path("Sometimes"), &headers, body("wrong")).await?;
    assert_eq!(wrong.code, 422, "{wrong:?}");
    Ok(())
}

#[tokio::test]
async fn a_body_over_three_mebibytes_is_too_large() -> Result<()> {
    let plane = ControlPlane::start().await?;
    let client = plane.client().await?;
    let mut large = config_map("large");
    large["data"]["key"] = "x".repeat(LIMIT).into();
    let answer = send_json(&client, "POST", CONFIG_MAPS, &large).await?;
    assert_eq!((answer.code, answer.reason().as_str()), (413, "RequestEntityTooLarge"), "{}", answer.code);
    assert_nothing_stored(&client).await
}

#[tokio::test]
async fn names_and_labels_out_of_form_are_invalid_with_their_field() -> Result<()> {
    let plane = ControlPlane::start().await?;
    let client = plane.client().await?;
    let mut label_key = config_map("fine");
    label_key["metadata"]["labels"] = json!({ "no/such/key": "value" });
    let mut label_value = config_map("fine");
    label_value["metadata"]["labels"] = json!({ "key": "no spaces" });
    let cases = [
        (config_map("UPPER"), "metadata.name"),
        (config_map("under_score"), "metadata.name"),
        (config_map(&"x".repeat(254)), "metadata.name"),
        (label_key, "metadata.labels"),
        (label_value, "metadata.labels"),
    ];
    for (body, field) in cases {
        let answer = send_json(&client, "POST", CONFIG_MAPS, &body).await?;
        assert_eq!((answer.code, answer.reason().as_str()), (422, "Invalid"), "{body}: {answer:?}");
        assert_eq!(answer.causes(), [(field.to_owned(), "FieldValueInvalid".to_owned())], "{body}");
    }
    let mut nameless = config_map("");
    nameless["metadata"] = json!({});
    let answer = send_json(&client, "POST", CONFIG_MAPS, &nameless).await?;
    assert_eq!(answer.code, 422);
    assert_eq!(answer.causes(), [("metadata.name".to_owned(), "FieldValueRequired".to_owned())]);
    assert_nothing_stored(&client).await
}

#[tokio::test]
async fn wrong_types_are_bad_requests() -> Result<()> {
    let plane = ControlPlane::start().await?;
    let client = plane.client().await?;
    let mut number = config_map("wrong");
    number["data"]["key"] = 5.into();
    let mut list = config_map("wrong");
    list["data"] = json!(["a"]);
    let mut text = config_map("wrong");
    text["metadata"] = "me".into();
    let mut bytes = config_map("wrong");
    bytes["binaryData"] = json!({ "key": "not base64!" });
    for body in [number, list, text, bytes] {
        let answer = send_json(&client, "POST", CONFIG_MAPS, &body).await?;
        assert_eq!((answer.code, answer.reason().as_str()), (400, "BadRequest"), "{body}: {answer:?}");
    }
    let mut other_kind = config_map("wrong");
    other_kind["kind"] = "Secret".into();
    let answer = send_json(&client, "POST", CONFIG_MAPS, &other_kind).await?;
    assert_eq!((answer.code, answer.reason().as_str()), (400, "BadRequest"), "{answer:?}");
    let mut elsewhere = config_map("wrong");
    elsewhere["metadata"]["namespace"] = "kube-system".into();
    let answer = send_json(&client, "POST", CONFIG_MAPS, &elsewhere).await?;
    assert_eq!((answer.code, answer.reason().as_str()), (400, "BadRequest"), "{answer:?}");
    assert_nothing_stored(&client).await
}

#[tokio::test]
async fn an_update_with_an_old_resource_version_is_a_conflict() -> Result<()> {
    let plane = ControlPlane::start().await?;
    let client = plane.client().await?;
    let path = format!("{CONFIG_MAPS}/one");
    let first = send_json(&client, "POST", CONFIG_MAPS, &config_map("one")).await?.json();
    let mut second = first.clone();
    second["data"]["key"] = "second".into();
    assert_eq!(send_json(&client, "PUT", &path, &second).await?.code, 200);
    let mut third = first;
    third["data"]["key"] = "third".into();
    let answer = send_json(&client, "PUT", &path, &third).await?;
    assert_eq!((answer.code, answer.reason().as_str()), (409, "Conflict"), "{answer:?}");
    assert_eq!(send(&client, "GET", &path, &[], "").await?.json()["data"]["key"], "second");
    let answer = send(&client, "GET", &format!("{CONFIG_MAPS}?resourceVersion=yesterday"), &[], "").await?;
    assert_eq!(answer.code, 400, "{answer:?}");
    let again = send_json(&client, "POST", CONFIG_MAPS, &config_map("one")).await?;
    assert_eq!((again.code, again.reason().as_str()), (409, "AlreadyExists"), "{again:?}");
    Ok(())
}

#[tokio::test]
async fn media_types_that_are_not_served_are_refused() -> Result<()> {
    let plane = ControlPlane::start().await?;
    let client = plane.client().await?;
    let answer = post(&client, "text/plain", config_map("plain").to_string()).await?;
    assert_eq!((answer.code, answer.reason().as_str()), (415, "UnsupportedMediaType"), "{answer:?}");
    let answer = send(&client, "GET", CONFIG_MAPS, &[("accept", "image/png")], "").await?;
    assert_eq!((answer.code, answer.reason().as_str()), (406, "NotAcceptable"), "{answer:?}");
    send_json(&client, "POST", CONFIG_MAPS, &config_map("one")).await?;
    let answer = send_json(&client, "PATCH", &format!("{CONFIG_MAPS}/one"), &json!({ "data": null })).await?;
    assert_eq!((answer.code, answer.reason().as_str()), (415, "UnsupportedMediaType"), "{answer:?}");
    Ok(())
}
