//! `api-resources`: the resources that the server has.

use clap::Args;

use crate::discovery::Resource;
use crate::error::{Result, usage};
use crate::printers::columns;
use crate::session::Session;
use crate::streams::Streams;

#[derive(Debug, Args)]
pub struct Options {
    /// Only those of one group
    #[arg(long)]
    api_group: Option<String>,
    /// Only those in all of these categories
    #[arg(long, value_delimiter = ',')]
    categories: Vec<String>,
    /// Only those with all of these verbs
    #[arg(long, value_delimiter = ',')]
    verbs: Vec<String>,
    /// Only those that are in namespaces, or only those that are not
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
        value_parser = clap::builder::ValueParser::new(crate::flags::truth))]
    namespaced: Option<bool>,
    /// wide or name
    #[arg(long, short, default_value = "", hide_default_value = true)]
    output: String,
    /// name or kind
    #[arg(long, default_value = "", hide_default_value = true)]
    sort_by: String,
    /// No headings
    #[arg(long)]
    no_headers: bool,
    /// Use the cached list of resources
    #[arg(long)]
    cached: bool,
}

pub async fn run(options: Options, session: &mut Session, streams: &mut Streams) -> Result<()> {
    if !matches!(options.output.as_str(), "" | "wide" | "name") {
        return usage(format!("--output {} is not available", options.output));
    }
    if !matches!(options.sort_by.as_str(), "" | "name" | "kind") {
        return usage("--sort-by accepts only name or kind");
    }
    let discovery = if options.cached { session.discovery().await? } else { session.refresh().await? };
    let mut resources = discovery.preferred();
    resources.retain(|resource| is_wanted(&options, resource));
    resources.sort_by(|a, b| match options.sort_by.as_str() {
        "name" => a.plural.cmp(&b.plural),
        "kind" => a.kind.cmp(&b.kind),
        _ => (&a.group, &a.plural).cmp(&(&b.group, &b.plural)),
    });
    Ok(write!(streams.out, "{}", print(&options, &resources))?)
}

fn is_wanted(options: &Options, resource: &Resource) -> bool {
    let has = |all: &[String], wanted: &[String]| wanted.iter().all(|one| all.contains(one));
    !resource.verbs.is_empty()
        && options.api_group.as_ref().is_none_or(|group| *group == resource.group)
        && options.namespaced.is_none_or(|namespaced| namespaced == resource.namespaced)
        && has(&resource.verbs, &options.verbs)
        && has(&resource.categories, &options.categories)
}

fn print(options: &Options, resources: &[&Resource]) -> String {
    if options.output == "name" {
        return resources.iter().map(|resource| resource.plural_with_group() + "\n").collect();
    }
    let wide = options.output == "wide";
    let mut text = String::new();
    if !options.no_headers {
        text.push_str("NAME\tSHORTNAMES\tAPIVERSION\tNAMESPACED\tKIND");
        text.push_str(if wide { "\tVERBS\tCATEGORIES\n" } else { "\n" });
    }
    for resource in resources {
        let (short, version) = (resource.short.join(","), resource.api_version());
        text.push_str(&format!("{}\t{short}\t{version}\t{}\t{}", resource.plural, resource.namespaced, resource.kind));
        if wide {
            text.push_str(&format!("\t{}\t{}", resource.verbs.join(","), resource.categories.join(",")));
        }
        text.push('\n');
    }
    columns::align(&text, columns::TABLE)
}
