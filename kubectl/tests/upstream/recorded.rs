//! What the original printed when it was new enough, without what differs from run to run.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};

use anyhow::{Context, Result, anyhow};
use regex::{Captures, Regex};
use serde_json::{Value, json};

use super::world::{Outcome, World};

type Pattern = (Regex, &'static str);

/// What the server gives each object anew.
const NAMES: [(&str, &str); 14] = [
    (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UID"),
    (r#"(resourceVersion"?: )"\d+""#, "${1}VERSION"),
    (r"(Resource Version: +)\d+", "${1}VERSION"),
    (r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "TIME"),
    (r"[A-Z][a-z][a-z], \d\d [A-Z][a-z][a-z] 20\d\d \d\d:\d\d:\d\d [+-]\d{4}", "TIME"),
    (r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4} [A-Z]+", "TIME"),
    (r"127\.0\.0\.1:\d+", "SERVER"),
    (r"\[::1\]:\d+", "SERVER"),
    (r"(?m)^(Client Version: ).*$", "${1}VERSION"),
    (r#"(?m)^( *"?(?:minor|git\w+|buildDate|goVersion|compiler)"?: ).*$"#, "${1}VERSION"),
    (r"\bLS0tLS1[A-Za-z0-9+/=]+", "CERTIFICATE"),
    (r"10\.96\.\d+\.\d+", "ADDRESS"),
    (r"kube-api-access-[a-z0-9]{5}", "kube-api-access-NAME"),
    (r"(resource version to be \d+, was )\d+", "${1}VERSION"),
];
/// Ages, and what their width moves.
const LAYOUT: [(&str, &str); 3] = [(r"\b(\d+[ydhms])+\b", "AGE"), (r" {2,}", " "), (r"-{3,}", "---")];

fn replace(patterns: &[Pattern], text: &str) -> String {
    patterns.iter().fold(text.to_owned(), |text, (pattern, with)| pattern.replace_all(&text, *with).into_owned())
}

/// Outcomes by command line.
pub struct Recorded {
    path: PathBuf,
    kept: Mutex<BTreeMap<String, Value>>,
    /// Whether they are written anew.
    record: bool,
    names: Vec<Pattern>,
    layout: Vec<Pattern>,
}

impl Recorded {
    /// `name` is that of the file.
    pub fn load(world: &World, name: &str) -> Result<Self> {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/upstream").join(name);
        let record = std::env::var_os("CORTEN_RECORD").is_some() && world.compares();
        let kept = match std::fs::read(&path) {
            Ok(text) if !record => serde_json::from_slice(&text)?,
            _ => BTreeMap::new(),
        };
        let compile = |(pattern, with): (&str, &'static str)| Ok((Regex::new(pattern)?, with));
        let mut names = NAMES.into_iter().map(compile).collect::<Result<Vec<_>>>()?;
        names.push((Regex::new(&format!(r"\b{}\b", world.port()))?, "PORT"));
        let layout = LAYOUT.into_iter().map(compile).collect::<Result<_>>()?;
        Ok(Self { path, kept: Mutex::new(kept), record, names, layout })
    }

    /// An outcome with ages that only tell how long they are.
    pub fn ageless(&self, outcome: &Outcome) -> Outcome {
        let (age, _) = &self.layout[0];
        let masked = |text: &str| age.replace_all(text, |found: &Captures<'_>| "#".repeat(found[0].len())).into_owned();
        Outcome { code: outcome.code, out: masked(&outcome.out), err: masked(&outcome.err) }
    }

    /// An outcome without what differs from run to run.
    pub fn plain(&self, outcome: &Outcome) -> Outcome {
        let plain = |text: &str| replace(&self.layout, &replace(&self.names, text));
        Outcome { code: outcome.code, out: plain(&outcome.out), err: plain(&outcome.err) }
    }

    fn value(&self, outcome: &Outcome) -> Value {
        let Outcome { code, out, err } = self.plain(outcome);
        json!({"code": code, "out": out, "err": err})
    }

    fn kept(&self) -> Result<MutexGuard<'_, BTreeMap<String, Value>>> {
        self.kept.lock().map_err(|_| anyhow!("a thread panicked"))
    }

    /// Keeps what the original printed.
    pub fn keep(&self, key: &str, outcome: &Outcome) -> Result<()> {
        if self.record {
            let value = self.value(outcome);
            self.kept()?.insert(key.to_owned(), value);
        }
        Ok(())
    }

    /// How ours differs from what is recorded.
    pub fn differs(&self, key: &str, ours: &Outcome) -> Result<Option<String>> {
        let ours = self.value(ours);
        Ok(match self.kept()?.get(key) {
            Some(theirs) if *theirs == ours => None,
            Some(theirs) => Some(format!("=== kubectl {key}\nours:   {ours}\ntheirs: {theirs}")),
            None => Some(format!("=== kubectl {key}\nis not recorded: set CORTEN_RECORD=1 with a newer original")),
        })
    }

    /// Writes what was recorded.
    pub fn save(&self) -> Result<()> {
        if !self.record {
            return Ok(());
        }
        let text = serde_json::to_string_pretty(&*self.kept()?)? + "\n";
        std::fs::write(&self.path, text).with_context(|| format!("write {}", self.path.display()))
    }
}

/// The names of recorded outcomes; the same line may stand in a story twice.
pub struct Keys {
    prefix: String,
    seen: BTreeMap<String, usize>,
}

impl Keys {
    pub fn of(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned(), seen: BTreeMap::new() }
    }

    pub fn next(&mut self, line: &str) -> String {
        let (prefix, count) = (&self.prefix, self.seen.entry(line.to_owned()).or_insert(0));
        *count += 1;
        if *count == 1 { format!("{prefix}{line}") } else { format!("{prefix}{line} #{count}") }
    }
}
