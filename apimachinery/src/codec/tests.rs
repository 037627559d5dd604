//! Bodies of requests as the API server receives them.

use serde_json::json;

use super::*;
use crate::schema::Schema;

fn decode(api_version: &str, kind: &str, body: &str, validation: FieldValidation) -> Result<Decoded, ApiError> {
    let schema = Schema::builtin();
    let ty = schema.type_for_kind(api_version, kind).expect("kind");
    decode_object(schema, ty, MediaType::Json, body.as_bytes(), validation)
}

fn pod_error(body: &str) -> String {
    let error = decode("v1", "Pod", body, FieldValidation::Strict).expect_err(body);
    assert_eq!(error.code(), 400);
    error.to_string()
}

#[test]
fn a_body_comes_back_in_normal_form() {
    let body = r#"{"metadata":{"name":"x","labels":{},"creationTimestamp":null,"deletionTimestamp":"2020-01-01T01:00:00+01:00"},
        "spec":{"hostNetwork":false,"priority":0,"enableServiceLinks":false,"nodeName":"","volumes":[],
        "containers":[{"name":"c","resources":{"limits":{"cpu":"0.5","memory":1024}},"stdin":false,"args":[],
        "env":[{"name":"E","valueFrom":{"resourceFieldRef":{"resource":"limits.cpu"}}}]}]}}"#;
    let got = decode("v1", "Pod", body, FieldValidation::Strict).expect("pod").value;
    let want = json!({
        "apiVersion": "v1", "kind": "Pod", "status": {},
        "metadata": {"name": "x", "deletionTimestamp": "2020-01-01T00:00:00Z"},
        "spec": {"priority": 0, "enableServiceLinks": false, "containers": [{
            "name": "c", "resources": {"limits": {"cpu": "500m", "memory": "1024"}},
            "env": [{"name": "E", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "0"}}}],
        }]},
    });
    assert_eq!(got, want);
}

