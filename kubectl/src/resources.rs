//! Finding the objects that a command line names: by arguments, by files, by selectors.

use apimachinery::labels::Selector;
use serde_json::Value;

use crate::api::{Call, Client};
use crate::discovery::Resource;
use crate::error::{Error, Result, usage};
use crate::fields::{self, Fields};
use crate::manifests::{self, Manifest, Manifests};
use crate::options::{Files, Selection};
use crate::session::Session;
use crate::streams::Streams;

/// What a command says that is told which objects of no type.
pub const UNSELECTED: &str = "at least one resource must be specified to use a selector";
/// What a command says that is to be told objects.
pub const NOTHING: &str = "You must provide one or more resources by argument or filename.\nExample resource specifications include:\n   '-f rsrc.yaml'\n   '--filename=rsrc.json'\n   '<resource> <name>'\n   '<resource>'";
const MIXED: &str = "there is no need to specify a resource type as a separate argument when passing arguments in resource/name form (e.g. 'kubectl get resource/<resource_name>' instead of 'kubectl get resource resource/<resource_name>'";

/// A collection, or one object of it, and where.
#[derive(Debug, Clone)]
pub struct Query {
    pub resource: Resource,
    /// Empty for all namespaces, and for what has none.
    pub namespace: String,
    pub name: Option<String>,
    /// The file that names it; empty where arguments do.
    pub source: String,
}

/// One object and where it lives.
#[derive(Debug, Clone)]
pub struct Target {
    pub resource: Resource,
    pub namespace: String,
    pub name: String,
    /// The file that names it; empty where arguments do.
    pub source: String,
}

impl Target {
    /// The object's URL path.
    pub fn path(&self) -> String {
        self.resource.path(Some(&self.namespace), Some(&self.name))
    }

    /// The URL path of the collection that the object is in.
    pub fn collection(&self) -> String {
        self.resource.path(Some(&self.namespace), None)
    }

    /// `deployment.apps/web`.
    pub fn title(&self) -> String {
        format!("{}/{}", self.resource.kind_with_group(), self.name)
    }

    /// The object as it is now.
    ///
    /// # Errors
    /// When it does not exist, and what else the server says.
    pub async fn read(&self, client: &Client) -> Result<Value> {
        read(client, &Call::get(self.path()), &self.namespace).await
    }
}

/// One object in a namespace. Where it is missing because its namespace is, the error tells of that.
///
/// # Errors
/// When it does not exist, and what else the server says.
pub async fn read(client: &Client, call: &Call, namespace: &str) -> Result<Value> {
    match client.json(call).await {
        Err(error) => Err(while_reading(client, namespace, error).await),
        object => object,
    }
}

/// An error of an object in a namespace, or of the namespace where that is missing.
pub async fn while_reading(client: &Client, namespace: &str, error: Error) -> Error {
    if !error.is_not_found() || namespace.is_empty() || namespace == "default" {
        return error;
    }
    match client.json(&Call::get(format!("/api/v1/namespaces/{namespace}"))).await {
        Err(missing) if missing.is_not_found() => missing,
        _ => error,
    }
}

/// What arguments say, before the server's resources are known.
#[derive(Debug, PartialEq, Eq)]
enum Named<'a> {
    /// Resource types, each with the same names, or with none.
    Types(Vec<&'a str>, &'a [String]),
    /// `TYPE/NAME` for each.
    Pairs(Vec<(&'a str, &'a str)>),
}

fn read_arguments(arguments: &[String]) -> Result<Named<'_>> {
    let pairs = arguments.iter().filter(|argument| argument.contains('/')).count();
    if pairs > 0 {
        if pairs < arguments.len() {
            return usage(MIXED);
        }
        return arguments.iter().map(|argument| pair(argument)).collect::<Result<_>>().map(Named::Pairs);
    }
    let (first, names) = arguments.split_first().map_or(("", &[][..]), |(first, names)| (first.as_str(), names));
    Ok(Named::Types(first.split(',').collect(), names))
}

fn pair(argument: &str) -> Result<(&str, &str)> {
    match argument.split_once('/') {
        Some((kind, name)) if !kind.is_empty() && !name.is_empty() && !name.contains('/') => Ok((kind, name)),
        Some((_, name)) if name.contains('/') => {
            usage("arguments in resource/name form may not have more than one slash")
        }
        _ => usage("arguments in resource/name form must have a single resource and name"),
    }
}

