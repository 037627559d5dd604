//! What the original printed when it was new enough, without what differs from run to run.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result};
use regex::Regex;
use serde_json::{Value, json};

use super::world::{Outcome, World};

type Pattern = (Regex, &'static str);

/// What the server gives each object anew.
const NAMES: [(&str, &str); 6] = [
    (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UID"),
    (r#"(resourceVersion"?: )"\d+""#, "${1}VERSION"),
    (r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "TIME"),
    (r"[A-Z][a-z][a-z], \d\d [A-Z][a-z][a-z] 20\d\d \d\d:\d\d:\d\d [+-]\d{4}", "TIME"),
    (r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4} [A-Z]+", "TIME"),
    (r"127\.0\.0\.1:\d+", "SERVER"),
];
/// Ages, and what their width moves.
const LAYOUT: [(&str, &str); 3] = [(r"\b(\d+[ydhms])+\b", "AGE"), (r" {2,}", " "), (r"-{3,}", "---")];

fn replace(patterns: &[Pattern], text: &str) -> String {
    patterns.iter().fold(text.to_owned(), |text, (pattern, with)| pattern.replace_all(&text, *with).into_owned())
}

/// Outcomes by command line.
pub struct Recorded {
    path: PathBuf,
    kept: BTreeMap<String, Value>,
    /// Whether they are written anew.
    record: bool,
    /// Whether an original is there, so that what is recorded is not needed.
    compared: bool,
    names: Vec<Pattern>,
    layout: Vec<Pattern>,
    seen: BTreeMap<String, usize>,
}

impl Recorded {
    pub fn load(world: &World) -> Result<Self> {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/upstream/recorded.json");
        let record = std::env::var_os("CORTEN_RECORD").is_some() && world.original.is_some();
        let kept = match std::fs::read(&path) {
            Ok(text) if !record => serde_json::from_slice(&text)?,
            _ => BTreeMap::new(),
        };
        let compile = |(pattern, with): (&str, &'static str)| Ok((Regex::new(pattern)?, with));
        let names = NAMES.into_iter().map(compile).collect::<Result<_>>()?;
        let layout = LAYOUT.into_iter().map(compile).collect::<Result<_>>()?;
        let (compared, seen) = (world.original.is_some(), BTreeMap::new());
        Ok(Self { path, kept, record, compared, names, layout, seen })
    }

    /// An outcome without the names that the server gives.
    pub fn unnamed(&self, outcome: Outcome) -> Outcome {
        Outcome { code: outcome.code, out: replace(&self.names, &outcome.out), err: replace(&self.names, &outcome.err) }
    }

    /// A text without what differs from run to run.
    fn plain(&self, text: &str) -> String {
        replace(&self.layout, &replace(&self.names, text))
    }

    fn value(&self, outcome: &Outcome) -> Value {
        json!({"code": outcome.code, "out": self.plain(&outcome.out), "err": self.plain(&outcome.err)})
    }

    /// The same line may stand in a story twice.
    fn key(&mut self, line: &str) -> String {
        let count = self.seen.entry(line.to_owned()).or_insert(0);
        *count += 1;
        if *count == 1 { line.to_owned() } else { format!("{line} #{count}") }
    }

    /// Keeps what the original printed.
    pub fn keep(&mut self, line: &str, outcome: &Outcome) {
        if self.record {
            let (key, value) = (self.key(line), self.value(outcome));
            self.kept.insert(key, value);
        }
    }

    /// How ours differs from what is recorded.
    pub fn differs(&mut self, line: &str, ours: &Outcome) -> Option<String> {
        let (key, ours) = (self.key(line), self.value(ours));
        match self.kept.get(&key) {
            Some(theirs) if *theirs == ours => None,
            Some(theirs) => Some(format!("=== kubectl {line}\nours:   {ours}\ntheirs: {theirs}")),
            None => Some(format!("=== kubectl {line}\nis not recorded: set CORTEN_RECORD=1 with a newer original")),
        }
    }

    /// Writes what was recorded.
    pub fn save(&self) -> Result<()> {
        if !self.record || !self.compared {
            return Ok(());
        }
        let text = serde_json::to_string_pretty(&self.kept)? + "\n";
        std::fs::write(&self.path, text).with_context(|| format!("write {}", self.path.display()))
    }
}
