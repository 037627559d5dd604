//! `-o custom-columns=NAME:.metadata.name,…`: a table of what paths lead to.

use serde_json::Value;

use super::go_template::print;
use super::jsonpath::Template;
use crate::error::{Error, Result, usage};

/// Columns that the user names.
#[derive(Debug)]
pub struct CustomColumns {
    columns: Vec<(String, Template)>,
    headers: bool,
}

impl CustomColumns {
    /// Reads `HEADING:PATH,HEADING:PATH`.
    ///
    /// # Errors
    /// What is not of that form.
    pub fn parse(specification: &str, headers: bool) -> Result<Self> {
        if specification.is_empty() {
            return usage("custom-columns format specified but no custom columns given");
        }
        let column = |part: &str| match part.split_once(':') {
            Some((heading, path)) => {
                let template = Template::relaxed(path).map_err(|error| Error::Usage(error.to_string()))?;
                Ok((heading.to_owned(), template))
            }
            None => usage(format!("unexpected custom-columns spec: {part}, expected <header>:<json-path-expr>")),
        };
        Ok(Self { columns: specification.split(',').map(column).collect::<Result<_>>()?, headers })
    }

    /// Reads a file of two lines: headings, and paths below them.
    ///
    /// # Errors
    /// As [`CustomColumns::parse`].
    pub fn parse_file(text: &str, headers: bool) -> Result<Self> {
        let mut lines = text.lines();
        let mut words = || lines.next().unwrap_or_default().split_whitespace();
        let (headings, paths): (Vec<_>, Vec<_>) = (words().collect(), words().collect());
        if headings.len() != paths.len() || headings.is_empty() {
            return usage(format!(
                "number of headers ({}) and field specifications ({}) don't match",
                headings.len(),
                paths.len()
            ));
        }
        let parts: Vec<String> =
            headings.iter().zip(paths).map(|(heading, path)| format!("{heading}:{path}")).collect();
        Self::parse(&parts.join(","), headers)
    }

    /// The heading's line and the objects' lines, with tabs between the cells.
    ///
    /// # Errors
    /// What only the objects show to be wrong in a path.
    pub fn lines<'a>(&self, objects: impl Iterator<Item = &'a Value>, header: bool) -> Result<String> {
        let mut out = String::new();
        if header && self.headers {
            let headings: Vec<&str> = self.columns.iter().map(|(heading, _)| heading.as_str()).collect();
            out.push_str(&headings.join("\t"));
            out.push('\n');
        }
        for object in objects {
            let cells = self.columns.iter().map(|(_, template)| cell(template, object)).collect::<Result<Vec<_>>>()?;
            out.push_str(&cells.join("\t"));
            out.push('\n');
        }
        Ok(out)
    }
}

fn cell(template: &Template, object: &Value) -> Result<String> {
    let found = template.find(object).map_err(Error::Usage)?;
    let texts: Vec<String> = found.into_iter().map(print).collect();
    Ok(if texts.is_empty() { "<none>".to_owned() } else { texts.join(",") })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_are_what_paths_lead_to() {
        let columns = CustomColumns::parse("N:.metadata.name,C:.spec[*].n,X:.nope", true).unwrap();
        let object = json!({"metadata": {"name": "a"}, "spec": [{"n": 1}, {"n": 2}]});
        assert_eq!(columns.lines([&object].into_iter(), true).unwrap(), "N\tC\tX\na\t1,2\t<none>\n");
        assert!(CustomColumns::parse("N", true).is_err());
    }
}
