//! `get`: one or many objects, as the server's table, whole, by name or by template; once or as they change.

mod watch;

use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::api::{Call, Client};
use crate::error::{Error, Result, usage};
use crate::fields::Fields;
use crate::interrupt;
use crate::options::Selection;
use crate::printers::jsonpath::Template;
use crate::printers::output::{Output, Printer};
use crate::printers::{age, columns, table};
use crate::resources::{self, Query, Unnamed};
use crate::session::Session;
use crate::streams::Streams;

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
/// How many values Go sorts by insertion.
const INSERTED: usize = 12;
const WHAT: &str = "You must specify the type of resource to get. Use \"kubectl api-resources\" for a complete list of supported resources.\n";

#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    selection: Selection,
    /// wide, yaml, json, name, jsonpath=TEMPLATE, custom-columns=...
    #[arg(long, short, default_value = "", hide_default_value = true)]
    output: String,
    /// Template to use with -o
    #[arg(long, default_value = "", hide_default_value = true)]
    template: String,
    /// After listing, watch for changes
    #[arg(long, short)]
    watch: bool,
    /// Watch for changes without listing first
    #[arg(long)]
    watch_only: bool,
    /// Output watch event objects when --watch or --watch-only is used
    #[arg(long)]
    output_watch_events: bool,
    /// No headings
    #[arg(long)]
    no_headers: bool,
    /// Labels as the last column
    #[arg(long)]
    show_labels: bool,
    /// Labels that are columns
    #[arg(long, short = 'L', value_delimiter = ',')]
    label_columns: Vec<String>,
    /// Names with their kind
    #[arg(long)]
    show_kind: bool,
    /// Keep metadata.managedFields
    #[arg(long)]
    show_managed_fields: bool,
    /// Say nothing of objects that do not exist
    #[arg(long)]
    ignore_not_found: bool,
    /// Sort by what a path leads to
    #[arg(long, default_value = "", hide_default_value = true)]
    sort_by: String,
    /// The subresource to get
    #[arg(long, default_value = "", hide_default_value = true)]
    subresource: String,
    /// Print a path of the server as it is
    #[arg(long)]
    raw: Option<String>,
}

/// What is asked for, and how it is shown.
struct Plan {
    queries: Vec<Query>,
    output: Output,
    sort: Option<Template>,
}

pub async fn run(options: Options, session: &mut Session, streams: &mut Streams) -> Result<()> {
    if let Some(path) = &options.raw {
        let answer = session.client.bytes(&Call::get(path).accept("application/json, */*")).await?;
        return Ok(streams.out.write_all(&answer)?);
    }
    let plan = complete(&options, session, streams).await?;
    if options.watch || options.watch_only {
        return interrupt::until(watch::run(&options, plan, session, streams)).await;
    }
    match plan.output {
        Output::Table { wide } => tables(&options, &plan, wide, session, streams).await,
        Output::Format(_) => objects(&options, plan, session, streams).await,
    }
}

async fn complete(options: &Options, session: &mut Session, streams: &mut Streams) -> Result<Plan> {
    let selection = &options.selection;
    let output = Output::parse(&options.output, &options.template, !options.no_headers)?;
    if selection.arguments.is_empty() && selection.files.is_empty() {
        writeln!(streams.err, "{WHAT}")?;
        return usage(
            "Required resource not specified.\nUse \"kubectl explain <resource>\" for a detailed description of that resource (e.g. kubectl explain pods).\nSee 'kubectl get -h' for help and examples",
        );
    }
    if options.output_watch_events && !options.watch && !options.watch_only {
        return usage("--output-watch-events option can only be used with --watch or --watch-only");
    }
    let sort = match options.sort_by.as_str() {
        "" => None,
        path => Some(Template::relaxed(path).map_err(|error| Error::Usage(error.to_string()))?),
    };
    let queries = resources::queries(session, selection, Unnamed::All, streams).await?;
    Ok(Plan { queries, output, sort })
}

