//! `format.dns1123Label().validate(name)`: the forms that names and texts of the API have.
//!
//! Kubernetes documentation, "Kubernetes format library".

use apimachinery::names;
use apimachinery::time::Moment;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cel::common::types::{CelList, CelOptional, CelString};
use cel::common::value::{CowVal, Val};
use cel::{DeclarationError, Env, add_member_overload, add_overload};

use crate::types::{Answer, Arguments, value_type};
use crate::url;

/// What is wrong with a text.
type Rule = fn(&str) -> Vec<String>;

#[derive(Clone, Debug)]
pub(crate) struct Format {
    name: &'static str,
    rule: Rule,
}

impl PartialEq for Format {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

value_type!(Format, "kubernetes.NamedFormat");

/// Every format.
const FORMATS: [(&str, Rule); 13] = [
    ("dns1123Label", names::dns1123_label),
    ("dns1123Subdomain", names::dns1123_subdomain),
    ("dns1035Label", names::dns1035_label),
    ("qualifiedName", names::qualified_name),
    ("dns1123LabelPrefix", |text| names::dns1123_label(&names::as_prefix(text))),
    ("dns1123SubdomainPrefix", names::dns1123_subdomain_prefix),
    ("dns1035LabelPrefix", |text| names::dns1035_label(&names::as_prefix(text))),
    ("labelValue", names::label_value),
    ("uri", |text| url::parse(text).err().into_iter().collect()),
    ("uuid", |text| refused(!is_uuid(text), "does not match the UUID format")),
    ("byte", |text| refused(STANDARD.decode(text).is_err(), "invalid base64")),
    ("date", |text| refused(text.parse::<jiff::civil::Date>().is_err() || text.len() != 10, "invalid date")),
    ("datetime", |text| refused(Moment::parse(text).is_none(), "invalid datetime")),
];

fn refused(refused: bool, why: &str) -> Vec<String> {
    refused.then(|| why.to_owned()).into_iter().collect()
}

fn is_uuid(text: &str) -> bool {
    matches!(text.len(), 32 | 36) && uuid::Uuid::try_parse(text).is_ok()
}

/// Declares a function without arguments for each format: a function is not a closure, so each has one of its own.
macro_rules! getters {
    ($env:expr, $($index:literal),*) => {
        $({
            fn get<'b, 'v>(_: Arguments<'b, 'v>) -> Answer<'b, 'v> {
                Ok(CowVal::owned(of($index)))
            }
            let name = format!("format.{}", FORMATS[$index].0);
            $env.add_overload(&name, &name, Vec::new(), get)?;
        })*
    };
}

pub(crate) fn library(env: &mut Env) -> Result<(), DeclarationError> {
    getters!(env, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12);
    add_overload!(env, fn named: (CelString<'_>) -> CelOptional<'_>, name = "format.named")?;
    add_member_overload!(env, fn validate: (Format, CelString<'_>) -> CelOptional<'_>)?;
    Ok(())
}

fn of(index: usize) -> Format {
    let (name, rule) = FORMATS[index];
    Format { name, rule }
}

fn named(name: &CelString<'_>) -> CelOptional<'static> {
    match FORMATS.iter().position(|(known, _)| *known == name.inner()) {
        Some(index) => CelOptional::of(Box::new(of(index))),
        None => CelOptional::none(),
    }
}

/// Nothing where the text has the format.
fn validate(this: &Format, text: &CelString<'_>) -> CelOptional<'static> {
    let errors = (this.rule)(text.inner());
    if errors.is_empty() {
        return CelOptional::none();
    }
    let errors: Vec<Box<dyn Val>> =
        errors.into_iter().map(|error| Box::new(CelString::from(error)) as Box<dyn Val>).collect();
    CelOptional::of(Box::new(CelList::from(errors)))
}
