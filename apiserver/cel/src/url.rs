//! `url('https://example.com/path?k=v')`: absolute URLs, and absolute paths alone, taken apart as they are written.
//!
//! Kubernetes documentation, "Kubernetes URL library".

use std::collections::{BTreeMap, HashMap};

use cel::common::types::{CelBool, CelList, CelMap, CelMapKey, CelString};
use cel::common::value::Val;
use cel::{DeclarationError, Env, ExecutionError, add_member_overload, add_overload};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::types::value_type;

/// What is escaped in a path.
const PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b']')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}')
    .add(b'#');
/// What may not stand in a host.
const NOT_IN_HOST: [char; 8] = [' ', '"', '<', '>', '\\', '^', '{', '}'];

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Url {
    scheme: String,
    /// With the port.
    host: String,
    path: String,
    query: String,
}

value_type!(Url, "kubernetes.URL");

pub(crate) fn library(env: &mut Env) -> Result<(), DeclarationError> {
    add_overload!(env, fn url: (CelString<'_>) -> Result<Url>)?;
    add_overload!(env, fn is_url: (CelString<'_>) -> CelBool, name = "isURL")?;
    add_member_overload!(env, fn get_scheme: (Url) -> CelString<'_>)?;
    add_member_overload!(env, fn get_host: (Url) -> CelString<'_>)?;
    add_member_overload!(env, fn get_hostname: (Url) -> CelString<'_>)?;
    add_member_overload!(env, fn get_port: (Url) -> CelString<'_>)?;
    add_member_overload!(env, fn get_escaped_path: (Url) -> CelString<'_>)?;
    add_member_overload!(env, fn get_query: (Url) -> CelMap<'_>)?;
    Ok(())
}

/// The scheme, where there is one, and what follows it.
fn scheme(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once(':')?;
    let valid = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    valid.then_some((scheme, rest))
}

fn escapes_are_whole(text: &str) -> bool {
    text.split('%').skip(1).all(|rest| rest.len() >= 2 && rest.bytes().take(2).all(|byte| byte.is_ascii_hexdigit()))
}

fn host_is_valid(host: &str) -> bool {
    let (_, port) = split_port(host);
    !host.contains(NOT_IN_HOST) && port.bytes().all(|byte| byte.is_ascii_digit())
}

/// A host's name, without the brackets of an IPv6 address, and its port.
fn split_port(host: &str) -> (&str, &str) {
    if let Some(rest) = host.strip_prefix('[') {
        let (name, rest) = rest.split_once(']').unwrap_or((rest, ""));
        return (name, rest.strip_prefix(':').unwrap_or(rest));
    }
    host.rsplit_once(':').unwrap_or((host, ""))
}

/// Reads what may stand in the first line of an HTTP request.
pub(crate) fn parse(text: &str) -> Result<Url, String> {
    let refusal = |why: &str| format!("parse {text:?}: {why}");
    if text.is_empty() {
        return Err(refusal("empty url"));
    }
    if text.bytes().any(|byte| byte.is_ascii_control()) {
        return Err(refusal("net/url: invalid control character in URL"));
    }
    let (scheme, rest) = scheme(text).unwrap_or(("", text));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    if !rest.starts_with('/') && scheme.is_empty() {
        return Err(refusal("invalid URI for request"));
    }
    let (host, path) = match rest.strip_prefix("//") {
        Some(rest) if !scheme.is_empty() => rest.split_at(rest.find('/').unwrap_or(rest.len())),
        _ if rest.starts_with('/') => ("", rest),
        _ => ("", ""),
    };
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    if !host_is_valid(host) {
        return Err(refusal("invalid host"));
    }
    if !escapes_are_whole(path) {
        return Err(refusal("invalid URL escape"));
    }
    let [scheme, host, path, query] = [scheme.to_lowercase().as_str(), host, path, query].map(str::to_owned);
    Ok(Url { scheme, host, path, query })
}

fn url(text: &CelString<'_>) -> Result<Url, ExecutionError> {
    let failure = |error| {
        ExecutionError::function_error("url", format!("URL parse error during conversion from string: {error}"))
    };
    parse(text.inner()).map_err(failure)
}

fn is_url(text: &CelString<'_>) -> CelBool {
    parse(text.inner()).is_ok().into()
}

fn get_scheme(this: &Url) -> CelString<'static> {
    this.scheme.clone().into()
}

fn get_host(this: &Url) -> CelString<'static> {
    this.host.clone().into()
}

fn get_hostname(this: &Url) -> CelString<'static> {
    split_port(&this.host).0.to_owned().into()
}

fn get_port(this: &Url) -> CelString<'static> {
    split_port(&this.host).1.to_owned().into()
}

fn get_escaped_path(this: &Url) -> CelString<'static> {
    utf8_percent_encode(&this.path, PATH).to_string().into()
}

fn get_query(this: &Url) -> CelMap<'static> {
    let mut all: BTreeMap<String, Vec<Box<dyn Val>>> = BTreeMap::new();
    for (key, value) in form_urlencoded::parse(this.query.as_bytes()) {
        all.entry(key.into_owned()).or_default().push(Box::new(CelString::from(value.into_owned())));
    }
    let entry = |(key, values)| (CelMapKey::from(key), Box::new(CelList::from(values)) as Box<dyn Val>);
    all.into_iter().map(entry).collect::<HashMap<_, _>>().into()
}
