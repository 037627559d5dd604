//! Input that the apiserver must refuse: each gets the code, the reason and the causes that Kubernetes gives, and nothing is stored.
//!
//! Where Kubernetes lets an unexpected error through as a 500 without a reason (a resourceVersion that is no number, or one that a
//! new object brings; an applied field that the type does not have), the answer here is the client error that it is.

use std::fmt::Write;

use anyhow::Result;
use apimachinery::{Schema, codec::protobuf};
use e2e::{
    ControlPlane,
    http_client::{Answer, send, send_json},
};
use kube::Client;
use serde_json::{Value, json};

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const SEED: &str = "/api/v1/namespaces/default/configmaps/seed";
const JSON: &str = "application/json";
const YAML: &str = "application/yaml";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const JSON_PATCH: &str = "application/json-patch+json";
const MERGE_PATCH: &str = "application/merge-patch+json";
const STRATEGIC_PATCH: &str = "application/strategic-merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";
/// The largest body, in bytes.
const LIMIT: usize = 3 << 20;

const INVALID: &str = "FieldValueInvalid";
const REQUIRED: &str = "FieldValueRequired";
const NOT_SUPPORTED: &str = "FieldValueNotSupported";
const TOO_LONG: &str = "FieldValueTooLong";
const FORBIDDEN: &str = "FieldValueForbidden";

type Causes = &'static [(&'static str, &'static str)];

/// A request and its answer.
struct Case {
    what: &'static str,
    method: &'static str,
    path: String,
    headers: Vec<(&'static str, &'static str)>,
    body: Vec<u8>,
    code: u16,
    reason: &'static str,
    causes: Causes,
    /// What the warnings, or the message of a refusal, say.
    says: &'static [&'static str],
}

impl Case {
    fn new(
        what: &'static str,
        method: &'static str,
        path: &str,
        media_type: &'static str,
        body: impl AsRef<[u8]>,
    ) -> Self {
        let headers = if media_type.is_empty() { Vec::new() } else { vec![("content-type", media_type)] };
        let (path, body) = (path.to_owned(), body.as_ref().to_vec());
        Case { what, method, path, headers, body, code: 0, reason: "", causes: &[], says: &[] }
    }

    fn post(what: &'static str, media_type: &'static str, body: impl AsRef<[u8]>) -> Self {
        Case::new(what, "POST", CONFIG_MAPS, media_type, body)
    }

    fn post_json(what: &'static str, body: &Value) -> Self {
        Case::post(what, JSON, body.to_string())
    }

    fn put(what: &'static str, body: &Value) -> Self {
        Case::new(what, "PUT", SEED, JSON, body.to_string())
    }

    fn patch(what: &'static str, media_type: &'static str, body: impl AsRef<[u8]>) -> Self {
        let path = if media_type == APPLY { format!("{SEED}?fieldManager=m") } else { SEED.to_owned() };
        Case::new(what, "PATCH", &path, media_type, body)
    }

    fn get(what: &'static str, path: &str) -> Self {
        Case::new(what, "GET", path, "", "")
    }

    fn at(mut self, path: impl Into<String>) -> Self {
        self.path = path.into();
        self
    }

    fn header(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.push((name, value));
        self
    }

    fn gives(mut self, code: u16, reason: &'static str) -> Self {
        (self.code, self.reason) = (code, reason);
        self
    }

    fn bad_request(self) -> Self {
        self.gives(400, "BadRequest")
    }

    fn invalid(mut self, causes: Causes) -> Self {
        self.causes = causes;
        self.gives(422, "Invalid")
    }