/// Whether types without names and selectors stand for all objects of the type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unnamed {
    All,
    Error,
}

/// What a selection asks for. The server is only asked for its resources.
///
/// # Errors
/// Arguments and flags that do not go together, types that the server does not have, and files that cannot be read.
pub async fn queries(
    session: &mut Session,
    selection: &Selection,
    unnamed: Unnamed,
    streams: &mut Streams,
) -> Result<Vec<Query>> {
    if !selection.files.is_empty() {
        if !selection.arguments.is_empty() {
            return usage(
                "when paths, URLs, or stdin is provided as input, you may not specify resource arguments as well",
            );
        }
        let InFiles { found, failed } =
            in_files(session, (&selection.files, false), &selection.selector, streams).await?;
        Error::of(failed)?;
        return Ok(found.into_iter().map(|found| found.target.into()).collect());
    }
    if selection.arguments.is_empty() {
        return usage(if selection.selector.is_empty() { NOTHING } else { UNSELECTED });
    }
    let named = read_arguments(&selection.arguments)?;
    let selecting = !selection.selector.is_empty() || !selection.field_selector.is_empty();
    let has_names = match &named {
        Named::Pairs(_) => true,
        Named::Types(_, names) => !names.is_empty(),
    };
    if has_names && selecting {
        return match named {
            Named::Pairs(_) => usage("selectors and the all flag cannot be used when passing resource/name arguments"),
            Named::Types(..) => usage("name cannot be provided when a selector is specified"),
        };
    }
    if has_names && selection.all_namespaces {
        return usage("a resource cannot be retrieved by name across all namespaces");
    }
    if !has_names && !selecting && unnamed == Unnamed::Error {
        return usage("resource(s) were provided, but no name was specified");
    }
    of_arguments(session, &named, selection.all_namespaces).await
}

async fn of_arguments(session: &mut Session, named: &Named<'_>, everywhere: bool) -> Result<Vec<Query>> {
    let namespace = if everywhere { String::new() } else { session.namespace.clone() };
    let query = |resource: Resource, name: Option<&str>| Query {
        namespace: if resource.namespaced { namespace.clone() } else { String::new() },
        resource,
        name: name.map(str::to_owned),
        source: String::new(),
    };
    let mut found = Vec::new();
    match named {
        Named::Pairs(pairs) => {
            for (kind, name) in pairs {
                found.push(query(session.find(kind).await?, Some(name)));
            }
        }
        Named::Types(kinds, names) => {
            for kind in kinds {
                for resource in of_type(session, kind).await? {
                    if names.is_empty() {
                        found.push(query(resource, None));
                    } else {
                        found.extend(names.iter().map(|name| query(resource.clone(), Some(name))));
                    }
                }
            }
        }
    }
    Ok(found)
}

/// The resource of a type, or those of a category.
async fn of_type(session: &mut Session, kind: &str) -> Result<Vec<Resource>> {
    if session.discovery().await?.find(kind).is_none() {
        let category = session.category(kind).await?;
        if !category.is_empty() {
            return Ok(category);
        }
    }
    Ok(vec![session.find(kind).await?])
}

impl From<Target> for Query {
    fn from(target: Target) -> Self {
        let Target { resource, namespace, name, source } = target;
        Self { resource, namespace, name: Some(name), source }
    }
}

/// Reads a label selector.
///
/// # Errors
/// What is not one.
pub fn label_selector(text: &str) -> Result<Selector> {
    Selector::parse(text).map_err(|error| Error::Usage(error.to_string()))
}

/// What files hold: objects and where they live, and why others cannot be read or located.
#[derive(Debug, Default)]
pub struct InFiles {
    pub found: Vec<Found>,
    pub failed: Vec<Error>,
}

/// The objects of files that have the labels of `selector`. Each says the namespace it lives in.
///
/// # Errors
/// Files that are missing.
pub async fn in_files(
    session: &mut Session,
    (files, validated): (&Files, bool),
    selector: &str,
    streams: &mut Streams,
) -> Result<InFiles> {
    let selector = label_selector(selector)?;
    let Manifests { read, failed, .. } = manifests::read(files, validated, streams).await?;
    let mut all = InFiles { found: Vec::new(), failed };
    for manifest in read.into_iter().filter(|manifest| selector.matches_object(&manifest.object)) {
        match locate(session, &manifest).await {
            Ok(target) => {
                let mut object = manifest.object;
                if target.resource.namespaced {
                    object["metadata"]["namespace"] = target.namespace.clone().into();
                }
                all.found.push(Found { target, object });
            }
            Err(error) => all.failed.push(error),
        }
    }
    Ok(all)
}

