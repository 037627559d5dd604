//! `get --watch`: what there is, then each change as it comes, until the server ends the watch.

use serde_json::{Value, json};

use super::{Options, Plan, TABLE, call, shown};
use crate::api::Call;
use crate::error::{Error, Result, usage};
use crate::fields::Fields;
use crate::printers::columns::{self, Columns};
use crate::printers::output::{Output, Printer};
use crate::printers::table::{self, Column, Shown};
use crate::resources::Query;
use crate::session::Session;
use crate::streams::Streams;

pub(super) async fn run(options: &Options, plan: Plan, session: &Session, streams: &mut Streams) -> Result<()> {
    let [query] = plan.queries.as_slice() else {
        return usage("you may only specify a single resource type");
    };
    let mut printing = Printing::new(options, plan.output, query);
    let accept = if printing.is_table() { TABLE } else { "application/json" };
    let present = session.client.json(&call(options, query).accept(accept)).await?;
    if !options.watch_only {
        printing.present(&present, streams)?;
    }
    let watch =
        watching(options, query).accept(accept).query("resourceVersion", present.text("metadata.resourceVersion"));
    let mut events = session.client.stream(&watch).await?;
    while let Some(event) = events.event().await? {
        match event.text("type") {
            "ERROR" => return Err(refused(&event["object"])),
            "BOOKMARK" => {}
            kind => printing.event(kind, &event["object"], streams)?,
        }
        streams.out.flush()?;
    }
    Ok(())
}

/// One object is watched as a collection of one.
fn watching(options: &Options, query: &Query) -> Call {
    let collection = Query { name: None, ..query.clone() };
    let call = match &query.name {
        Some(name) => Call::get(query.resource.path(Some(&query.namespace), None))
            .query("fieldSelector", format!("metadata.name={name}")),
        None => call(options, &collection),
    };
    call.query("watch", "true")
}

fn refused(status: &Value) -> Error {
    match serde_json::from_value(status.clone()) {
        Ok(status) => Error::Server(status),
        Err(_) => Error::Usage(status.to_string()),
    }
}

/// How changes are shown: a table that goes on, or whole objects.
enum How {
    Table { shown: Shown, columns: Option<Vec<Column>>, aligned: Columns, header: bool },
    Objects(Printer),
}

struct Printing {
    how: How,
    events: bool,
}

impl Printing {
    fn new(options: &Options, output: Output, query: &Query) -> Self {
        let how = match output {
            Output::Table { wide } => How::Table {
                shown: shown(options, wide, query, options.show_kind),
                columns: None,
                aligned: Columns::new(columns::TABLE),
                header: true,
            },
            Output::Format(format) => How::Objects(Printer::new(format, options.show_managed_fields)),
        };
        Self { how, events: options.output_watch_events }
    }

    fn is_table(&self) -> bool {
        matches!(self.how, How::Table { .. })
    }

    /// What is there when the watch begins.
    fn present(&mut self, present: &Value, streams: &mut Streams) -> Result<()> {
        if present["items"].is_array() {
            let (version, kind) = (present.text("apiVersion"), present.text("kind").trim_end_matches("List"));
            for item in present.list("items") {
                let mut item = item.clone();
                item["apiVersion"] = version.into();
                item["kind"] = kind.into();
                self.event("ADDED", &item, streams)?;
            }
        } else {
            self.event("ADDED", present, streams)?;
        }
        Ok(streams.out.flush()?)
    }

    fn event(&mut self, kind: &str, object: &Value, streams: &mut Streams) -> Result<()> {
        let text = match &mut self.how {
            How::Objects(printer) if self.events && !printer.is_name() => {
                printer.print(json!({"type": kind, "object": object}))?
            }
            How::Objects(printer) => printer.print(object.clone())?,
            How::Table { shown, columns, aligned, header } => {
                if let definitions @ [_, ..] = object.list("columnDefinitions") {
                    *columns = Some(table::columns(definitions, shown));
                }
                let Some(columns) = columns else { return Ok(()) };
                let rows = object.list("rows");
                let mut text = table::lines(columns, rows, shown, *header);
                if self.events {
                    text = with_event(&text, kind, *header && !shown.no_headers);
                }
                *header &= rows.is_empty();
                aligned.align(&text, true)
            }
        };
        Ok(write!(streams.out, "{text}")?)
    }
}

/// The lines with the event's type as their first column.
fn with_event(text: &str, kind: &str, header: bool) -> String {
    let first = |index: usize| if header && index == 0 { "EVENT" } else { kind };
    text.lines().enumerate().map(|(index, line)| format!("{}\t{line}\n", first(index))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_a_column_of_their_own() {
        assert_eq!(with_event("NAME\na\nb\n", "ADDED", true), "EVENT\tNAME\nADDED\ta\nADDED\tb\n");
        assert_eq!(with_event("a\n", "DELETED", false), "DELETED\ta\n");
    }
}