    fn says(mut self, texts: &'static [&'static str]) -> Self {
        self.says = texts;
        self
    }

    /// How the answer differs from what is to be.
    fn difference(&self, answer: &Answer) -> Option<String> {
        let body = answer.json();
        let message = body["message"].as_str().unwrap_or_default();
        let causes = if self.code == 422 { answer.causes() } else { Vec::new() };
        let expected: Vec<_> =
            self.causes.iter().map(|(field, reason)| ((*field).to_owned(), (*reason).to_owned())).collect();
        let said = if self.code < 400 { answer.warnings.join("\n").replace("\\\"", "\"") } else { message.to_owned() };
        let is_status =
            self.code < 400 || (body["kind"] == "Status" && body["code"] == self.code && !message.is_empty());
        let unsaid =
            self.says.iter().any(|text| !said.contains(text)) || (self.says.is_empty() && !answer.warnings.is_empty());
        let reason = if self.code < 400 { String::new() } else { answer.reason() };
        let same = (answer.code, reason.as_str(), &causes) == (self.code, self.reason, &expected);
        (!same || !is_status || unsaid).then(|| {
            let start: String = String::from_utf8_lossy(&answer.body).chars().take(300).collect();
            format!(
                "{} {reason} {causes:?} {:?}, not {} {} {expected:?} {:?}: {start}",
                answer.code, answer.warnings, self.code, self.reason, self.says
            )
        })
    }
}

fn config_map(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name }, "data": { "key": "value" } })
}

/// An object with one part replaced.
fn with(mut object: Value, pointer: &str, part: Value) -> Value {
    let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
    object.pointer_mut(parent).expect("a parent")[name] = part;
    object
}

