//! Our kubectl and the original, side by side on a real apiserver: what they print, on both streams, and their exit
//! codes are the same. `CORTEN_FOREIGN_KUBECTL` names the original.
//!
//! An original that is older than [`OLDEST`] prints other things. Then ours is held against what a newer one printed,
//! which is kept beside this file; `CORTEN_RECORD=1` writes that anew.

mod cases;
mod recorded;
mod world;

use anyhow::{Context, Result, bail};

use recorded::Recorded;
use world::{Outcome, World, words};

/// The oldest minor version of kubectl that is compared with directly.
pub const OLDEST: u32 = 32;
/// Between two commands time passes, which their output shows as ages: then both are asked again.
const ATTEMPTS: usize = 4;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the command lines that still differ from the original are being worked through"]
async fn both_kubectls_say_the_same() -> Result<()> {
    let world = World::start().await?;
    for (name, text) in cases::FILES {
        world.file(name, text)?;
    }
    let mut recorded = Recorded::load(&world)?;
    let mut different = Vec::new();
    for line in cases::READING {
        different.extend(compare(&world, line, true, &mut recorded)?);
    }
    for line in cases::CHANGING.iter().flat_map(|story| story.iter()) {
        different.extend(compare(&world, line, false, &mut recorded)?);
    }
    recorded.save()?;
    if different.is_empty() {
        return Ok(());
    }
    bail!("{} command lines differ:\n{}", different.len(), different.join("\n"))
}

/// Runs one command line with both, and tells how they differ.
fn compare(world: &World, line: &str, reading: bool, recorded: &mut Recorded) -> Result<Option<String>> {
    let words = words(line);
    let Some((original, version)) = &world.original else {
        let ours = world.ours.run(&words, reading)?;
        return Ok(recorded.differs(line, &ours));
    };
    let mut last = None;
    for _ in 0..if reading { ATTEMPTS } else { 1 } {
        let (ours, theirs) = (world.ours.start(&words, reading)?, original.start(&words, reading)?);
        let (ours, theirs) = (ours.wait()?, theirs.wait()?);
        let theirs = cases::of_today(line, version, theirs, &original.namespace);
        recorded.keep(line, &theirs);
        // Each changes objects of its own.
        let (ours, theirs) = if reading { (ours, theirs) } else { (recorded.unnamed(ours), recorded.unnamed(theirs)) };
        if ours == theirs {
            return Ok(None);
        }
        last = Some(difference(line, &ours, &theirs));
    }
    last.map(Some).context("no attempt")
}

/// Both outcomes, as far as they differ.
fn difference(line: &str, ours: &Outcome, theirs: &Outcome) -> String {
    let mut text = format!("=== kubectl {line}\n");
    if ours.code != theirs.code {
        text.push_str(&format!("exit code {} instead of {}\n", ours.code, theirs.code));
    }
    for (name, ours, theirs) in [("stdout", &ours.out, &theirs.out), ("stderr", &ours.err, &theirs.err)] {
        if ours != theirs {
            text.push_str(&format!("{name}:\n{}", by_line(ours, theirs)));
        }
    }
    text
}

/// Lines that only one of two texts has where they first and last differ.
fn by_line(ours: &str, theirs: &str) -> String {
    let (ours, theirs): (Vec<&str>, Vec<&str>) = (ours.split('\n').collect(), theirs.split('\n').collect());
    let same = ours.iter().zip(&theirs).take_while(|(a, b)| a == b).count();
    let rest = ours.len().min(theirs.len()) - same;
    let tail = ours.iter().rev().zip(theirs.iter().rev()).take(rest).take_while(|(a, b)| a == b).count();
    let part = |lines: &[&str], mark: &str| -> String {
        lines[same..lines.len() - tail].iter().map(|line| format!("{mark} {line}\n")).collect()
    };
    part(&ours, "ours:  ") + &part(&theirs, "theirs:")
}
