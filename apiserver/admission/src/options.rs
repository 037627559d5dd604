//! The flags of admission, with upstream's names, and the chain that they build.

use std::path::PathBuf;
use std::sync::Arc;

use apiserver_auth::Authorizer;
use apiserver_auth::clock::{self, Clock};
use apiserver_storage::reader::Reader;
use component_base::metrics::Registry;

use crate::catalog::{self, ORDER, Standing};
use crate::configuration::{self, Configuration};
use crate::{Chain, Writer, webhook};

/// Why the server cannot start with these flags.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    #[error("--enable-admission-plugins: {0} is not supported")]
    UnsupportedPlugin(String),
    #[error("{flag} plugin {name:?} is unknown")]
    Unknown { flag: &'static str, name: String },
    #[error("[{}] in enable-admission-plugins and disable-admission-plugins overlapped", .0.join(" "))]
    Both(Vec<String>),
    #[error("admission-control and enable-admission-plugins/disable-admission-plugins flags are mutually exclusive")]
    OldAndNew,
    #[error(transparent)]
    Configuration(#[from] configuration::Error),
}

#[derive(clap::Args, Clone, Debug)]
pub struct AdmissionOptions {
    /// Admission plugins to turn on, besides those that are on by default; their order does not matter.
    #[arg(long, value_delimiter = ',')]
    pub enable_admission_plugins: Vec<String>,

    /// Admission plugins to turn off, though they are on by default; their order does not matter.
    #[arg(long, value_delimiter = ',')]
    pub disable_admission_plugins: Vec<String>,

    /// The old form of the two: exactly these plugins are on.
    #[arg(long, value_delimiter = ',', hide = true)]
    pub admission_control: Vec<String>,

    /// A file with the configuration of admission plugins.
    #[arg(long)]
    pub admission_control_config_file: Option<PathBuf>,

    /// How long pods without their own toleration stay on a node that is not ready.
    #[arg(long, default_value_t = 300)]
    pub default_not_ready_toleration_seconds: i64,

    /// How long pods without their own toleration stay on a node that is not reachable.
    #[arg(long, default_value_t = 300)]
    pub default_unreachable_toleration_seconds: i64,
}

/// What plugins are made from.
#[derive(Clone)]
pub struct Context {
    pub reader: Arc<dyn Reader>,
    pub writer: Arc<dyn Writer>,
    pub authorizer: Arc<dyn Authorizer>,
    pub clock: Clock,
    pub webhooks: webhook::Metrics,
}

impl AdmissionOptions {
    /// The names of the plugins that are to be on, in order.
    pub fn enabled(&self) -> Result<Vec<&'static str>, OptionsError> {
        self.check_names()?;
        let listed = |names: &[String], name: &str| names.iter().any(|n| n == name);
        let only = !self.admission_control.is_empty();
        let asked = |name: &str| listed(&self.enable_admission_plugins, name) || listed(&self.admission_control, name);
        let refused = |name: &str| {
            listed(&self.disable_admission_plugins, name) || (only && !listed(&self.admission_control, name))
        };
        let unsupported = ORDER.iter().find(|(name, standing)| *standing == Standing::MissingOff && asked(name));
        if let Some((name, _)) = unsupported {
            return Err(OptionsError::UnsupportedPlugin((*name).to_owned()));
        }
        let on = |(name, standing): &&(&'static str, Standing)| match standing {
            Standing::On => !refused(name),
            Standing::Off => asked(name),
            Standing::Missing | Standing::MissingOff => false,
        };
        Ok(ORDER.iter().filter(on).map(|(name, _)| *name).collect())
    }

    fn check_names(&self) -> Result<(), OptionsError> {
        let (on, off) = (&self.enable_admission_plugins, &self.disable_admission_plugins);
        if !(self.admission_control.is_empty() || on.is_empty() && off.is_empty()) {
            return Err(OptionsError::OldAndNew);
        }
        let lists = [
            ("enable-admission-plugins", on),
            ("disable-admission-plugins", off),
            ("admission-control", &self.admission_control),
        ];
        for (flag, names) in lists {
            if let Some(name) = names.iter().find(|name| !catalog::is_known(name)) {
                return Err(OptionsError::Unknown { flag, name: name.clone() });
            }
        }
        let both: Vec<String> = on.iter().filter(|name| off.contains(name)).cloned().collect();
        if both.is_empty() { Ok(()) } else { Err(OptionsError::Both(both)) }
    }

    fn configuration(&self) -> Result<Configuration, OptionsError> {
        let Some(path) = &self.admission_control_config_file else { return Ok(Configuration::default()) };
        let configuration = Configuration::read(path)?;
        let unknown = configuration.names().find(|name| !catalog::is_known(name)).map(str::to_owned);
        match unknown {
            Some(name) => Err(OptionsError::Unknown { flag: "admission-control-config-file", name }),
            None => Ok(configuration),
        }
    }

    /// The chain that the flags ask for.
    pub fn chain(&self, context: &Context) -> Result<Chain, OptionsError> {
        let configuration = self.configuration()?;
        let mut plugins = Vec::new();
        for name in self.enabled()? {
            plugins.extend(catalog::make(name, self, &configuration, context)?);
        }
        Ok(Chain::new(plugins))
    }
}