fn call(options: &Options, query: &Query) -> Call {
    let mut path = query.resource.path(Some(&query.namespace), query.name.as_deref());
    if !options.subresource.is_empty() {
        path = format!("{path}/{}", options.subresource);
    }
    let call = Call::get(path);
    if query.name.is_some() {
        return call;
    }
    let selection = &options.selection;
    call.query("labelSelector", &selection.selector).query("fieldSelector", &selection.field_selector)
}

fn shown(options: &Options, wide: bool, query: &Query, prefix: bool) -> table::Shown {
    table::Shown {
        wide,
        no_headers: options.no_headers,
        with_namespace: options.selection.all_namespaces && query.resource.namespaced,
        show_labels: options.show_labels,
        label_columns: options.label_columns.clone(),
        prefix: prefix.then(|| query.resource.kind_with_group()),
    }
}

/// The rows of one type of resource.
struct Rows<'a> {
    query: &'a Query,
    definitions: Value,
    rows: Vec<Value>,
}

/// The server's tables: those of one type that follow one another become one.
async fn tables(options: &Options, plan: &Plan, wide: bool, session: &Session, streams: &mut Streams) -> Result<()> {
    let (mut failed, mut answered) = (Vec::new(), Vec::<Rows<'_>>::new());
    for query in &plan.queries {
        match one_table(options, plan, query, &session.client).await {
            Ok(rows) => match answered.last_mut().filter(|last| last.query.resource == query.resource) {
                Some(last) => last.rows.extend(rows.rows),
                None => answered.push(rows),
            },
            Err(error) if options.ignore_not_found && error.is_not_found() => {}
            Err(error) => failed.push(error),
        }
    }
    let prefix = options.show_kind || answered.iter().any(|rows| rows.query.resource != answered[0].query.resource);
    let mut printed = false;
    for Rows { query, definitions, mut rows } in answered {
        if rows.is_empty() {
            continue;
        }
        if let Some(template) = &plan.sort
            && query.name.is_none()
            && !sort(&mut rows, template, "object")
        {
            continue;
        }
        let shown = shown(options, wide, query, prefix);
        let text = table::lines(&table::columns(definitions.list(""), &shown), &rows, &shown, true);
        let gap = if printed && !options.no_headers { "\n" } else { "" };
        write!(streams.out, "{gap}{}", columns::align(&text, columns::TABLE))?;
        printed = true;
    }
    if !printed && failed.is_empty() && !options.ignore_not_found {
        nothing(options, &plan.queries, session, streams)?;
    }
    Error::all(failed)
}

async fn one_table<'a>(options: &Options, plan: &Plan, query: &'a Query, client: &Client) -> Result<Rows<'a>> {
    let mut call = call(options, query).accept(TABLE);
    if plan.sort.is_some() {
        call = call.query("includeObject", "Object");
    }
    let mut rows = Rows { query, definitions: json!([]), rows: Vec::new() };
    let limit = if query.name.is_none() { options.selection.chunk_size } else { 0 };
    let asked = client
        .pages(&call, limit, |page| {
            let mut page = as_table(page);
            if rows.definitions.list("").is_empty() {
                rows.definitions = page["columnDefinitions"].take();
            }
            if let Value::Array(more) = page["rows"].take() {
                rows.rows.extend(more);
            }
        })
        .await;
    match asked {
        Ok(()) => Ok(rows),
        Err(error) if query.name.is_some() => Err(resources::while_reading(client, &query.namespace, error).await),
        Err(error) => Err(resources::while_selecting(error, &query.resource, &options.selection)),
    }
}

/// What the server gives as a table, or a table of names and ages of what it gives only as it is.
fn as_table(mut page: Value) -> Value {
    if page.text("kind") == "Table" {
        return page;
    }
    let objects = match page["items"].take() {
        Value::Array(items) => items,
        _ => vec![page.clone()],
    };
    let row = |object: Value| {
        let age = age::since(object.at("metadata.creationTimestamp").as_str(), Timestamp::now());
        json!({"cells": [object.text("metadata.name"), age], "object": object})
    };
    let name = json!({"name": "Name", "type": "string", "format": "name"});
    page["columnDefinitions"] = json!([name, {"name": "Age", "type": "string"}]);
    page["rows"] = objects.into_iter().map(row).collect();
    page
}

