//! `explain`: the fields of a resource, from the server's OpenAPI.

mod schema;
mod wrap;

use clap::Args;
use serde_json::Value;

use crate::api::Call;
use crate::discovery::Resource;
use crate::error::{Error, Result, usage};
use crate::fields::Fields;
use crate::session::Session;
use crate::streams::Streams;
use schema::Document;

#[derive(Debug, Args)]
pub struct Options {
    /// RESOURCE[.FIELD...]
    arguments: Vec<String>,
    /// All fields below, by name only
    #[arg(long)]
    recursive: bool,
    /// The group and version of the resource
    #[arg(long, default_value = "", hide_default_value = true)]
    api_version: String,
    /// plaintext
    #[arg(long, default_value = "plaintext")]
    output: String,
}

pub async fn run(options: Options, session: &mut Session, streams: &mut Streams) -> Result<()> {
    let argument = match options.arguments.as_slice() {
        [argument] => argument,
        [] => {
            return usage(
                "You must specify the type of resource to explain. Use \"kubectl api-resources\" for a complete list of supported resources.",
            );
        }
        _ => return usage("We accept only this format: explain RESOURCE"),
    };
    if options.output != "plaintext" {
        return usage(format!("unrecognized format: {}", options.output));
    }
    let (resource, path) = find(argument, &options.api_version, session).await?;
    let document = document(&resource, session).await?;
    let document = Document(&document);
    if !resource.group.is_empty() {
        writeln!(streams.out, "GROUP:      {}", resource.group)?;
    }
    writeln!(streams.out, "KIND:       {}\nVERSION:    {}\n", resource.kind, resource.version)?;
    let Some(root) = document.of_kind(&resource.group, &resource.version, &resource.kind) else {
        let (group, version, kind) = (&resource.group, &resource.version, &resource.kind);
        return usage(format!("GVK {group}/{version}, Kind={kind} not found in OpenAPI schema"));
    };
    match document.follow(root, &path) {
        Some(field) => {
            let text = document.print(field, path.last().map(String::as_str), options.recursive);
            Ok(writeln!(streams.out, "{text}")?)
        }
        None => usage(format!("field {:?} does not exist", path.last().map_or("", String::as_str))),
    }
}

/// The resource that an argument begins with, and the fields behind it.
async fn find(argument: &str, api_version: &str, session: &mut Session) -> Result<(Resource, Vec<String>)> {
    let parts: Vec<&str> = argument.split('.').collect();
    let fields = |from: usize| parts[from..].iter().map(|part| (*part).to_owned()).collect::<Vec<_>>();
    if !api_version.is_empty() {
        let plain = session.find(parts[0]).await?;
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        return match session.of_kind(api_version, &plain.kind).await? {
            Some(resource) => Ok((resource, fields(1))),
            None => usage(format!("couldn't find resource for \"{group}/{version}, Resource={}\"", plain.plural)),
        };
    }
    // The name may have its version and group behind it.
    let discovery = session.discovery().await?;
    for length in (2..=parts.len()).rev() {
        if let Some(resource) = discovery.find(&parts[..length].join(".")).filter(|found| !found.group.is_empty()) {
            let exact = parts[1..length].join(".");
            if exact == resource.group || exact == format!("{}.{}", resource.version, resource.group) {
                return Ok((resource.clone(), fields(length)));
            }
        }
    }
    match session.find(parts[0]).await {
        Ok(resource) => Ok((resource, fields(1))),
        Err(Error::Usage(message)) => Err(Error::Plain(message)),
        Err(error) => Err(error),
    }
}

/// The OpenAPI document of a resource's group and version.
async fn document(resource: &Resource, session: &Session) -> Result<Value> {
    let index = session.client.json(&Call::get("/openapi/v3")).await?;
    let root = if resource.group.is_empty() { "api" } else { "apis" };
    let path = format!("{root}/{}", resource.api_version());
    match index["paths"][&path].text("serverRelativeURL") {
        "" => usage(format!("couldn't find resource for {:?}", path)),
        url => session.client.json(&Call::get(url)).await,
    }
}
