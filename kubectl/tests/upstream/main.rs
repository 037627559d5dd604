//! Our kubectl and the original, side by side on a real apiserver: what they print, on both streams, and their exit
//! codes are the same. `CORTEN_FOREIGN_KUBECTL` names the original.
//!
//! An original that is older than [`OLDEST`] prints other things. Then ours is held against what a newer one printed,
//! which is kept beside this file; `CORTEN_RECORD=1` writes that anew.

mod cases;
mod files;
mod node;
mod recorded;
mod rules;
mod watching;
mod world;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Result, anyhow, bail};

use recorded::{Keys, Recorded};
use world::{Outcome, Pair, World, words};

/// The oldest minor version of kubectl that is compared with directly.
pub const OLDEST: u32 = 33;
/// Between two commands time passes, which their output shows as ages: then both are asked again, and ages of the same length
/// are the same.
const ATTEMPTS: usize = 5;
/// How many pairs of commands run at a time.
const TOGETHER: usize = 4;

#[tokio::test(flavor = "multi_thread")]
async fn both_kubectls_say_the_same() -> Result<()> {
    let world = World::start().await?;
    let recorded = Recorded::load(&world, "recorded.json")?;
    let reader = world.pair("default", "default")?;
    let mut different = together(cases::READING, |_, line| {
        Ok(compare(&reader, line, &recorded, &mut Keys::of(""))?.into_iter().collect())
    })?;
    different.extend(together(cases::CHANGING, |place, story| tell(&world, place, story, &recorded))?);
    for case in cases::WATCHING {
        different.extend(watching::compare(&reader, case, &recorded)?);
    }
    recorded.save()?;
    if different.is_empty() {
        return Ok(());
    }
    bail!("{} command lines differ:\n{}", different.len(), different.join("\n"))
}

/// Does what is to be done for each case, several at a time, and gathers what differs in the order of the cases.
fn together<T: Sync>(cases: &[T], run: impl Fn(usize, &T) -> Result<Vec<String>> + Sync) -> Result<Vec<String>> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some((place, case)) = {
            let place = next.fetch_add(1, Ordering::Relaxed);
            cases.get(place).map(|case| (place, case))
        } {
            let outcome = run(place, case);
            done.lock().map_err(|_| anyhow!("a thread panicked"))?.push((place, outcome));
        }
        Ok::<(), anyhow::Error>(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..TOGETHER).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?)
    })?;
    let mut done = done.into_inner().map_err(|_| anyhow!("a thread panicked"))?;
    done.sort_by_key(|(place, _)| *place);
    let lists = done.into_iter().map(|(_, outcome)| outcome).collect::<Result<Vec<_>>>()?;
    Ok(lists.into_iter().flatten().collect())
}

/// A story, told by each kubectl in a namespace of its own.
fn tell(world: &World, place: usize, story: &[&str], recorded: &Recorded) -> Result<Vec<String>> {
    let pair = world.pair(&format!("alpha-{place:02}"), &format!("gamma-{place:02}"))?;
    let mut keys = Keys::of(&format!("{place}: "));
    let mut different = Vec::new();
    for line in story {
        different.extend(compare(&pair, line, recorded, &mut keys)?);
    }
    Ok(different)
}

/// Runs one command line with both, and tells how they differ.
fn compare(pair: &Pair, line: &str, recorded: &Recorded, keys: &mut Keys) -> Result<Option<String>> {
    let (words, key) = (words(line), keys.next(line));
    let Some((original, version)) = &pair.original else {
        return recorded.differs(&key, &rules::in_order(line, pair.ours.run(&words)?));
    };
    let mut difference = None;
    for attempt in 0..if rules::looks(&words) { ATTEMPTS } else { 1 } {
        let (ours, theirs) = (pair.ours.start(&words)?, original.start(&words)?);
        let (ours, theirs) = (rules::in_order(line, ours.wait()?), rules::in_order(line, theirs.wait()?));
        let theirs = rules::of_today(line, version, theirs);
        recorded.keep(&key, &theirs)?;
        // In a story each looks at objects of its own.
        let (ours, theirs) =
            if pair.same_objects() { (ours, theirs) } else { (recorded.plain(&ours), recorded.plain(&theirs)) };
        let but_for_ages = || attempt > 0 && recorded.ageless(&ours) == recorded.ageless(&theirs);
        if ours.code != world::LATE && (ours == theirs || but_for_ages()) {
            return Ok(None);
        }
        difference = Some(describe(&key, &ours, &theirs));
    }
    Ok(difference)
}

/// Both outcomes, as far as they differ.
fn describe(line: &str, ours: &Outcome, theirs: &Outcome) -> String {
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

/// The lines that only one of two texts has.
fn by_line(ours: &str, theirs: &str) -> String {
    let (ours, theirs): (Vec<&str>, Vec<&str>) = (ours.split('\n').collect(), theirs.split('\n').collect());
    // How many lines are common to what follows each pair of places.
    let mut common = vec![vec![0; theirs.len() + 1]; ours.len() + 1];
    for (i, line) in ours.iter().enumerate().rev() {
        for (j, other) in theirs.iter().enumerate().rev() {
            common[i][j] =
                if line == other { common[i + 1][j + 1] + 1 } else { common[i + 1][j].max(common[i][j + 1]) };
        }
    }
    let (mut i, mut j, mut text) = (0, 0, String::new());
    while i < ours.len() || j < theirs.len() {
        if i < ours.len() && j < theirs.len() && ours[i] == theirs[j] {
            (i, j) = (i + 1, j + 1);
        } else if j == theirs.len() || i < ours.len() && common[i + 1][j] >= common[i][j + 1] {
            text.push_str(&format!("ours:   {}\n", ours[i]));
            i += 1;
        } else {
            text.push_str(&format!("theirs: {}\n", theirs[j]));
            j += 1;
        }
    }
    text
}
