use std::collections::HashMap;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::*;
use crate::authentication::bearer::Bearer;
use crate::authorization::union::AlwaysDeny;
use crate::authorization::{Authorizer, UserRules};
use crate::user::{Attributes, Decision};
use apimachinery::ApiError;

/// Allows jane to get what is selected on `spec.nodeName=n1`.
struct OnlyNode;

#[async_trait]
impl Authorizer for OnlyNode {
    fn authorize(&self, user: &UserInfo, attributes: &Attributes<'_>) -> Decision {
        match user.name == "jane" && attributes.field_selector == "spec.nodeName=n1" {
            true => Decision::allow("so"),
            false => Decision::Deny { reason: "no".into() },
        }
    }

    fn rules(&self, _: &UserInfo, _: &str) -> UserRules {
        let mut rules = crate::authorization::Rule::everything();
        rules.truncate(2);
        UserRules { rules, ..UserRules::default() }
    }
}

#[test]
fn access_is_answered_with_the_reason() {
    let selector = json!({"requirements": [{"key": "spec.nodeName", "operator": "In", "values": ["n1"]}]});
    let attributes = json!({"verb": "list", "resource": "pods", "fieldSelector": selector});
    let mut object = json!({"spec": {"user": "jane", "resourceAttributes": attributes}});
    let answer = access::subject(&OnlyNode, &object).expect("valid");
    assert_eq!(answer["status"], json!({"allowed": true, "reason": "so"}));
    assert_eq!(answer["spec"], object["spec"]);
    object["spec"]["user"] = "joe".into();
    let answer = access::subject(&OnlyNode, &object).expect("valid");
    assert_eq!(answer["status"], json!({"allowed": false, "denied": true, "reason": "no"}));
    object["spec"]["resourceAttributes"]["fieldSelector"]["requirements"][0]["values"] = json!([]);
    assert_eq!(access::subject(&OnlyNode, &object).map_err(|e| e.code()), Err(422));
}

#[test]
fn my_rules_are_listed_by_kind() {
    let object = json!({"spec": {"namespace": "dev"}});
    let answer = rules::self_subject(&OnlyNode, &UserInfo::default(), &object).expect("valid");
    assert_eq!(answer["status"]["resourceRules"][0]["resources"], json!(["*"]));
    assert_eq!(answer["status"]["nonResourceRules"][0]["nonResourceURLs"], json!(["*"]));
    assert_eq!(rules::self_subject(&OnlyNode, &UserInfo::default(), &json!({})).map_err(|e| e.code()), Err(400));
}

#[test]
fn who_am_i() {
    let user = UserInfo { name: "jane".into(), groups: vec!["dev".into()], ..UserInfo::default() };
    let now = "2026-01-01T00:00:00.5Z".parse().expect("a time");
    let answer = subject::self_subject(&user, &json!({"kind": "SelfSubjectReview"}), now);
    assert_eq!(answer["status"]["userInfo"], json!({"username": "jane", "groups": ["dev"]}));
    assert_eq!(answer["metadata"]["creationTimestamp"], "2026-01-01T00:00:00Z");
}

async fn post(object: &Value, path: &str) -> Option<Result<Value, ApiError>> {
    let user = UserInfo { name: "root".into(), ..UserInfo::default() };
    let tokens = Bearer::new(Vec::new(), vec!["api".into()]);
    Some(match object["kind"].as_str()? {
        "SubjectAccessReview" => access::subject(&AlwaysDeny, object),
        "SelfSubjectAccessReview" => access::self_subject(&AlwaysDeny, &user, object),
        "LocalSubjectAccessReview" => {
            let namespace = path.split('/').nth(5).expect("a namespace");
            access::local_subject(&AlwaysDeny, namespace, object)
        }
        "TokenReview" => token::review(&tokens, object).await,
        _ => return None,
    })
}

/// Compares with the recorded answers; those that the codec refuses before we are asked (types, unknown fields) are left out.
#[tokio::test]
async fn reviews_are_refused_as_recorded() {
    let Some(folder) = std::env::var_os("CORTEN_REFERENCE") else { return };
    let file = std::path::Path::new(&folder).join("validation-1.36.jsonl");
    let mut compared: HashMap<String, usize> = HashMap::new();
    for line in std::fs::read_to_string(file).expect("the reference file").lines() {
        let case: Value = serde_json::from_str(line).expect("JSON");
        let (object, path) = (&case["request"], case["path"].as_str().expect("a path"));
        let ours = post(object, path).await;
        let Some(ours) = ours else { continue };
        let code = case["code"].as_u64().expect("a code");
        let empty_token = object["kind"] == "TokenReview" && object["spec"]["token"].as_str().unwrap_or("").is_empty();
        let wrong_type = object["spec"]["token"].is_number() || object["spec"].is_string();
        if code == 400 && (!empty_token || wrong_type) {
            continue;
        }
        let got = ours.as_ref().map_or_else(|e| u64::from(e.code()), |_| 201);
        assert_eq!(got, code, "{object}");
        if let (Err(error), Some(causes)) = (&ours, case["causes"].as_array()) {
            let details = error.0.details.as_ref().expect("details");
            let mut got: Vec<_> = details.causes.iter().map(|c| json!([c.field, c.reason])).collect();
            got.sort_by_key(Value::to_string);
            assert_eq!(&got, causes, "{object}");
        }
        *compared.entry(object["kind"].to_string()).or_default() += 1;
    }
    assert_eq!(compared.len(), 4, "{compared:?}");
    assert!(compared.values().sum::<usize>() > 45, "{compared:?}");
}
