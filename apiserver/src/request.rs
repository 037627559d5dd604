//! What a request asks for, read from its method, path and query (Kubernetes documentation, "Kubernetes API concepts").

use http::Method;

/// The decoded query of a request. Small: a list is faster than a map.
#[derive(Clone, Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    pub fn parse(query: Option<&str>) -> Self {
        let pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        Query(pairs.map(|(key, value)| (key.into_owned(), value.into_owned())).collect())
    }

    /// The first value of a parameter; empty when it is missing.
    pub fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// Whether the parameter is there at all.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(key, _)| key == name)
    }

    /// All values of a parameter that may be repeated.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The query again, without some parameters.
    pub fn encode(&self, without: &[&str]) -> String {
        let kept = self.0.iter().filter(|(key, _)| !without.contains(&key.as_str()));
        form_urlencoded::Serializer::new(String::new()).extend_pairs(kept).finish()
    }

    /// A boolean parameter, read as Kubernetes reads it: anything but `false` and `0` is true where the parameter is there.
    pub fn flag(&self, name: &str) -> bool {
        self.has(name) && !matches!(self.get(name), "false" | "0")
    }
}

/// What a request asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestInfo {
    /// Whether the path is below a group and version.
    pub is_resource: bool,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; otherwise the method in lower case.
    pub verb: &'static str,
    pub group: String,
    pub version: String,
    pub namespace: String,
    pub resource: String,
    pub subresource: String,
    pub name: String,
    /// What follows the subresource, for the proxies: with its leading slash, or empty.
    pub tail: String,
}

fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "get",
        Method::HEAD => "head",
        Method::POST => "post",
        Method::PUT => "put",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        Method::OPTIONS => "options",
        _ => "other",
    }
}

fn decode(segment: &str) -> String {
    percent_encoding::percent_decode_str(segment).decode_utf8_lossy().into_owned()
}

impl RequestInfo {
    pub fn parse(method: &Method, path: &str, query: &Query) -> Self {
        let other = RequestInfo { verb: method_name(method), ..Self::default() };
        let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let (group, version, rest) = match segments.as_slice() {
            ["api", version, rest @ ..] if !version.is_empty() => ("", *version, rest),
            ["apis", group, version, rest @ ..] if !version.is_empty() => (*group, *version, rest),
            _ => return other,
        };
        if rest.iter().all(|segment| segment.is_empty()) {
            return other;
        }
        let (legacy_watch, rest) = match rest {
            ["watch", rest @ ..] if !rest.is_empty() => (true, rest),
            rest => (false, rest),
        };
        let mut info = RequestInfo { is_resource: true, group: decode(group), version: version.into(), ..other };
        info.take_resource(rest);
        info.verb = verb(method, &info, query, legacy_watch);
        info
    }

    fn take_resource(&mut self, rest: &[&str]) {
        let rest = match rest {
            // `namespaces/<ns>` is the namespace itself, and so are its own subresources.
            ["namespaces", namespace, resource, rest @ ..]
                if !resource.is_empty() && !matches!(*resource, "status" | "finalize") =>
            {
                self.namespace = decode(namespace);
                self.resource = decode(resource);
                rest
            }
            ["namespaces", namespace, rest @ ..] if !namespace.is_empty() => {
                self.namespace = decode(namespace);
                self.resource = "namespaces".into();
                self.name = self.namespace.clone();
                self.take_subresource(rest);
                return;
            }
            [resource, rest @ ..] => {
                self.resource = decode(resource);
                rest
            }
            [] => return,
        };
        if let [name, rest @ ..] = rest {
            self.name = decode(name);
            self.take_subresource(rest);
        }
    }

    fn take_subresource(&mut self, rest: &[&str]) {
        if let [subresource, tail @ ..] = rest {
            self.subresource = decode(subresource);
            if !tail.is_empty() {
                self.tail = format!("/{}", tail.join("/"));
            }
        }
    }
}

fn verb(method: &Method, info: &RequestInfo, query: &Query, legacy_watch: bool) -> &'static str {
    match *method {
        Method::GET | Method::HEAD => {
            let watches = legacy_watch || query.flag("watch");
            let whole = info.name.is_empty() || legacy_watch;
            match (watches, whole) {
                (true, true) => "watch",
                (true, false) if info.subresource.is_empty() && watches_one(query) => "watch",
                (false, true) => "list",
                (_, false) => "get",
            }
        }
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE if info.name.is_empty() => "deletecollection",
        Method::DELETE => "delete",
        _ => method_name(method),
    }
}

/// A `watch=true` on one named object watches just that one.
fn watches_one(query: &Query) -> bool {
    query.flag("watch")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(method: Method, uri: &str) -> RequestInfo {
        let (path, query) = uri.split_once('?').map_or((uri, None), |(path, query)| (path, Some(query)));
        RequestInfo::parse(&method, path, &Query::parse(query))
    }

    #[test]
    fn paths_are_read_as_kubernetes_reads_them() {
        let cases = [
            (Method::GET, "/api/v1/namespaces/ns/pods/p", "get", "ns", "pods", "p", ""),
            (Method::GET, "/api/v1/namespaces/ns/pods", "list", "ns", "pods", "", ""),
            (Method::GET, "/api/v1/pods?watch=1", "watch", "", "pods", "", ""),
            (Method::GET, "/api/v1/pods?watch=false", "list", "", "pods", "", ""),
            (Method::GET, "/api/v1/watch/namespaces/ns/pods/p", "watch", "ns", "pods", "p", ""),
            (Method::POST, "/apis/apps/v1/namespaces/ns/deployments", "create", "ns", "deployments", "", ""),
            (
                Method::PUT,
                "/apis/apps/v1/namespaces/ns/deployments/d/scale",
                "update",
                "ns",
                "deployments",
                "d",
                "scale",
            ),
            (Method::DELETE, "/api/v1/namespaces/ns/pods", "deletecollection", "ns", "pods", "", ""),
            (Method::GET, "/api/v1/namespaces/ns", "get", "ns", "namespaces", "ns", ""),
            (Method::PUT, "/api/v1/namespaces/ns/finalize", "update", "ns", "namespaces", "ns", "finalize"),
            (Method::PATCH, "/api/v1/nodes/n1/status", "patch", "", "nodes", "n1", "status"),
            (Method::GET, "/api/v1/namespaces", "list", "", "namespaces", "", ""),
        ];
        for (method, uri, verb, namespace, resource, name, subresource) in cases {
            let got = info(method, uri);
            assert!(got.is_resource, "{uri}");
            let found = (got.verb, &*got.namespace, &*got.resource, &*got.name, &*got.subresource);
            assert_eq!(found, (verb, namespace, resource, name, subresource), "{uri}");
        }
    }

    #[test]
    fn proxies_keep_the_rest_of_the_path() {
        let got = info(Method::GET, "/api/v1/namespaces/ns/services/web:80/proxy/a/b/?x=y");
        assert_eq!((got.name.as_str(), got.subresource.as_str(), got.tail.as_str()), ("web:80", "proxy", "/a/b/"));
    }

    #[test]
    fn other_paths_are_not_resources() {
        for uri in ["/", "/api", "/api/v1", "/apis", "/apis/apps", "/apis/apps/v1", "/healthz", "/version"] {
            let got = info(Method::GET, uri);
            assert!(!got.is_resource, "{uri}");
            assert_eq!(got.verb, "get");
        }
    }
}
