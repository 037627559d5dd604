//! `create`: objects that must not exist yet, from files or from flags.

mod binding;
mod config_map;
mod cron_job;
mod deployment;
mod disruption_budget;
mod ingress;
mod job;
mod namespace;
mod priority_class;
mod quota;
mod role;
mod secret;
mod service;
mod service_account;
mod token;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::apply::{annotated, field_validation};
use crate::api::Call;
use crate::error::{Error, Result, usage, wrong_call};
use crate::fields::{self, Fields};
use crate::options::{Changing, DryRun, Files};
use crate::printers::output::{Format, Printer};
use crate::resources::{self, Found, InFiles, Target};
use crate::session::Session;
use crate::streams::Streams;

/// How objects are made.
#[derive(Debug, Args)]
pub struct Making {
    #[command(flatten)]
    changing: Changing,
    /// Keep the object in its annotation, for apply
    #[arg(long)]
    save_config: bool,
    /// The manager of the fields
    #[arg(long, default_value = "kubectl-create")]
    field_manager: String,
    /// strict, warn or ignore: what is done about fields that the server does not know
    #[arg(long, default_value = "strict", num_args = 0..=1, require_equals = true, default_missing_value = "strict")]
    validate: String,
}

#[derive(Debug, Args)]
#[command(subcommand_precedence_over_arg = true)]
pub struct Options {
    #[command(subcommand)]
    generator: Option<Generator>,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    making: Making,
    /// Label query of the objects in the files
    #[arg(long, short = 'l', default_value = "", hide_default_value = true)]
    selector: String,
    /// A path of the server to post the file to
    #[arg(long)]
    raw: Option<String>,
}

/// A name, and how the object is made.
#[derive(Debug, Args)]
pub struct Named {
    names: Vec<String>,
    #[command(flatten)]
    making: Making,
}

impl Named {
    /// The only name.
    fn name(&self, command: &str) -> Result<&str> {
        match self.names.as_slice() {
            [name] => Ok(name),
            names => {
                let command = format!("kubectl create {command}");
                wrong_call(&command, format!("exactly one NAME is required, got {}", names.len()))
            }
        }
    }
}

#[derive(Debug, Subcommand)]
enum Generator {
    /// Create a cluster role
    #[command(name = "clusterrole")]
    ClusterRole(role::Options),
    /// Create a cluster role binding for a particular cluster role
    #[command(name = "clusterrolebinding")]
    ClusterRoleBinding(binding::Options),
    /// Create a config map from a local file, directory or literal value
    #[command(name = "configmap", alias = "cm")]
    ConfigMap(config_map::Options),
    /// Create a cron job with the specified name
    #[command(name = "cronjob", alias = "cj")]
    CronJob(cron_job::Options),
    /// Create a deployment with the specified name
    #[command(alias = "deploy")]
    Deployment(deployment::Options),
    /// Create an ingress with the specified name
    #[command(alias = "ing")]
    Ingress(ingress::Options),
    /// Create a job with the specified name
    Job(job::Options),
    /// Create a namespace with the specified name
    #[command(alias = "ns")]
    Namespace(namespace::Options),
    /// Create a pod disruption budget with the specified name
    #[command(name = "poddisruptionbudget", alias = "pdb")]
    DisruptionBudget(disruption_budget::Options),
    /// Create a priority class with the specified name
    #[command(name = "priorityclass", alias = "pc")]
    PriorityClass(priority_class::Options),
    /// Create a quota with the specified name
    #[command(alias = "resourcequota")]
    Quota(quota::Options),
    /// Create a role with single rule
    Role(role::Options),
    /// Create a role binding for a particular role or cluster role
    #[command(name = "rolebinding")]
    RoleBinding(binding::Options),
    /// Create a secret using a specified subcommand
    Secret(secret::Options),
    /// Create a service using a specified subcommand
    #[command(alias = "svc")]
    Service(service::Options),
    /// Create a service account with the specified name
    #[command(name = "serviceaccount", alias = "sa")]
    ServiceAccount(service_account::Options),
    /// Request a service account token
    Token(token::Options),
}

/// An object made of flags, and what an error says before the server's words; nothing where those are told as they are.
struct Made<'a> {
    object: Value,
    making: &'a Making,
    failed: &'static str,
}

