//! `get`: one or many objects, as the server's table, whole, by name or by template; once or as they change.

use clap::Args;
use serde_json::{Value, json};

use crate::api::{self, Call};
use crate::discovery::Resource;
use crate::error::{Error, Result, usage};
use crate::manifests;
use crate::options::Selection;
use crate::printers::jsonpath::Template;
use crate::printers::{columns, table, tree};
use crate::session::Session;
use crate::streams::Streams;

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    selection: Selection,
    /// wide, yaml, json, name or jsonpath=TEMPLATE
    #[arg(long, short)]
    output: Option<String>,
    /// After listing, watch for changes
    #[arg(long, short)]
    watch: bool,
    /// Watch for changes without listing first
    #[arg(long)]
    watch_only: bool,
    /// No headings
    #[arg(long)]
    no_headers: bool,
    /// Labels as the last column
    #[arg(long)]
    show_labels: bool,
    /// Keep metadata.managedFields
    #[arg(long)]
    show_managed_fields: bool,
    /// Say nothing of objects that do not exist
    #[arg(long)]
    ignore_not_found: bool,
    /// Print a path of the server as it is
    #[arg(long)]
    raw: Option<String>,
}

enum Output {
    Table { wide: bool },
    Yaml,
    Json,
    Name,
    Template(Template),
}

/// One request: a collection or one object, and where.
struct Query {
    resource: Resource,
    namespace: Option<String>,
    name: Option<String>,
}

pub async fn run(options: Options, session: &mut Session, streams: &mut Streams) -> Result<()> {
    if let Some(path) = &options.raw {
        let answer = api::get(&session.client, Call::get(path)).await?;
        return Ok(writeln!(streams.out, "{answer}")?);
    }
    let output = output(options.output.as_deref())?;
    let queries = complete(&options, session).await?;
    if options.watch || options.watch_only {
        let [query] = queries.as_slice() else {
            return usage("you may only specify a single resource type");
        };
        return watch(&options, &output, query, session, streams).await;
    }
    match output {
        Output::Table { wide } => tables(&options, wide, &queries, session, streams).await,
        _ => objects(&options, &output, &queries, session, streams).await,
    }
}

fn output(text: Option<&str>) -> Result<Output> {
    Ok(match text {
        None => Output::Table { wide: false },
        Some("wide") => Output::Table { wide: true },
        Some("yaml") => Output::Yaml,
        Some("json") => Output::Json,
        Some("name") => Output::Name,
        Some(text) => match text.strip_prefix("jsonpath=") {
            Some(template) => {
                Output::Template(Template::parse(template).map_err(|error| Error::Usage(error.to_string()))?)
            }
            None => {
                return usage(format!(
                    "unable to match a printer suitable for the output format \"{text}\", allowed formats are: json,jsonpath,name,wide,yaml"
                ));
            }
        },
    })
}

async fn complete(options: &Options, session: &mut Session) -> Result<Vec<Query>> {
    let mut queries = Vec::new();
    if !options.selection.filename.is_empty() {
        for manifest in manifests::read(&options.selection.filename, options.selection.recursive)? {
            let target = super::locate(session, &manifest).await?;
            queries.push(Query {
                resource: target.resource,
                namespace: Some(target.namespace),
                name: Some(target.name),
            });
        }
        return Ok(queries);
    }
    for (resource, names) in super::named(session, &options.selection.arguments).await? {
        let all = options.selection.all_namespaces;
        if all && !names.is_empty() {
            return usage("a resource cannot be retrieved by name across all namespaces");
        }
        let namespace = (!all).then(|| session.namespace.clone());
        if names.is_empty() {
            queries.push(Query { resource, namespace, name: None });
        } else {
            queries.extend(names.into_iter().map(|name| Query {
                resource: resource.clone(),
                namespace: namespace.clone(),
                name: Some(name),
            }));
        }
    }
    Ok(queries)
}