/// Orders values by what a path leads to in each, or in a field of each. Those in which it leads nowhere come first; whether
/// there are others.
fn sort(values: &mut [Value], template: &Template, field: &str) -> bool {
    let key = |value: &Value| template.find(value.at(field)).ok().and_then(|found| found.first().map(|v| (*v).clone()));
    values.sort_by_cached_key(|value| SortKey(key(value)));
    let missing = values.iter().take_while(|value| key(value).is_none()).count();
    // A few of them are turned around, as by a sort by insertion to which each is less than those before it.
    if values.len() <= INSERTED {
        values[..missing].reverse();
    }
    missing < values.len()
}

/// Numbers by their size, texts by their characters, what is missing first.
#[derive(PartialEq)]
struct SortKey(Option<Value>);

impl Eq for SortKey {}

impl PartialOrd for SortKey {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for SortKey {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        match (&self.0, &other.0) {
            (Some(Value::Number(a)), Some(Value::Number(b))) => {
                a.as_f64().unwrap_or(0.0).total_cmp(&b.as_f64().unwrap_or(0.0))
            }
            (Some(Value::String(a)), Some(Value::String(b))) => a.cmp(b),
            (a, b) => a.is_some().cmp(&b.is_some()),
        }
    }
}

fn nothing(options: &Options, queries: &[Query], session: &Session, streams: &mut Streams) -> Result<()> {
    let namespaced = queries.iter().all(|query| query.resource.namespaced);
    if namespaced && !options.selection.all_namespaces {
        writeln!(streams.err, "No resources found in {} namespace.", session.namespace)?;
    } else {
        writeln!(streams.err, "No resources found")?;
    }
    Ok(())
}

/// Whole objects: one that was named alone as it is, others as a list.
async fn objects(options: &Options, plan: Plan, session: &Session, streams: &mut Streams) -> Result<()> {
    let Output::Format(format) = plan.output else { return Ok(()) };
    let (mut found, mut failed) = (Vec::new(), Vec::new());
    for query in &plan.queries {
        match fetch(options, query, &session.client).await {
            Ok(objects) => found.extend(objects),
            Err(error) if options.ignore_not_found && error.is_not_found() => {}
            Err(error) => failed.push(error),
        }
    }
    let single = matches!(plan.queries.as_slice(), [Query { name: Some(_), .. }]);
    if found.is_empty() && (single || options.ignore_not_found) {
        return Error::all(failed);
    }
    if let Some(template) = &plan.sort
        && !single
        && !sort(&mut found, template, "")
        && !found.is_empty()
    {
        let path = &template.text;
        return usage(format!("couldn't find any field with path {path:?} in the list of objects"));
    }
    let value = if single {
        found.remove(0)
    } else {
        json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": found})
    };
    let text = Printer::new(format, options.show_managed_fields).print(value);
    match text {
        Ok(text) => write!(streams.out, "{text}")?,
        Err(error) if failed.is_empty() => return Err(error),
        Err(error) => failed.push(error),
    }
    Error::all(failed)
}

/// The objects of a query; those of a list get their kind, which lists leave out.
async fn fetch(options: &Options, query: &Query, client: &Client) -> Result<Vec<Value>> {
    let call = call(options, query);
    if query.name.is_some() {
        return Ok(vec![resources::read(client, &call, &query.namespace).await?]);
    }
    let listed = client.list(&call, options.selection.chunk_size).await;
    let mut objects = listed.map_err(|error| resources::while_selecting(error, &query.resource, &options.selection))?;
    for object in &mut objects {
        object["apiVersion"] = query.resource.api_version().into();
        object["kind"] = query.resource.kind.clone().into();
    }
    Ok(objects)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorting_knows_numbers_from_texts() {
        let template = Template::relaxed(".n").unwrap();
        let mut numbers = [json!({"n": 10}), json!({"n": 9}), json!({})];
        sort(&mut numbers, &template, "");
        assert_eq!(numbers, [json!({}), json!({"n": 9}), json!({"n": 10})]);
        let mut texts = [json!({"o": {"n": "9"}}), json!({"o": {"n": "10"}})];
        sort(&mut texts, &template, "o");
        assert_eq!(texts[0]["o"]["n"], "10");
    }
}
