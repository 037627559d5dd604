//! Acting as another user: the `Impersonate-*` headers (Kubernetes documentation, "User impersonation").

use std::collections::BTreeMap;

use apimachinery::ApiError;
use apiserver_auth::UserInfo;
use apiserver_auth::authorization::{Authorizer, forbidden};
use apiserver_auth::user::{Attributes, service_account_groups};
use http::HeaderMap;

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";

fn all<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
    headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect()
}

/// The user that the request is to be served for: the one who sends it, or the one it impersonates where that is allowed.
///
/// # Errors
/// `BadRequest` for groups or extra without a user; `Forbidden`.
pub fn user(authorizer: &dyn Authorizer, sender: UserInfo, headers: &HeaderMap) -> Result<UserInfo, ApiError> {
    let names = all(headers, USER);
    let groups = all(headers, GROUP);
    let uid = all(headers, UID);
    let extra: Vec<(String, Vec<&str>)> = headers
        .keys()
        .filter_map(|name| name.as_str().strip_prefix(EXTRA))
        .map(|key| {
            let decoded = percent_encoding::percent_decode_str(key).decode_utf8_lossy().to_lowercase();
            (decoded, all(headers, &format!("{EXTRA}{key}")))
        })
        .collect();
    let Some(name) = names.first().filter(|name| !name.is_empty()) else {
        if groups.is_empty() && extra.is_empty() && uid.is_empty() {
            return Ok(sender);
        }
        return Err(ApiError::bad_request("requested impersonation without impersonating a user"));
    };
    let check = |group: &str, resource: &str, subresource: &str, namespace: &str, name: &str| {
        let attributes = Attributes {
            verb: "impersonate",
            is_resource_request: true,
            group,
            version: "v1",
            resource,
            subresource,
            namespace,
            name,
            ..Attributes::default()
        };
        let decision = authorizer.authorize(&sender, &attributes);
        if decision.allowed() { Ok(()) } else { Err(forbidden(&sender, &attributes, decision.reason())) }
    };
    let account = name.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
    match account {
        Some((namespace, account)) => check("", "serviceaccounts", "", namespace, account)?,
        None => check("", "users", "", "", name)?,
    }
    for group in &groups {
        check("", "groups", "", "", group)?;
    }
    for uid in &uid {
        check("authentication.k8s.io", "uids", "", "", uid)?;
    }
    for (key, values) in &extra {
        for value in values {
            check("authentication.k8s.io", "userextras", key, "", value)?;
        }
    }
    let mut groups: Vec<String> = groups.into_iter().map(str::to_owned).collect();
    if let (Some((namespace, _)), true) = (account, groups.is_empty()) {
        groups = service_account_groups(namespace);
    }
    let base = if *name == "system:anonymous" { "system:unauthenticated" } else { "system:authenticated" };
    if !groups.iter().any(|group| group == base) {
        groups.push(base.to_owned());
    }
    Ok(UserInfo {
        name: (*name).to_owned(),
        uid: uid.first().copied().unwrap_or_default().to_owned(),
        groups,
        extra: extra
            .into_iter()
            .map(|(key, values)| (key, values.into_iter().map(str::to_owned).collect()))
            .collect::<BTreeMap<_, _>>(),
    })
}