pub async fn run(options: Options, session: &mut Session, streams: &mut Streams) -> Result<()> {
    let made = match &options.generator {
        None => return of_files(&options, session, streams).await,
        Some(Generator::Token(options)) => return token::run(options, session, streams).await,
        Some(Generator::Job(options)) => job::make(options, session).await?,
        Some(Generator::Role(options)) => role::make(options, "Role", session).await?,
        Some(Generator::ClusterRole(options)) => role::make(options, "ClusterRole", session).await?,
        Some(Generator::RoleBinding(options)) => binding::make(options, "RoleBinding")?,
        Some(Generator::ClusterRoleBinding(options)) => binding::make(options, "ClusterRoleBinding")?,
        Some(Generator::ConfigMap(options)) => config_map::make(options)?,
        Some(Generator::CronJob(options)) => cron_job::make(options)?,
        Some(Generator::Deployment(options)) => deployment::make(options)?,
        Some(Generator::Ingress(options)) => ingress::make(options)?,
        Some(Generator::Namespace(options)) => namespace::make(options)?,
        Some(Generator::DisruptionBudget(options)) => disruption_budget::make(options)?,
        Some(Generator::PriorityClass(options)) => priority_class::make(options)?,
        Some(Generator::Quota(options)) => quota::make(options)?,
        Some(Generator::Secret(options)) => secret::make(options)?,
        Some(Generator::Service(options)) => service::make(options)?,
        Some(Generator::ServiceAccount(options)) => service_account::make(options)?,
    };
    of_flags(made, session, streams).await
}

/// Makes an object of flags.
async fn of_flags(made: Made<'_>, session: &mut Session, streams: &mut Streams) -> Result<()> {
    let Made { mut object, making, failed } = made;
    let mut printer = printer(making)?;
    let (version, kind) = (object.text("apiVersion").to_owned(), object.text("kind").to_owned());
    let Some(resource) = session.of_kind(&version, &kind).await? else {
        return usage(format!("no matches for kind \"{kind}\" in version \"{version}\""));
    };
    if resource.namespaced && session.explicit_namespace {
        object["metadata"]["namespace"] = session.namespace.clone().into();
    }
    let namespace = if resource.namespaced { session.namespace.clone() } else { String::new() };
    let target = Target { resource, namespace, name: fields::name(&object).to_owned(), source: String::new() };
    let found = Found { target, object };
    let made = post(making, &found, session).await.map_err(|error| match failed {
        "" => error,
        failed => Error::Usage(format!("{failed}{error}")),
    })?;
    tell(making, &found.target, made, &mut printer, streams)
}

async fn of_files(options: &Options, session: &mut Session, streams: &mut Streams) -> Result<()> {
    let making = &options.making;
    if options.files.is_empty() {
        return usage("must specify one of -f and -k");
    }
    let validated = field_validation(&making.validate)? != "Ignore";
    let mut printer = printer(making)?;
    let InFiles { found, mut failed } =
        resources::in_files(session, (&options.files, validated), &options.selector, streams).await?;
    if found.is_empty() && failed.is_empty() {
        return usage("no objects passed to create");
    }
    if let (Some(path), [found]) = (&options.raw, found.as_slice()) {
        let answer = session.client.bytes(&Call::post(path, &found.object)).await?;
        return Ok(streams.out.write_all(&answer)?);
    }
    for found in found {
        match post(making, &found, session).await {
            Ok(made) => tell(making, &found.target, made, &mut printer, streams)?,
            Err(error) => failed.push(error.while_doing("creating", &found.target.source)),
        }
    }
    Error::of(failed)
}

fn printer(making: &Making) -> Result<Option<Printer>> {
    let format = Format::of_objects(&making.changing.output, &making.changing.template)?;
    Ok(format.map(|format| Printer::new(format, making.changing.show_managed_fields)))
}

async fn post(making: &Making, found: &Found, session: &Session) -> Result<Value> {
    let object = if making.save_config { annotated(&found.object) } else { found.object.clone() };
    let dry_run = making.changing.dry_run;
    if dry_run == DryRun::Client {
        return Ok(object);
    }
    let call = Call::post(found.target.collection(), &object)
        .query("dryRun", dry_run.query())
        .query("fieldManager", &making.field_manager)
        .query("fieldValidation", field_validation(&making.validate)?);
    session.client.json(&call).await
}

fn tell(
    making: &Making,
    target: &Target,
    made: Value,
    printer: &mut Option<Printer>,
    streams: &mut Streams,
) -> Result<()> {
    let text = match printer {
        Some(printer) => printer.print(made)?,
        None => {
            let (kind, name) = (target.resource.kind_with_group(), fields::name(&made));
            format!("{kind}/{name} created{}\n", making.changing.dry_run.suffix())
        }
    };
    Ok(write!(streams.out, "{text}")?)
}

/// An object that has a name and nothing else yet.
fn named(version: &str, kind: &str, name: &str) -> Value {
    json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}})
}
