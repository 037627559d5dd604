//! Commands that go on until they are interrupted, while objects change.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::recorded::Recorded;
use super::world::{Kubectl, Outcome, Pair, words};

/// How long a line may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A command that goes on, and what happens meanwhile.
pub struct Watching {
    pub line: &'static str,
    /// How many lines it prints before anything changes.
    pub before: usize,
    /// What changes objects, by our kubectl.
    pub changes: &'static [&'static str],
    /// How many lines it prints then.
    pub after: usize,
}

/// Runs the command with both, and tells how they differ. They are interrupted when each has printed its lines.
pub fn compare(pair: &Pair, case: &Watching, recorded: &Recorded) -> Result<Option<String>> {
    let mut ours = Follower::start(&pair.ours, case.line)?;
    let mut theirs = match &pair.original {
        Some((original, _)) => Some(Follower::start(original, case.line)?),
        None => None,
    };
    ours.read(case.before)?;
    theirs.iter_mut().try_for_each(|theirs| theirs.read(case.before))?;
    for change in case.changes {
        let outcome = pair.ours.run(&words(change))?;
        if outcome.code != 0 {
            bail!("{change}: {outcome:?}");
        }
    }
    ours.read(case.after)?;
    theirs.iter_mut().try_for_each(|theirs| theirs.read(case.after))?;
    let (ours, theirs) = (ours.end()?, theirs.map(Follower::end).transpose()?);
    let Some(theirs) = theirs else {
        return recorded.differs(case.line, &ours);
    };
    recorded.keep(case.line, &theirs)?;
    let (ours, theirs) = (recorded.plain(&ours), recorded.plain(&theirs));
    Ok((ours != theirs).then(|| super::describe(case.line, &ours, &theirs)))
}

/// A running command whose lines are read as they come.
struct Follower<'a> {
    kubectl: &'a Kubectl,
    line: &'static str,
    child: Child,
    lines: Receiver<std::io::Result<String>>,
    read: String,
}

impl<'a> Follower<'a> {
    fn start(kubectl: &'a Kubectl, line: &'static str) -> Result<Self> {
        let mut child = kubectl.command(&words(line)).spawn()?;
        let out = child.stdout.take().context("no standard output")?;
        let (sender, lines) = channel();
        // Ends with the command, or with whoever reads.
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines() {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { kubectl, line, child, lines, read: String::new() })
    }

    fn read(&mut self, count: usize) -> Result<()> {
        for _ in 0..count {
            let line = self.lines.recv_timeout(PATIENCE);
            let line = line.with_context(|| format!("{}: no more than:\n{}", self.line, self.read))??;
            self.read.push_str(&line);
            self.read.push('\n');
        }
        Ok(())
    }

    /// Interrupts the command.
    fn end(mut self) -> Result<Outcome> {
        let pid = self.child.id().to_string();
        if !Command::new("kill").args(["-s", "INT", &pid]).status()?.success() {
            bail!("{} ended by itself: {}", self.line, self.read);
        }
        let code = self.child.wait()?.code().unwrap_or(-1);
        let mut err = String::new();
        self.child.stderr.take().context("no standard error")?.read_to_string(&mut err)?;
        for line in self.lines.iter() {
            self.read.push_str(&line?);
            self.read.push('\n');
        }
        Ok(Outcome { code, out: self.kubectl.without_own(&self.read), err: self.kubectl.without_own(&err) })
    }
}
