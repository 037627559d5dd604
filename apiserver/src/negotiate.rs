//! Content negotiation: which encoding, and which form of the object, an `Accept` header asks for.
//!
//! Kubernetes documentation, "Kubernetes API concepts": alternate representations, receiving resources as Tables.

use apimachinery::ApiError;
use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE};

/// The encodings of answers and bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Json,
    Yaml,
    Protobuf,
}

impl Encoding {
    pub fn content_type(self) -> &'static str {
        match self {
            Encoding::Json => "application/json",
            Encoding::Yaml => "application/yaml",
            Encoding::Protobuf => "application/vnd.kubernetes.protobuf",
        }
    }

    /// The content type of a watch.
    pub fn stream_type(self) -> &'static str {
        match self {
            Encoding::Json | Encoding::Yaml => "application/json",
            Encoding::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
        }
    }

    fn of(media_type: &str) -> Option<Self> {
        match media_type {
            "application/json" | "application/*" | "*/*" | "text/json" => Some(Encoding::Json),
            "application/yaml" | "text/yaml" | "application/x-yaml" => Some(Encoding::Yaml),
            "application/vnd.kubernetes.protobuf" => Some(Encoding::Protobuf),
            _ => None,
        }
    }
}

/// The form in which an object or a list is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As it is.
    Whole,
    /// A `meta.k8s.io/v1 Table`.
    Table,
    /// `PartialObjectMetadata`, or a list of it.
    Metadata,
    /// `apidiscovery.k8s.io/v2 APIGroupDiscoveryList`, for discovery only.
    AggregatedDiscovery,
}

/// What the client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Negotiated {
    pub encoding: Encoding,
    pub form: Form,
}

/// The media types that are named in errors.
const SUPPORTED: &[&str] = &["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
/// The media types of patches.
pub const PATCH_TYPES: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/apply-patch+yaml",
    "application/strategic-merge-patch+json",
];

/// The media types of patches to resources of which no merge keys are known.
pub const CUSTOM_PATCH_TYPES: &[&str] =
    &["application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"];

struct Clause<'a> {
    media_type: &'a str,
    params: Vec<(&'a str, &'a str)>,
}

impl<'a> Clause<'a> {
    fn parse(text: &'a str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or_default();
        Clause { media_type, params: parts.filter_map(|param| param.split_once('=')).collect() }
    }

    fn param(&self, name: &str) -> &'a str {
        self.params.iter().find(|(key, _)| *key == name).map_or("", |(_, value)| value.trim_matches('"'))
    }

    fn form(&self) -> Option<Form> {
        let (group, version) = (self.param("g"), self.param("v"));
        match self.param("as") {
            "" => Some(Form::Whole),
            "Table" if group == "meta.k8s.io" && version == "v1" => Some(Form::Table),
            "PartialObjectMetadata" | "PartialObjectMetadataList" if group == "meta.k8s.io" && version == "v1" => {
                Some(Form::Metadata)
            }
            "APIGroupDiscoveryList" if group == "apidiscovery.k8s.io" && version == "v2" => {
                Some(Form::AggregatedDiscovery)
            }
            _ => None,
        }
    }
}

/// Chooses by `Accept`: the first clause that can be served. Nothing at all means JSON.
pub fn accept(headers: &HeaderMap) -> Result<Negotiated, ApiError> {
    accept_if(headers, |_| true)
}

/// As [`accept`], for a resource that is not served in every form.
pub fn accept_if(headers: &HeaderMap, can: impl Fn(&Negotiated) -> bool) -> Result<Negotiated, ApiError> {
    let whole_json = Negotiated { encoding: Encoding::Json, form: Form::Whole };
    let mut asked = false;
    for value in headers.get_all(ACCEPT) {
        let Ok(text) = value.to_str() else { continue };
        for clause in text.split(',').map(str::trim).filter(|clause| !clause.is_empty()).map(Clause::parse) {
            asked = true;
            let negotiated = Encoding::of(clause.media_type).zip(clause.form());
            let negotiated = negotiated.map(|(encoding, form)| Negotiated { encoding, form });
            if let Some(negotiated) = negotiated.filter(&can) {
                return Ok(negotiated);
            }
        }
    }
    if asked { Err(ApiError::not_acceptable(SUPPORTED)) } else { Ok(whole_json) }
}

/// The encoding of a request's body by its `Content-Type`; nothing means JSON.
pub fn body_encoding(headers: &HeaderMap) -> Result<Encoding, ApiError> {
    let Some(value) = headers.get(CONTENT_TYPE) else { return Ok(Encoding::Json) };
    let clause = Clause::parse(value.to_str().unwrap_or_default());
    match clause.media_type {
        "" => Ok(Encoding::Json),
        "*/*" | "application/*" => Err(ApiError::unsupported_media_type(SUPPORTED)),
        media_type => Encoding::of(media_type).ok_or_else(|| ApiError::unsupported_media_type(SUPPORTED)),
    }
}

/// The media type of a patch, without parameters.
pub fn patch_type(headers: &HeaderMap, supported: &[&'static str]) -> Result<&'static str, ApiError> {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = Clause::parse(value).media_type;
    let found = supported.iter().find(|known| **known == media_type);
    found.copied().ok_or_else(|| ApiError::unsupported_media_type(supported))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(accept_header: &str) -> Option<(Encoding, Form)> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept_header.parse().expect("a header"));
        accept(&headers).ok().map(|n| (n.encoding, n.form))
    }

    #[test]
    fn the_first_clause_that_can_be_served_wins() {
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(chosen(kubectl), Some((Encoding::Json, Form::Table)));
        let old = "application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(chosen(old), Some((Encoding::Json, Form::Whole)));
        let client_go = "application/vnd.kubernetes.protobuf,application/json";
        assert_eq!(chosen(client_go), Some((Encoding::Protobuf, Form::Whole)));
        assert_eq!(chosen("*/*"), Some((Encoding::Json, Form::Whole)));
        assert_eq!(chosen("application/cbor, application/json;q=0.5"), Some((Encoding::Json, Form::Whole)));
        assert_eq!(chosen("image/png"), None);
    }

    #[test]
    fn no_accept_header_means_json() {
        assert_eq!(accept(&HeaderMap::new()).map(|n| n.encoding).ok(), Some(Encoding::Json));
    }
}