fn call(options: &Options, query: &Query) -> Call {
    let call = Call::get(query.resource.path(query.namespace.as_deref(), query.name.as_deref()));
    if query.name.is_some() {
        return call;
    }
    call.query("labelSelector", &options.selection.selector).query("fieldSelector", &options.selection.field_selector)
}

fn shown(options: &Options, wide: bool, query: &Query, prefix: bool) -> table::Shown {
    table::Shown {
        wide,
        no_headers: options.no_headers,
        with_namespace: options.selection.all_namespaces && query.resource.namespaced,
        show_labels: options.show_labels,
        prefix: prefix.then(|| query.resource.singular_with_group()),
    }
}

async fn tables(
    options: &Options,
    wide: bool,
    queries: &[Query],
    session: &Session,
    streams: &mut Streams,
) -> Result<()> {
    let many = queries.iter().any(|query| query.resource != queries[0].resource);
    let (mut failed, mut merged) = (None, Vec::<(&Query, Value)>::new());
    for query in queries {
        let answer = match api::get(&session.client, call(options, query).accept(TABLE)).await {
            Ok(answer) => answer,
            Err(error) if options.ignore_not_found && error.is_not_found() => continue,
            Err(error) => {
                failed = keep_going(failed, error, streams)?;
                continue;
            }
        };
        match merged.last_mut().filter(|(last, _)| last.resource == query.resource) {
            Some((_, table)) => append(table, answer),
            None => merged.push((query, answer)),
        }
    }
    merged.retain(|(_, table)| table["rows"].as_array().is_some_and(|rows| !rows.is_empty()));
    for (index, (query, table)) in merged.iter().enumerate() {
        let gap = if index == 0 { "" } else { "\n" };
        write!(streams.out, "{gap}{}", table::print(table, &shown(options, wide, query, many)))?;
    }
    if merged.is_empty() && failed.is_none() && !options.ignore_not_found {
        nothing(options, queries, session, streams)?;
    }
    failed.map_or(Ok(()), Err)
}

/// Tells an error and goes on to the next object; the command fails in the end.
fn keep_going(failed: Option<Error>, error: Error, streams: &mut Streams) -> Result<Option<Error>> {
    if let Some(earlier) = failed {
        writeln!(streams.err, "{earlier}")?;
    }
    Ok(Some(error))
}

fn append(table: &mut Value, more: Value) {
    if let (Some(rows), Some(more)) = (table["rows"].as_array_mut(), more["rows"].as_array()) {
        rows.extend(more.iter().cloned());
    }
}

fn nothing(options: &Options, queries: &[Query], session: &Session, streams: &mut Streams) -> Result<()> {
    let namespaced = queries.iter().any(|query| query.resource.namespaced);
    if namespaced && !options.selection.all_namespaces {
        writeln!(streams.err, "No resources found in {} namespace.", session.namespace)?;
    } else {
        writeln!(streams.err, "No resources found")?;
    }
    Ok(())
}

async fn objects(
    options: &Options,
    output: &Output,
    queries: &[Query],
    session: &Session,
    streams: &mut Streams,
) -> Result<()> {
    let (mut found, mut failed) = (Vec::new(), None);
    for query in queries {
        match api::get(&session.client, call(options, query)).await {
            Ok(answer) => found.extend(items(answer, query)),
            Err(error) if options.ignore_not_found && error.is_not_found() => {}
            Err(error) => failed = keep_going(failed, error, streams)?,
        }
    }
    let single = matches!(queries, [Query { name: Some(_), .. }]);
    if let Output::Name = output {
        for (query, object) in &found {
            writeln!(streams.out, "{}", title(query, object))?;
        }
    } else if !(single && found.is_empty()) {
        let mut found: Vec<Value> = found.into_iter().map(|(_, object)| object).collect();
        let value = if single {
            found.remove(0)
        } else {
            json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": found})
        };
        write_object(options, output, &value, streams)?;
    }
    failed.map_or(Ok(()), Err)
}

