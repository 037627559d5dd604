//! The commands, one per file, and what they share: finding the objects that the arguments name.

pub mod apply;
pub mod config;
pub mod create;
pub mod delete;
pub mod exec;
pub mod get;
pub mod logs;
pub mod port_forward;
pub mod rollout;
pub mod scale;
pub mod version;
pub mod wait;

use serde_json::Value;

use crate::api::{self, Call, Target};
use crate::discovery::Resource;
use crate::error::{Error, Result, usage};
use crate::manifests::{self, Manifest};
use crate::options::{Cli, Command, Selection};
use crate::session::Session;
use crate::streams::Streams;

/// Runs the command that was given.
pub async fn run(cli: Cli, streams: &mut Streams) -> Result<()> {
    if let Command::Config(options) = &cli.command {
        return config::run(options, &cli.globals, streams);
    }
    if let Command::Version(options) = &cli.command {
        return version::run(options, &cli.globals, streams).await;
    }
    let mut session = Session::open(&cli.globals).await?;
    match cli.command {
        Command::Get(options) => get::run(options, &mut session, streams).await,
        Command::Create(options) => create::run(options, &mut session, streams).await,
        Command::Apply(options) => apply::run(options, &mut session, streams).await,
        Command::Delete(options) => delete::run(options, &mut session, streams).await,
        Command::Scale(options) => scale::run(options, &mut session, streams).await,
        Command::Rollout(options) => rollout::run(options, &mut session, streams).await,
        Command::Wait(options) => wait::run(options, &mut session, streams).await,
        Command::Logs(options) => logs::run(options, &mut session, streams).await,
        Command::Exec(options) => exec::run(options, &mut session, streams).await,
        Command::PortForward(options) => port_forward::run(options, &mut session, streams).await,
        Command::Config(_) | Command::Version(_) => Ok(()),
    }
}

/// The resources that arguments name, each with the objects' names, or none for all of them.
pub async fn named(session: &mut Session, arguments: &[String]) -> Result<Vec<(Resource, Vec<String>)>> {
    let discovery = session.discovery().await?;
    let Some((first, names)) = arguments.split_first() else {
        return usage("You must specify the type of resource.");
    };
    let mut found: Vec<(Resource, Vec<String>)> = Vec::new();
    if first.contains('/') {
        for argument in arguments {
            let Some((kind, name)) = argument.split_once('/') else {
                return usage(
                    "there is no need to specify a resource type as a separate argument when passing arguments in resource/name form",
                );
            };
            found.push((discovery.find(kind)?.clone(), vec![name.to_owned()]));
        }
        return Ok(found);
    }
    for kind in first.split(',') {
        let category = discovery.category(kind);
        if category.is_empty() {
            found.push((discovery.find(kind)?.clone(), names.to_vec()));
        } else {
            found.extend(category.into_iter().map(|resource| (resource.clone(), names.to_vec())));
        }
    }
    Ok(found)
}

/// The resource and the namespace of an object from a file.
pub async fn locate(session: &mut Session, manifest: &Manifest) -> Result<Target> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (version, kind) = (text(&manifest.object["apiVersion"]), text(&manifest.object["kind"]));
    if session.discovery().await?.of_kind(&version, &kind).is_none() {
        session.forget_discovery();
    }
    let Some(resource) = session.discovery().await?.of_kind(&version, &kind).cloned() else {
        return usage(format!(
            "resource mapping not found for name: \"{}\" namespace: \"{}\" from \"{}\": no matches for kind \"{kind}\" in version \"{version}\"\nensure CRDs are installed first",
            text(&manifest.object["metadata"]["name"]),
            text(&manifest.object["metadata"]["namespace"]),
            manifest.source
        ));
    };
    let given = text(&manifest.object["metadata"]["namespace"]);
    if resource.namespaced && session.explicit_namespace && !given.is_empty() && given != session.namespace {
        return usage(format!(
            "the namespace from the provided object \"{given}\" does not match the namespace \"{}\". You must pass '--namespace={given}' to perform this operation.",
            session.namespace
        ));
    }
    let namespace = match (resource.namespaced, given.is_empty()) {
        (false, _) => String::new(),
        (true, true) => session.namespace.clone(),
        (true, false) => given,
    };
    Ok(Target { resource, namespace, name: text(&manifest.object["metadata"]["name"]) })
}

/// The objects that a selection names; those of a label selector are asked for.
pub async fn targets(session: &mut Session, selection: &Selection, all: bool) -> Result<Vec<Target>> {
    let mut targets = Vec::new();
    if !selection.filename.is_empty() {
        for manifest in manifests::read(&selection.filename, selection.recursive)? {
            targets.push(locate(session, &manifest).await?);
        }
        return Ok(targets);
    }
    for (resource, names) in named(session, &selection.arguments).await? {
        if names.is_empty() {
            if selection.selector.is_empty() && selection.field_selector.is_empty() && !all {
                return usage("resource(s) were provided, but no name was specified");
            }
            targets.extend(list(session, &resource, selection).await?);
            continue;
        }
        let namespace = session.namespace.clone();
        targets.extend(names.into_iter().map(|name| Target {
            resource: resource.clone(),
            namespace: namespace.clone(),
            name,
        }));
    }
    Ok(targets)
}

async fn list(session: &Session, resource: &Resource, selection: &Selection) -> Result<Vec<Target>> {
    let namespace = (!selection.all_namespaces).then_some(session.namespace.as_str());
    let call = Call::get(resource.path(namespace, None))
        .query("labelSelector", &selection.selector)
        .query("fieldSelector", &selection.field_selector);
    let list = api::get(&session.client, call).await?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let items = list["items"].as_array().map_or(&[][..], Vec::as_slice);
    let target = |item: &Value| Target {
        resource: resource.clone(),
        namespace: text(&item["metadata"]["namespace"]),
        name: text(&item["metadata"]["name"]),
    };
    Ok(items.iter().map(target).collect())
}

/// The one pod that `x`, `pod/x` or `deployment/x` stands for.
pub async fn pod_of(session: &mut Session, argument: &str) -> Result<String> {
    let Some((kind, name)) = argument.split_once('/') else {
        return Ok(argument.to_owned());
    };
    let resource = session.discovery().await?.find(kind)?.clone();
    if resource.kind == "Pod" {
        return Ok(name.to_owned());
    }
    let target = Target { resource, namespace: session.namespace.clone(), name: name.to_owned() };
    let object = target.read(&session.client).await?;
    let selector = &object["spec"]["selector"];
    let labels = selector.get("matchLabels").unwrap_or(selector);
    if labels.as_object().is_none_or(serde_json::Map::is_empty) {
        return usage(format!("cannot attach to {}: it selects no pods", target.title()));
    }
    let pods = session.discovery().await?.find("pods")?.clone();
    let selection = Selection { selector: crate::printers::table::labels(labels, ","), ..Selection::default() };
    match list(session, &pods, &selection).await?.first() {
        Some(pod) => Ok(pod.name.clone()),
        None => Err(Error::Usage(format!("no pods of {} were found", target.title()))),
    }
}