/// The resource and the namespace of an object from a file.
///
/// # Errors
/// When the server does not have the kind, or the namespace is not the one that was given.
pub async fn locate(session: &mut Session, manifest: &Manifest) -> Result<Target> {
    let object = &manifest.object;
    let (version, kind) = (object.text("apiVersion"), object.text("kind"));
    let given = fields::namespace(object);
    let Some(resource) = session.of_kind(version, kind).await? else {
        return usage(format!(
            "resource mapping not found for name: \"{}\" namespace: \"{given}\" from \"{}\": no matches for kind \"{kind}\" in version \"{version}\"\nensure CRDs are installed first",
            fields::name(object),
            manifest.source
        ));
    };
    if resource.namespaced && session.explicit_namespace && !given.is_empty() && given != session.namespace {
        return usage(format!(
            "the namespace from the provided object \"{given}\" does not match the namespace \"{}\". You must pass '--namespace={given}' to perform this operation.",
            session.namespace
        ));
    }
    let namespace = match (resource.namespaced, given.is_empty()) {
        (false, _) => String::new(),
        (true, true) => session.namespace.clone(),
        (true, false) => given.to_owned(),
    };
    Ok(Target { resource, namespace, name: fields::name(object).to_owned(), source: manifest.source.clone() })
}

/// An object that the server gave.
#[derive(Debug, Clone)]
pub struct Found {
    pub target: Target,
    pub object: Value,
}

/// Asks for what queries name: each object that there is, and an error for each that there is not.
pub async fn visit(client: &Client, queries: &[Query], selection: &Selection) -> (Vec<Found>, Vec<Error>) {
    let (mut found, mut failed) = (Vec::new(), Vec::new());
    for query in queries {
        match one(client, query, selection).await {
            Ok(objects) => found.extend(objects),
            Err(error) => failed.push(error),
        }
    }
    (found, failed)
}

/// An error of a list, with what was asked for.
pub fn while_selecting(error: Error, resource: &Resource, selection: &Selection) -> Error {
    let Error::Server(mut status) = error else { return error };
    if matches!(status.reason.as_str(), "BadRequest" | "NotFound") {
        let what = resource.described();
        let (labels, fields) = (&selection.selector, &selection.field_selector);
        let doing = if labels.is_empty() && fields.is_empty() {
            format!("Unable to list {what}")
        } else {
            format!("Unable to find {what} that match label selector {labels:?}, field selector {fields:?}")
        };
        status.message = format!("{doing}: {}", status.message);
    }
    Error::Server(status)
}

async fn one(client: &Client, query: &Query, selection: &Selection) -> Result<Vec<Found>> {
    let call = Call::get(query.resource.path(Some(&query.namespace), query.name.as_deref()));
    let objects = match &query.name {
        Some(_) => vec![read(client, &call, &query.namespace).await?],
        None => {
            let call =
                call.query("labelSelector", &selection.selector).query("fieldSelector", &selection.field_selector);
            let listed = client.list(&call, selection.chunk_size).await;
            listed.map_err(|error| while_selecting(error, &query.resource, selection))?
        }
    };
    Ok(objects.into_iter().map(|object| of_item(query, object)).collect())
}

/// An object with the kind that the items of lists leave out.
fn of_item(query: &Query, mut object: Value) -> Found {
    object["apiVersion"] = query.resource.api_version().into();
    object["kind"] = query.resource.kind.clone().into();
    let target = Target {
        resource: query.resource.clone(),
        namespace: fields::namespace(&object).to_owned(),
        name: fields::name(&object).to_owned(),
        source: query.source.clone(),
    };
    Found { target, object }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn arguments_are_types_with_names_or_pairs() {
        let (types, pairs) = (words("pods,svc a b"), words("pod/a deploy/b"));
        assert_eq!(read_arguments(&types).unwrap(), Named::Types(vec!["pods", "svc"], &types[1..]));
        assert_eq!(read_arguments(&pairs).unwrap(), Named::Pairs(vec![("pod", "a"), ("deploy", "b")]));
        assert_eq!(read_arguments(&words("pod/a b")).unwrap_err().to_string(), MIXED);
        assert!(read_arguments(&words("pod/")).is_err());
        assert!(read_arguments(&words("a/b/c")).is_err());
    }
}