/// The objects of an answer; those of a list get their kind, which lists leave out.
fn items(mut answer: Value, query: &Query) -> Vec<(&Query, Value)> {
    if query.name.is_some() {
        return vec![(query, answer)];
    }
    let Some(Value::Array(items)) = answer.get_mut("items").map(Value::take) else {
        return Vec::new();
    };
    let typed = |mut item: Value| {
        item["apiVersion"] = query.resource.api_version().into();
        item["kind"] = query.resource.kind.clone().into();
        (query, item)
    };
    items.into_iter().map(typed).collect()
}

fn title(query: &Query, object: &Value) -> String {
    format!("{}/{}", query.resource.singular_with_group(), object["metadata"]["name"].as_str().unwrap_or_default())
}

fn write_object(options: &Options, output: &Output, value: &Value, streams: &mut Streams) -> Result<()> {
    let value = tree::tidy(value, options.show_managed_fields);
    let text = match output {
        Output::Json => tree::json(&value),
        Output::Template(template) => template.render(&value),
        _ => tree::yaml(&value),
    };
    Ok(write!(streams.out, "{text}")?)
}

async fn watch(
    options: &Options,
    output: &Output,
    query: &Query,
    session: &Session,
    streams: &mut Streams,
) -> Result<()> {
    let accept = if matches!(output, Output::Table { .. }) { TABLE } else { "application/json" };
    // One object is watched as a collection of one.
    let selector = match &query.name {
        Some(name) => format!("metadata.name={name}"),
        None => options.selection.field_selector.clone(),
    };
    let request = || {
        Call::get(query.resource.path(query.namespace.as_deref(), None))
            .accept(accept)
            .query("labelSelector", &options.selection.selector)
            .query("fieldSelector", &selector)
    };
    let list = api::get(&session.client, request()).await?;
    let mut printing = Printing { options, output, query, columns: None, header: true };
    if !options.watch_only {
        printing.list(&list, streams)?;
    }
    let version = list["metadata"]["resourceVersion"].as_str().unwrap_or_default();
    let call = request().query("watch", "true").query("resourceVersion", version);
    let mut events = api::stream(&session.client, call).await?;
    while let Some(event) = api::next_event(&mut events).await? {
        match event["type"].as_str() {
            Some("ERROR") => return usage(event["object"]["message"].as_str().unwrap_or("watch failed")),
            Some("BOOKMARK") => {}
            _ => printing.one(&event["object"], streams)?,
        }
        streams.out.flush()?;
    }
    Ok(())
}

struct Printing<'a> {
    options: &'a Options,
    output: &'a Output,
    query: &'a Query,
    columns: Option<Vec<(usize, String)>>,
    header: bool,
}

impl Printing<'_> {
    fn list(&mut self, list: &Value, streams: &mut Streams) -> Result<()> {
        if matches!(self.output, Output::Table { .. }) {
            if list["rows"].as_array().is_some_and(|rows| !rows.is_empty()) {
                self.one(list, streams)?;
            }
        } else {
            for item in list["items"].as_array().into_iter().flatten() {
                self.one(item, streams)?;
            }
        }
        Ok(streams.out.flush()?)
    }

    fn one(&mut self, object: &Value, streams: &mut Streams) -> Result<()> {
        match self.output {
            Output::Table { wide } => self.rows(object, *wide, streams),
            Output::Name => Ok(writeln!(streams.out, "{}", title(self.query, object))?),
            _ => write_object(self.options, self.output, object, streams),
        }
    }

    fn rows(&mut self, table: &Value, wide: bool, streams: &mut Streams) -> Result<()> {
        let shown = shown(self.options, wide, self.query, false);
        if let Some(definitions) = table["columnDefinitions"].as_array().filter(|list| !list.is_empty()) {
            self.columns = Some(table::columns(definitions, &shown));
        }
        let (Some(columns), Some(rows)) = (&self.columns, table["rows"].as_array()) else {
            return Ok(());
        };
        let text = table::lines(columns, rows, &shown, self.header);
        self.header = false;
        Ok(write!(streams.out, "{}", columns::align(&text, columns::TABLE))?)
    }
}
