//! Logs on standard error: text in klog's shape or JSON, with `-v` as the verbosity.

use std::fmt;
use std::str::FromStr;

use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

/// From this `-v` on, our crates log at debug level.
const DEBUG_VERBOSITY: u8 = 4;
/// From this `-v` on, our crates log at trace level and libraries at debug level.
const TRACE_VERBOSITY: u8 = 6;
/// Libraries whose own logs are only of use when one debugs them. A name stands for all that begin with it: `kube` alone would silence
/// `kube_proxy` and `kubelet`.
const LIBRARIES: &[&str] =
    &["h2", "hyper", "hyper_util", "kube_client", "kube_core", "kube_runtime", "rustls", "tonic", "tower"];

/// `--logging-format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Lines as klog writes them.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(format!("unknown logging format {other:?}: expected \"text\" or \"json\"")),
        }
    }
}

/// The logging flags of every component; flatten it into a component's options.
#[derive(Clone, Debug, Default, clap::Args)]
#[group(id = "logging")]
pub struct Options {
    /// Number for the log level verbosity
    #[arg(short = 'v', long = "v", default_value_t = 0, value_name = "Level")]
    pub verbosity: u8,
    /// Sets the log format: "text" or "json"
    #[arg(long, default_value = "text")]
    pub logging_format: Format,
}

impl Options {
    /// Starts logging as these flags say. A second call does nothing.
    pub fn init(&self) {
        init_with(self.verbosity, self.logging_format);
    }
}

/// Starts text logging at a verbosity. A second call in the same process (tests) does nothing.
pub fn init(verbosity: u8) {
    init_with(verbosity, Format::Text);
}

/// Starts logging. `RUST_LOG` (`target=level,…`), where it is set and parses, overrides the verbosity.
pub fn init_with(verbosity: u8, format: Format) {
    let filter =
        std::env::var("RUST_LOG").ok().and_then(|text| text.parse().ok()).unwrap_or_else(|| targets(verbosity));
    let registry = tracing_subscriber::registry().with(filter);
    let outcome = match format {
        Format::Text => registry
            .with(tracing_subscriber::fmt::layer().event_format(Klog).with_ansi(false).with_writer(std::io::stderr))
            .try_init(),
        Format::Json => registry.with(tracing_subscriber::fmt::layer().json().with_writer(std::io::stderr)).try_init(),
    };
    if outcome.is_err() {
        tracing::debug!("logging was initialised before");
    }
}

fn targets(verbosity: u8) -> Targets {
    let ours = match verbosity {
        v if v >= TRACE_VERBOSITY => LevelFilter::TRACE,
        v if v >= DEBUG_VERBOSITY => LevelFilter::DEBUG,
        _ => LevelFilter::INFO,
    };
    let theirs = if verbosity >= TRACE_VERBOSITY { LevelFilter::DEBUG } else { LevelFilter::WARN };
    LIBRARIES.iter().fold(Targets::new().with_default(ours), |targets, library| targets.with_target(*library, theirs))
}

/// klog's line: `I1121 00:42:01.123456       1 target] message key=value`.
struct Klog;

impl<S, N> FormatEvent<S, N> for Klog
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, ctx: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let meta = event.metadata();
        let now = jiff::Zoned::now().strftime("%m%d %H:%M:%S%.6f").to_string();
        write!(out, "{}{now} {:>7} {}] ", letter(*meta.level()), std::process::id(), meta.target())?;
        if let Some(scope) = ctx.event_scope() {
            for span in scope.from_root() {
                let extensions = span.extensions();
                if let Some(fields) = extensions.get::<tracing_subscriber::fmt::FormattedFields<N>>()
                    && !fields.is_empty()
                {
                    write!(out, "{}{{{fields}}}: ", span.name())?;
                }
            }
        }
        ctx.field_format().format_fields(out.by_ref(), event)?;
        writeln!(out)
    }
}

fn letter(level: Level) -> char {
    match level {
        Level::ERROR => 'E',
        Level::WARN => 'W',
        Level::INFO => 'I',
        Level::DEBUG => 'D',
        Level::TRACE => 'T',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbosity_selects_the_level_of_ours_and_of_libraries() {
        let quiet = targets(2);
        assert_eq!(quiet.default_level(), Some(LevelFilter::INFO));
        assert!(!quiet.would_enable("hyper::proto", &Level::INFO));
        assert_eq!(targets(4).default_level(), Some(LevelFilter::DEBUG));
        assert!(targets(6).would_enable("hyper::proto", &Level::DEBUG));
    }
}