impl Chain {
    /// The chain that the flags ask for, with the machine's clock.
    pub fn build<S: Reader + Writer + 'static>(
        options: &AdmissionOptions,
        store: Arc<S>,
        authorizer: Arc<dyn Authorizer>,
        metrics: &Registry,
    ) -> Result<Chain, OptionsError> {
        let webhooks = webhook::Metrics::new(metrics);
        options.chain(&Context { reader: store.clone(), writer: store, authorizer, clock: clock::system(), webhooks })
    }
}

#[cfg(test)]
mod tests {
    use apiserver_auth::authorization::union::AlwaysDeny;
    use clap::Parser;

    use super::*;
    use crate::testing::State;

    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        admission: AdmissionOptions,
    }

    fn names(flags: &[&str]) -> Result<Vec<&'static str>, String> {
        let flags = std::iter::once("x").chain(flags.iter().copied());
        let options = Command::try_parse_from(flags).expect("flags").admission;
        let state = Arc::new(State::default());
        let context = Context {
            reader: state.clone(),
            writer: state,
            authorizer: Arc::new(AlwaysDeny),
            clock: clock::system(),
            webhooks: webhook::Metrics::new(&Registry::new()),
        };
        let chain = options.chain(&context).map_err(|e| e.to_string())?;
        let names: Vec<_> = chain.names().collect();
        assert_eq!(Ok(names.clone()), options.enabled().map_err(|e| e.to_string()), "each plugin that is on is built");
        Ok(names)
    }

    #[test]
    fn flags_turn_plugins_on_and_off() {
        let usual = names(&[]).expect("a chain");
        assert!(usual.starts_with(&["NamespaceLifecycle", "LimitRanger", "ServiceAccount", "TaintNodesByCondition"]));
        assert!(!usual.contains(&"NodeRestriction"));
        let changed = names(&[
            "--enable-admission-plugins=NodeRestriction",
            "--disable-admission-plugins=ServiceAccount,ResourceQuota",
        ]);
        assert!(changed.expect("a chain").starts_with(&["NamespaceLifecycle", "LimitRanger", "NodeRestriction"]));
    }

    #[test]
    fn every_plugin_that_is_off_by_default_can_be_turned_on() {
        let off = ORDER.iter().filter(|(_, standing)| *standing == Standing::Off).map(|(name, _)| *name);
        for name in off.filter(|name| *name != "EventRateLimit") {
            let names = names(&[&format!("--enable-admission-plugins={name}")]).expect("a chain");
            assert!(names.contains(&name), "{name}");
        }
        let bare = names(&["--enable-admission-plugins=EventRateLimit"]).expect_err("it needs limits");
        assert!(bare.contains("limits must not be empty"), "{bare}");
    }

    #[test]
    fn the_old_flag_names_exactly_those_that_are_on() {
        let names = names(&["--admission-control=NodeRestriction,LimitRanger"]).expect("a chain");
        assert_eq!(names, ["LimitRanger", "NodeRestriction"]);
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        for (flags, says) in [
            (&["--enable-admission-plugins=Nonsense"][..], "enable-admission-plugins plugin \"Nonsense\" is unknown"),
            (&["--disable-admission-plugins=Nonsense"], "disable-admission-plugins plugin \"Nonsense\" is unknown"),
            (&["--enable-admission-plugins=ImagePolicyWebhook"], "ImagePolicyWebhook is not supported"),
            (
                &["--enable-admission-plugins=Priority,LimitRanger", "--disable-admission-plugins=LimitRanger"],
                "[LimitRanger] in enable-admission-plugins and disable-admission-plugins overlapped",
            ),
            (
                &["--admission-control=Priority", "--enable-admission-plugins=Priority"],
                "admission-control and enable-admission-plugins/disable-admission-plugins flags are mutually exclusive",
            ),
            (&["--admission-control-config-file=/absent/x"], "unable to read admission control configuration"),
        ] {
            assert!(names(flags).expect_err("refused").contains(says), "{flags:?}");
        }
    }
}
