//! Service accounts, with their secrets.

use serde_json::Value;

use super::page::Page;
use super::{Subject, Wanted};
use crate::fields::{self, Fields};

/// Writes a service account.
pub fn describe(subject: &Subject<'_>) -> Page {
    let (account, mut page) = (subject.object, Page::default());
    page.head(account);
    page.tags(account);
    let secrets = subject.tried(Wanted::Secrets);
    let known = secrets.as_ref().map(|secrets| secrets.iter().map(fields::name).collect::<Vec<_>>());
    let missing = |name: &str| known.as_ref().is_ok_and(|known| !known.contains(&name));
    let names = |path: &str| account.list(path).iter().map(|secret| secret.text("name")).collect::<Vec<_>>();
    let tokens = secrets.unwrap_or_default().iter().filter(|secret| is_token(secret, account)).map(fields::name);
    for (header, names) in [
        ("Image pull secrets:", names("imagePullSecrets")),
        ("Mountable secrets: ", names("secrets")),
        ("Tokens:            ", tokens.collect()),
    ] {
        if names.is_empty() {
            page.line(0, format_args!("{header}\t<none>"));
        }
        let mut prefix = header;
        for name in names {
            let note = if missing(name) { " (not found)" } else { "" };
            page.line(0, format_args!("{prefix}\t{name}{note}"));
            prefix = "                   ";
        }
    }
    page
}

fn is_token(secret: &Value, account: &Value) -> bool {
    let annotation = |key: &str| secret["metadata"]["annotations"][key].as_str().unwrap_or_default();
    secret.text("type") == "kubernetes.io/service-account-token"
        && annotation("kubernetes.io/service-account.name") == fields::name(account)
        && annotation("kubernetes.io/service-account.uid") == account.text("metadata.uid")
}