#[test]
fn a_value_of_the_wrong_type_is_named_as_go_names_it() {
    for (body, want) in [
        (
            r#"{"spec":{"containers":"x"}}"#,
            "json: cannot unmarshal string into Go struct field PodSpec.spec.containers of type []v1.Container",
        ),
        (
            r#"{"spec":{"containers":[{"env":[{"value":1}]}]}}"#,
            "json: cannot unmarshal number into Go struct field EnvVar.spec.containers.env.value of type string",
        ),
        (
            r#"{"spec":{"priority":"1"}}"#,
            "json: cannot unmarshal string into Go struct field PodSpec.spec.priority of type int32",
        ),
        (
            r#"{"spec":{"priority":3000000000}}"#,
            "json: cannot unmarshal number 3000000000 into Go struct field PodSpec.spec.priority of type int32",
        ),
        (r#"{"spec":[]}"#, "json: cannot unmarshal array into Go struct field Pod.spec of type v1.PodSpec"),
        (
            r#"{"spec":{"containers":[{"resources":{"limits":{"cpu":"x"}}}]}}"#,
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
    ] {
        assert_eq!(pod_error(body), format!("Pod in version \"v1\" cannot be handled as a Pod: {want}"));
    }
}

#[test]
fn unknown_and_duplicate_fields_follow_the_validation() {
    let body = r#"{"metadata":{"name":"x","name":"y"},"spec":{"foo":1,"containers":[{"name":"c","bar":{}}]}}"#;
    let texts = [
        r#"duplicate field "metadata.name""#,
        r#"unknown field "spec.foo""#,
        r#"unknown field "spec.containers[0].bar""#,
    ];
    let strict =
        format!("Pod in version \"v1\" cannot be handled as a Pod: strict decoding error: {}", texts.join(", "));
    assert_eq!(pod_error(body), strict);
    let warned = decode("v1", "Pod", body, FieldValidation::Warn).expect("pod");
    assert_eq!(warned.warnings, texts);
    assert_eq!(warned.value["metadata"]["name"], "y");
    assert!(warned.value["spec"].get("foo").is_none());
    assert!(decode("v1", "Pod", body, FieldValidation::Ignore).expect("pod").warnings.is_empty());
}

#[test]
fn another_kind_is_refused() {
    assert_eq!(
        pod_error(r#"{"apiVersion":"v1","kind":"Service"}"#),
        "Service in version \"v1\" cannot be handled as a Pod: converting (v1.Service) to (v1.Pod): unknown conversion"
    );
    assert_eq!(
        pod_error(r#"{"apiVersion":"v9","kind":"Pod"}"#),
        "Pod in version \"v9\" cannot be handled as a Pod: no kind \"Pod\" is registered for version \"v9\""
    );
    let options = r#"{"apiVersion":"apps/v1","kind":"DeleteOptions","gracePeriodSeconds":0}"#;
    let decoded = decode("v1", "DeleteOptions", options, FieldValidation::Strict).expect("options");
    assert_eq!(decoded.value["gracePeriodSeconds"], 0);
}

#[test]
fn bytes_that_cannot_be_read_are_shown() {
    let error = pod_error("{\"spec\":");
    assert!(error.starts_with("the object provided is unrecognized (must be of type Pod): couldn't get version/kind; json parse error: unexpected end of JSON input"), "{error}");
    for media in [MediaType::Json, MediaType::Yaml, MediaType::Protobuf] {
        let schema = Schema::builtin();
        let ty = schema.type_named("core.v1.Pod").expect("pod");
        let error =
            decode_object(schema, ty, media, b"k8s\0\xff\xff\xff", FieldValidation::Ignore).expect_err("no object");
        assert_eq!(error.code(), 400);
    }
}

#[test]
fn a_zero_that_go_writes_is_not_taken_for_a_value() {
    let schema = Schema::builtin();
    let ty = schema.type_named("apps.v1.Deployment").expect("deployment");
    let empty = json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": 0, "selector": {}}});
    let bytes = protobuf::encode(schema, &empty).expect("bytes");
    let got = protobuf::decode(schema, &bytes).expect("deployment");
    // `replicas` is a pointer, and 0 is not the same as absent; `paused` and `minReadySeconds` are not.
    assert_eq!(got["spec"]["replicas"], 0);
    assert_eq!(got["spec"].get("paused"), None);
    let without = json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"selector": {}}});
    let bytes = protobuf::encode(schema, &without).expect("bytes");
    assert_eq!(protobuf::decode(schema, &bytes).expect("deployment")["spec"].get("replicas"), None);
    assert!(ty.field("spec").is_some());
}

#[test]
fn custom_resource_definitions_go_through_protobuf() {
    let crd = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "x"},
        "spec": {"group": "g", "names": {"plural": "xs", "kind": "X"}, "scope": "Namespaced", "versions": [{
            "name": "v1", "served": true, "storage": true,
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                "a": {"type": "array", "items": {"type": "string"}, "minItems": 0, "default": ["x"]},
                "b": {"type": "object", "additionalProperties": {"type": "integer", "maximum": 1.5}},
                "c": {"additionalProperties": false, "enum": ["a", 1, null], "default": null},
                "d": {"items": [{"type": "string"}], "dependencies": {"x": ["y"], "z": {"type": "string"}}},
            }}},
        }]},
    });
    let schema = Schema::builtin();
    let ty = schema.type_for_kind("apiextensions.k8s.io/v1", "CustomResourceDefinition").expect("kind");
    let body = crd.to_string();
    let decoded =
        decode_object(schema, ty, MediaType::Json, body.as_bytes(), FieldValidation::Strict).expect("CRD").value;
    let back = protobuf::decode(schema, &protobuf::encode(schema, &decoded).expect("bytes")).expect("CRD");
    assert_eq!(back["spec"]["versions"], decoded["spec"]["versions"]);
    let read =
        |path: &str| decoded.pointer(&format!("/spec/versions/0/schema/openAPIV3Schema/properties/{path}")).cloned();
    assert_eq!(read("a/minItems"), Some(json!(0)));
    assert_eq!(read("c/additionalProperties"), Some(json!(false)));
    assert_eq!(read("c/enum"), Some(json!(["a", 1, null])));
    assert_eq!(read("b/additionalProperties/maximum"), Some(json!(1.5)));
    assert_eq!(read("c/default"), None);
}
