//! `-o`: the formats, and objects in them.

use serde_json::Value;

use super::columns::{Columns, TABLE};
use super::custom_columns::CustomColumns;
use super::go_template::GoTemplate;
use super::jsonpath::Template;
use super::{json, tree};
use crate::error::{Error, Result, usage};
use crate::fields::{self, Fields};

const ALLOWED: &str = "custom-columns,custom-columns-file,go-template,go-template-file,json,jsonpath,jsonpath-as-json,jsonpath-file,name,template,templatefile,wide,yaml";

/// A format of whole objects.
#[derive(Debug)]
pub enum Format {
    Yaml,
    Json,
    /// `pod/x`, by the resource's name.
    Name,
    JsonPath(Template),
    JsonPathAsJson(Template),
    GoTemplate(GoTemplate),
    CustomColumns(CustomColumns),
}

/// What `-o` says.
#[derive(Debug)]
pub enum Output {
    Table { wide: bool },
    Format(Format),
}

impl Output {
    /// Reads `-o`, with `--template`. `allowed` are the formats that an error names, for commands that have fewer.
    ///
    /// # Errors
    /// What is not a format.
    pub fn parse(output: &str, template: &str, headers: bool) -> Result<Self> {
        let output = if output.is_empty() && !template.is_empty() { "go-template" } else { output };
        match output {
            "" => return Ok(Self::Table { wide: false }),
            "wide" => return Ok(Self::Table { wide: true }),
            _ => {}
        }
        match Format::parse(output, template, headers)? {
            Some(format) => Ok(Self::Format(format)),
            None => usage(unmatched(output, ALLOWED)),
        }
    }
}

fn unmatched(output: &str, allowed: &str) -> String {
    format!("unable to match a printer suitable for the output format \"{output}\", allowed formats are: {allowed}")
}

impl Format {
    /// The format of a command that prints whole objects or nothing; `None` where none is asked for.
    ///
    /// # Errors
    /// What is not a format.
    pub fn of_objects(output: &str, template: &str) -> Result<Option<Self>> {
        let output = if output.is_empty() && !template.is_empty() { "go-template" } else { output };
        if output.is_empty() {
            return Ok(None);
        }
        match Self::parse(output, template, true)? {
            Some(format) if !matches!(format, Self::CustomColumns(_)) => Ok(Some(format)),
            _ => usage(unmatched(
                output,
                "go-template,go-template-file,json,jsonpath,jsonpath-as-json,jsonpath-file,name,template,templatefile,yaml",
            )),
        }
    }

    fn parse(output: &str, template: &str, headers: bool) -> Result<Option<Self>> {
        match output {
            "yaml" => return Ok(Some(Self::Yaml)),
            "json" => return Ok(Some(Self::Json)),
            "name" => return Ok(Some(Self::Name)),
            _ => {}
        }
        let (kind, given) = output.split_once('=').unwrap_or((output, template));
        let content = || match given {
            "" if !kind.starts_with("custom") => usage("template format specified but no template given"),
            _ if kind.ends_with("file") => Ok(std::fs::read_to_string(given)?),
            _ => Ok(given.to_owned()),
        };
        let path = || Template::parse(&content()?).map_err(|error| Error::Usage(error.to_string()));
        Ok(Some(match kind {
            "jsonpath" | "jsonpath-file" => Self::JsonPath(path()?),
            "jsonpath-as-json" => Self::JsonPathAsJson(path()?),
            "go-template" | "go-template-file" | "template" | "templatefile" => {
                let template = GoTemplate::parse(&content()?).map_err(|error| Error::Usage(error.to_string()))?;
                Self::GoTemplate(template)
            }
            "custom-columns" => Self::CustomColumns(CustomColumns::parse(&content()?, headers)?),
            "custom-columns-file" => Self::CustomColumns(CustomColumns::parse_file(&content()?, headers)?),
            _ => return Ok(None),
        }))
    }
}

/// Prints objects one after the other.
pub struct Printer {
    format: Format,
    managed_fields: bool,
    printed: usize,
    columns: Columns,
}

impl Printer {
    /// A printer that has printed nothing yet.
    pub fn new(format: Format, managed_fields: bool) -> Self {
        Self { format, managed_fields, printed: 0, columns: Columns::new(TABLE) }
    }

    /// Whether only names are printed.
    pub fn is_name(&self) -> bool {
        matches!(self.format, Format::Name)
    }

    /// An object, or a list of them, as text.
    ///
    /// # Errors
    /// What only the object shows to be wrong in a template.
    pub fn print(&mut self, mut object: Value) -> Result<String> {
        // Templates see them whatever was asked for.
        if !self.managed_fields && matches!(self.format, Format::Yaml | Format::Json) {
            tree::tidy(&mut object);
        }
        let first = self.printed == 0;
        self.printed += 1;
        Ok(match &self.format {
            Format::Yaml => format!("{}{}", if first { "" } else { "---\n" }, tree::yaml(&object)),
            Format::Json => json::pretty(&object, "    "),
            Format::Name => match object.get("items").and_then(Value::as_array) {
                Some(items) => items.iter().map(|item| title(item) + "\n").collect(),
                None => title(&object) + "\n",
            },
            Format::JsonPath(template) => template.render(&object).map_err(Error::Usage)?,
            Format::GoTemplate(template) => template.render(&object, false).map_err(Error::Usage)?,
            Format::JsonPathAsJson(template) => template.render_json(&object).map_err(Error::Usage)?,
            Format::CustomColumns(columns) => {
                let text = match object.get("items").and_then(Value::as_array) {
                    Some(items) => columns.lines(items.iter(), first)?,
                    None => columns.lines([&object].into_iter(), first)?,
                };
                self.columns.align(&text, true)
            }
        })
    }
}

/// An object's name with its kind, as far as the object alone tells: `deployment.apps/web`.
pub fn title(object: &Value) -> String {
    let kind = object.text("kind").to_lowercase();
    match object.text("apiVersion").split_once('/') {
        Some((group, _)) => format!("{kind}.{group}/{}", fields::name(object)),
        None => format!("{kind}/{}", fields::name(object)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn yaml_documents_are_kept_apart() {
        let mut printer = Printer::new(Format::Yaml, false);
        let object = || json!({"metadata": {"name": "a", "managedFields": []}});
        assert_eq!(printer.print(object()).unwrap(), "metadata:\n  name: a\n");
        assert_eq!(printer.print(object()).unwrap(), "---\nmetadata:\n  name: a\n");
    }

    #[test]
    fn what_is_no_format_is_refused_with_those_that_are() {
        let error = Output::parse("foo", "", true).unwrap_err().to_string();
        assert!(error.starts_with("unable to match a printer suitable for the output format \"foo\", allowed formats"));
        assert!(Output::parse("jsonpath", "", true).is_err());
        assert!(Output::parse("jsonpath", "{.a}", true).is_ok());
    }
}