fn malformed() -> Vec<Case> {
    let deep = "[".repeat(100_000);
    let whole = protobuf::encode(Schema::builtin(), &config_map("bad")).expect("a ConfigMap");
    let secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "bad" } });
    let secret = protobuf::encode(Schema::builtin(), &secret).expect("a Secret");
    let aliases = (1..30).fold("a0: &a0 [x]\n".to_owned(), |mut text, i| {
        writeln!(text, "a{i}: &a{i} [*a{0}, *a{0}, *a{0}, *a{0}]", i - 1).expect("room");
        text
    });
    vec![
        Case::post("half an object", JSON, r#"{"apiVersion":"v1","kind":"ConfigMap""#),
        Case::post("no JSON", JSON, "no, thanks"),
        Case::post("an empty body", JSON, ""),
        Case::post("an array", JSON, "[]"),
        Case::post("more after the end", JSON, config_map("bad").to_string() + "}"),
        Case::post("deep JSON", JSON, format!(r#"{{"apiVersion":"v1","kind":"ConfigMap","data":{deep}"#)),
        Case::post("bad UTF-8", JSON, b"{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"data\":{\"a\":\xff}}"),
        Case::post("bad indentation", YAML, "apiVersion: v1\nkind: ConfigMap\n  metadata: {\n"),
        Case::post("a tab in YAML", YAML, "apiVersion: v1\nkind: ConfigMap\nmetadata:\n\tname: bad\n"),
        Case::post("a YAML list", YAML, "- a\n- b\n"),
        Case::post("deep YAML", YAML, &deep),
        Case::post("a bomb of YAML aliases", YAML, format!("apiVersion: v1\nkind: ConfigMap\n{aliases}")),
        Case::post("no protobuf prefix", PROTOBUF, "nothing of the kind"),
        Case::post("only the protobuf prefix", PROTOBUF, "k8s\0"),
        Case::post("an empty protobuf body", PROTOBUF, ""),
        Case::post("a protobuf length past the end", PROTOBUF, b"k8s\0\x0a\xff\xff\xff\xff\xff"),
        Case::post("half a protobuf object", PROTOBUF, &whole[..whole.len() / 2]),
        Case::post("a protobuf object of another kind", PROTOBUF, &secret),
        Case::post("JSON called protobuf", PROTOBUF, config_map("bad").to_string()),
        Case::post("protobuf called JSON", JSON, &whole),
        Case::new("half an update", "PUT", SEED, JSON, r#"{"apiVersion":"v1""#),
        Case::new("half of delete options", "DELETE", SEED, JSON, r#"{"apiVersion":"v1""#),
    ]
    .into_iter()
    .map(Case::bad_request)
    .collect()
}

fn unknown_fields() -> Vec<Case> {
    const UNKNOWN: &str = r#"unknown field "metadata.colour""#;
    const DUPLICATE: &str = r#"duplicate field "data""#;
    let twice =
        r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"odd","colour":"red"},"data":{},"data":{}}"#;
    let yaml = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: odd\n  colour: red\n";
    let colour = with(config_map("odd"), "/metadata/colour", json!("red"));
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "odd" },
        "spec": {
            "selector": { "matchLabels": { "a": "b" } }, "colour": "red",
            "template": { "metadata": { "labels": { "a": "b" } }, "spec": { "containers": [{ "name": "c", "image": "i", "sise": 1 }] } },
        },
    });
    let validated = |case: Case, mode: &str| {
        let path = format!(
            "{}{}fieldValidation={mode}&dryRun=All",
            case.path,
            if case.path.contains('?') { "&" } else { "?" }
        );
        case.at(path)
    };
    let (merge, created) = (json!({ "metadata": { "colour": "red" } }).to_string(), |case: Case| case.gives(201, ""));
    let applied = with(config_map("seed"), "/metadata/colour", json!("red")).to_string();
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    vec![
        validated(Case::post("strict", JSON, twice), "Strict").bad_request().says(&[UNKNOWN, DUPLICATE]),
        validated(Case::post("strict YAML", YAML, yaml), "Strict").bad_request().says(&[UNKNOWN]),
        validated(Case::post("strict, deep inside", JSON, deployment.to_string()).at(deployments), "Strict")
            .bad_request()
            .says(&[r#"unknown field "spec.colour""#, r#"unknown field "spec.template.spec.containers[0].sise""#]),
        validated(Case::put("strict update", &with(colour.clone(), "/metadata/name", json!("seed"))), "Strict")
            .bad_request()
            .says(&[UNKNOWN]),
        validated(Case::patch("strict merge patch", MERGE_PATCH, &merge), "Strict")
            .invalid(&[("patch", INVALID)])
            .says(&[UNKNOWN]),
        validated(Case::patch("strict strategic patch", STRATEGIC_PATCH, &merge), "Strict")
            .invalid(&[("patch", INVALID)])
            .says(&[UNKNOWN]),
        validated(Case::patch("strict apply", APPLY, &applied), "Strict").bad_request(),
        created(validated(Case::post("warned of", JSON, twice), "Warn")).says(&[UNKNOWN, DUPLICATE]),
        created(validated(Case::post("warned of in YAML", YAML, yaml), "Warn")).says(&[UNKNOWN]),
        created(Case::post_json("warned of by default", &colour).at(format!("{CONFIG_MAPS}?dryRun=All")))
            .says(&[UNKNOWN]),
        validated(Case::patch("warned of in a patch", MERGE_PATCH, &merge), "Warn").gives(200, "").says(&[UNKNOWN]),
        created(validated(Case::post("ignored", JSON, twice), "Ignore")),
        validated(Case::patch("ignored in a patch", MERGE_PATCH, &merge), "Ignore").gives(200, ""),
        validated(Case::post("no such validation", JSON, twice), "Sometimes")
            .invalid(&[("fieldValidation", NOT_SUPPORTED)]),
    ]
}

fn too_large() -> Vec<Case> {
    let large = with(config_map("bad"), "/data/key", "x".repeat(LIMIT).into()).to_string();
    let padded = config_map("bad").to_string() + &" ".repeat(LIMIT);
    let operation = r#"{"op":"add","path":"/data/a","value":"b"}"#;
    let operations = format!("[{}]", vec![operation; 10_001].join(","));
    let just_fits = format!(r#"{{"data":{{"key":"{}"}}}}"#, "x".repeat(LIMIT - 100));
    let refused = |case: Case| case.gives(413, "RequestEntityTooLarge");
    vec![
        refused(Case::post("a large body", JSON, &large)),
        refused(Case::post("a large YAML body", YAML, &large)),
        refused(Case::post("a large protobuf body", PROTOBUF, &large)),
        refused(Case::post("much white space", JSON, &padded)),
        refused(Case::new("a large update", "PUT", SEED, JSON, &large)),
        refused(Case::patch("a large patch", MERGE_PATCH, &large)),
        refused(Case::patch("a large apply", APPLY, &large)),
        refused(Case::new("large delete options", "DELETE", SEED, JSON, &padded)),
        refused(Case::patch("many operations", JSON_PATCH, &operations)),
        Case::patch("a patch that fits, of data that does not", MERGE_PATCH, &just_fits).invalid(&[("[]", TOO_LONG)]),
        Case::patch("a deep patch", MERGE_PATCH, format!(r#"{{"value":{}"#, r#"{"value":"#.repeat(100_000)))
            .bad_request(),
        Case::patch("a deep JSON patch", JSON_PATCH, "[".repeat(100_000)).bad_request(),
        Case::patch("a deep apply", APPLY, "[".repeat(100_000)).bad_request(),
    ]
}

fn names_and_labels() -> Vec<Case> {
    const NAME: Causes = &[("metadata.name", INVALID)];
    let named = |what, name: &str, causes| Case::post_json(what, &config_map(name)).invalid(causes);
    let part = |what, pointer: &str, part: Value, causes| {
        Case::post_json(what, &with(config_map("bad"), pointer, part)).invalid(causes)
    };
    let generated = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "generateName": "Bad_" } });
    let nameless = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": {} });
    let service = json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "a.b" }, "spec": { "ports": [{ "port": 80 }] } });
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "with.dot" } });
    let owner = json!([{ "apiVersion": "v1", "kind": "Pod", "name": "", "uid": "" }]);
    vec![
        named("capital letters", "UPPER", NAME),
        named("an underscore", "under_score", NAME),
        named("a dot at the end", "dot.", NAME),
        named("a slash", "a/b", NAME),
        named("a long name", &"x".repeat(254), NAME),
        Case::post("nothing in JSON", JSON, "null").invalid(&[("metadata.name", REQUIRED)]),
        Case::post("nothing in YAML", YAML, "").invalid(&[("metadata.name", REQUIRED)]),
        Case::post_json("no name", &nameless).invalid(&[("metadata.name", REQUIRED)]),
        Case::post_json("a bad start", &generated)
            .invalid(&[("metadata.generateName", INVALID), ("metadata.name", INVALID)]),
        Case::post_json("a dot in a service", &service).at("/api/v1/namespaces/default/services").invalid(NAME),
        Case::post_json("a dot in a namespace", &namespace).at("/api/v1/namespaces").invalid(NAME),
        part("a label's key", "/metadata/labels", json!({ "no/such/key": "v" }), &[("metadata.labels", INVALID)]),
        part("a label's value", "/metadata/labels", json!({ "key": "no spaces" }), &[("metadata.labels", INVALID)]),
        part("a long label", "/metadata/labels", json!({ "key": "x".repeat(64) }), &[("metadata.labels", INVALID)]),
        part(
            "an annotation's key",
            "/metadata/annotations",
            json!({ "a b": "v" }),
            &[("metadata.annotations", INVALID)],
        ),
        part(
            "long annotations",
            "/metadata/annotations",
            json!({ "a": "x".repeat(256 << 10) }),
            &[("metadata.annotations", TOO_LONG)],
        ),
        part(
            "a finalizer",
            "/metadata/finalizers",
            json!(["a b"]),
            &[("metadata.finalizers", INVALID), ("metadata.finalizers[0]", INVALID)],
        ),
        part(
            "an owner",
            "/metadata/ownerReferences",
            owner,
            &[("metadata.ownerReferences.name", INVALID), ("metadata.ownerReferences.uid", INVALID)],
        ),
        part("a key of the data", "/data", json!({ "a b": "v" }), &[("data[a b]", INVALID)]),
        Case::post_json("no such namespace", &config_map("bad"))
            .at("/api/v1/namespaces/nowhere/configmaps")
            .gives(404, "NotFound"),
    ]
}

fn wrong_types() -> Vec<Case> {
    let part =
        |what, pointer: &str, part: Value| Case::post_json(what, &with(config_map("bad"), pointer, part)).bad_request();
    let seed = |pointer, part: Value| with(config_map("seed"), pointer, part);
    let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "bad" },
        "spec": { "containers": [{ "name": "c", "image": "i", "ports": [{ "containerPort": "80" }] }] } });
    let quantity = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "bad" },
        "spec": { "containers": [{ "name": "c", "image": "i", "resources": { "limits": { "cpu": "much" } } }] } });
    let pods = "/api/v1/namespaces/default/pods";
    vec![
        part("a number for a text", "/data/key", json!(5)),
        part("a list for a map", "/data", json!(["a"])),
        part("a text for an object", "/metadata", json!("me")),
        part("a text for a flag", "/immutable", json!("yes")),
        part("a map for a list", "/metadata/finalizers", json!({ "a": "b" })),
        part("no time", "/metadata/creationTimestamp", json!("yesterday")),
        part("no base64", "/binaryData", json!({ "key": "not base64!" })),
        part("another kind", "/kind", json!("Secret")),
        part("no such kind", "/kind", json!("Konfig")),
        part("no such version", "/apiVersion", json!("v2")),
        part("another group", "/apiVersion", json!("apps/v1")),
        part("a number for a version", "/apiVersion", json!(1)),
        part("another namespace", "/metadata/namespace", json!("kube-system")),
        Case::post_json("a text for a number", &pod).at(pods).bad_request(),
        Case::post_json("no quantity", &quantity).at(pods).bad_request(),
        Case::put("another name", &config_map("other")).bad_request(),
        Case::put("a number in an update", &seed("/data/key", json!(5))).bad_request(),
        Case::patch("a number in a merge patch", MERGE_PATCH, r#"{"data":{"key":5}}"#).invalid(&[("patch", INVALID)]),
        Case::patch("a number in a strategic patch", STRATEGIC_PATCH, r#"{"data":{"key":5}}"#)
            .invalid(&[("patch", INVALID)]),
        Case::patch("another name in a patch", MERGE_PATCH, r#"{"metadata":{"name":"other"}}"#).bad_request(),
        Case::patch("a list as a merge patch", MERGE_PATCH, "[]").bad_request(),
        Case::patch("half a merge patch", MERGE_PATCH, r#"{"data":"#).bad_request(),
        Case::patch("half a strategic patch", STRATEGIC_PATCH, r#"{"data":"#).bad_request(),
        Case::patch("half a JSON patch", JSON_PATCH, r#"[{"op":"#).bad_request(),
        Case::patch("a JSON patch that is no list", JSON_PATCH, r#"{"op":"add"}"#).bad_request(),
        Case::patch("no such operation", JSON_PATCH, r#"[{"op":"shift","path":"/data"}]"#).invalid(&[]),
        Case::patch("no such place", JSON_PATCH, r#"[{"op":"remove","path":"/data/absent"}]"#).invalid(&[]),
        Case::patch("a test that fails", JSON_PATCH, r#"[{"op":"test","path":"/data/key","value":"other"}]"#)
            .invalid(&[]),
        Case::patch("an apply that is no YAML", APPLY, "a: [").bad_request(),
        Case::patch("an apply of another version", APPLY, r#"{"apiVersion":"v2","kind":"ConfigMap"}"#).bad_request(),
        Case::patch(
            "an apply that brings managers",
            APPLY,
            with(config_map("seed"), "/metadata/managedFields", json!([{ "manager": "m" }])).to_string(),
        )
        .bad_request(),
    ]
}

/// `old` is the version that the seed had before its last update.
fn wrong_versions(old: &str) -> Vec<Case> {
    let seed = |pointer, part: Value| with(config_map("seed"), pointer, part);
    let version = |version: &str| seed("/metadata/resourceVersion", json!(version));
    let old_patch = json!({ "metadata": { "resourceVersion": old }, "data": { "key": "other" } }).to_string();
    let old_apply = with(version(old), "/data/key", json!("seeded")).to_string();
    let uid = "00000000-0000-4000-8000-000000000000";
    let lease =
        json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": "seed" }, "spec": {} });
    vec![
        Case::put("an old version", &version(old)).gives(409, "Conflict"),
        Case::put("a version to come", &version("999999999")).gives(409, "Conflict"),
        Case::put("no version at all", &version("yesterday")).invalid(&[("metadata.resourceVersion", INVALID)]),
        Case::put("another uid", &seed("/metadata/uid", json!(uid))).gives(409, "Conflict"),
        Case::new(
            "an unconditional update of a lease",
            "PUT",
            "/apis/coordination.k8s.io/v1/namespaces/default/leases/seed",
            JSON,
            lease.to_string(),
        )
        .invalid(&[("metadata.resourceVersion", INVALID)]),
        Case::patch("an old version in a merge patch", MERGE_PATCH, &old_patch).gives(409, "Conflict"),
        Case::patch("an old version in a strategic patch", STRATEGIC_PATCH, &old_patch).gives(409, "Conflict"),
        Case::patch("an old version in an apply", APPLY, old_apply)
            .at(format!("{SEED}?fieldManager=m&force=true"))
            .gives(409, "Conflict"),
        Case::post_json("a version of a new object", &with(config_map("bad"), "/metadata/resourceVersion", json!("1")))
            .bad_request(),
        Case::new(
            "a delete of an old version",
            "DELETE",
            SEED,
            JSON,
            json!({ "preconditions": { "resourceVersion": old } }).to_string(),
        )
        .gives(409, "Conflict"),
        Case::new(
            "a delete of another uid",
            "DELETE",
            SEED,
            JSON,
            json!({ "preconditions": { "uid": uid } }).to_string(),
        )
        .gives(409, "Conflict"),
        Case::get("a list at no version", &format!("{CONFIG_MAPS}?resourceVersion=yesterday")).bad_request(),
        Case::get("an object at no version", &format!("{SEED}?resourceVersion=yesterday")).bad_request(),
        Case::get("a list from no token", &format!("{CONFIG_MAPS}?limit=1&continue=here")).bad_request(),
        Case::post_json("what exists", &config_map("seed")).gives(409, "AlreadyExists"),
    ]
}

fn media_types() -> Vec<Case> {
    let unsupported = |case: Case| case.gives(415, "UnsupportedMediaType");
    let body = config_map("bad").to_string();
    vec![
        unsupported(Case::post("plain text", "text/plain", &body)),
        unsupported(Case::post("XML", "application/xml", &body)),
        unsupported(Case::post("no media type at all", "json", &body)),
        unsupported(Case::post("a patch as an object", MERGE_PATCH, &body)),
        unsupported(Case::new("an update in plain text", "PUT", SEED, "text/plain", &body)),
        unsupported(Case::new("JSON as a patch", "PATCH", SEED, JSON, "{}")),
        unsupported(Case::new("YAML as a patch", "PATCH", SEED, YAML, "{}")),
        unsupported(Case::new("a patch of no type", "PATCH", SEED, "", "{}")),
        Case::get("an image of a list", CONFIG_MAPS).header("accept", "image/png").gives(406, "NotAcceptable"),
        Case::get("a list as something else", CONFIG_MAPS)
            .header("accept", "application/json;as=Chart;g=meta.k8s.io;v=v1")
            .gives(406, "NotAcceptable"),
        Case::post("an answer that cannot be given", JSON, &body)
            .header("accept", "text/html")
            .gives(406, "NotAcceptable"),
    ]
}

fn options() -> Vec<Case> {
    let post = |what, query: &str| Case::post_json(what, &config_map("bad")).at(format!("{CONFIG_MAPS}?{query}"));
    let get = |what, query: &str| Case::get(what, &format!("{CONFIG_MAPS}?{query}"));
    let delete = |what, body: Value| Case::new(what, "DELETE", SEED, JSON, body.to_string());
    let long = format!("fieldManager={}", "x".repeat(129));
    vec![
        post("half a dry run", "dryRun=Some").invalid(&[("dryRun", NOT_SUPPORTED)]),
        post("a long manager", &long).invalid(&[("fieldManager", TOO_LONG)]),
        post("an unprintable manager", "fieldManager=a%07b").invalid(&[("fieldManager", INVALID)]),
        Case::patch("an apply by nobody", APPLY, config_map("seed").to_string())
            .at(SEED)
            .invalid(&[("fieldManager", REQUIRED)]),
        Case::patch("a merge by force", MERGE_PATCH, "{}")
            .at(format!("{SEED}?force=true"))
            .invalid(&[("force", FORBIDDEN)]),
        delete("no such propagation", json!({ "propagationPolicy": "Sideways" }))
            .invalid(&[("propagationPolicy", NOT_SUPPORTED)]),
        delete("half a dry run of a delete", json!({ "dryRun": ["Some"] })).invalid(&[("dryRun", NOT_SUPPORTED)]),
        delete("a text for seconds", json!({ "gracePeriodSeconds": "soon" })).bad_request(),
        get("no label selector", "labelSelector=a%20b").bad_request(),
        get("no field selector", "fieldSelector=a").bad_request(),
        get("no such field", "fieldSelector=spec.colour%3Dred").bad_request(),
        get("no limit", "limit=many").bad_request(),
        get("no time out", "watch=true&timeoutSeconds=long").bad_request(),
        Case::post_json("an object into an object", &config_map("bad")).at(SEED).gives(405, "MethodNotAllowed"),
        Case::new("an update of a list", "PUT", CONFIG_MAPS, JSON, config_map("bad").to_string())
            .gives(405, "MethodNotAllowed"),
        Case::get("no such resource", "/api/v1/namespaces/default/konfigs").gives(404, "NotFound"),
        Case::get("no such object", &format!("{CONFIG_MAPS}/absent")).gives(404, "NotFound"),
    ]
}

/// All that is stored of the kinds of the table, with its versions.
fn stored(plane: &ControlPlane) -> Result<Vec<String>> {
    let prefixes = ["configmaps", "pods", "deployments", "namespaces", "services/specs", "leases/default"];
    let dump =
        |prefix: &&str| plane.etcdctl(&["get", "--prefix", &format!("/registry/{prefix}/"), "--write-out=fields"]);
    let dumps: Vec<String> = prefixes.iter().map(dump).collect::<Result<_>>()?;
    // What etcd says of itself changes with every write to anything.
    let of_objects =
        |line: &&str| ["\"Key\"", "\"ModRevision\"", "\"Value\""].iter().any(|field| line.starts_with(field));
    Ok(dumps.iter().flat_map(|dump| dump.lines().filter(of_objects)).map(str::to_owned).collect())
}

/// Objects to aim at. Gives the version that the ConfigMap had before it was updated.
async fn seed(client: &Client) -> Result<String> {
    let lease =
        json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": "seed" }, "spec": {} });
    let answer = send_json(client, "POST", "/apis/coordination.k8s.io/v1/namespaces/default/leases", &lease).await?;
    assert_eq!(answer.code, 201, "{answer:?}");
    let answer = send_json(client, "POST", CONFIG_MAPS, &config_map("seed")).await?;
    assert_eq!(answer.code, 201, "{answer:?}");
    let changed = with(config_map("seed"), "/data/key", json!("seeded"));
    assert_eq!(send_json(client, "PUT", SEED, &changed).await?.code, 200);
    Ok(answer.json()["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn what_is_wrong_is_refused_as_kubernetes_refuses_it_and_nothing_is_stored() -> Result<()> {
    let plane = ControlPlane::start().await?;
    let client = plane.client().await?;
    let old = seed(&client).await?;
    let tables = [
        malformed(),
        unknown_fields(),
        too_large(),
        names_and_labels(),
        wrong_types(),
        wrong_versions(&old),
        media_types(),
        options(),
    ];
    let before = stored(&plane)?;
    let mut wrong = String::new();
    for case in tables.iter().flatten() {
        let answer = send(&client, case.method, &case.path, &case.headers, &*case.body).await?;
        if let Some(difference) = case.difference(&answer) {
            writeln!(wrong, "{}: {difference}", case.what)?;
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert_eq!(stored(&plane)?, before);
    Ok(())
}
