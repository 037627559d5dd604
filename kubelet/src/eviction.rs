//! Keeping the node alive when memory, disk or process ids run short: which resources are short, what the node says about it, and which
//! pod has to go. Pure; `manager` measures and carries it out.
//!
//! Kubernetes documentation, "Node-pressure Eviction".

pub mod limits;
pub mod manager;
pub mod rank;
pub mod usage;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::quantity;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Signal {
    /// First, since without memory nothing else can be done.
    MemoryAvailable,
    NodefsAvailable,
    NodefsInodesFree,
    ImagefsAvailable,
    ImagefsInodesFree,
    PidAvailable,
}

/// What the node says of itself, and what pods see of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pressure {
    Memory,
    Disk,
    Pid,
}

impl Pressure {
    /// The condition of the node.
    pub fn condition(self) -> &'static str {
        match self {
            Self::Memory => "MemoryPressure",
            Self::Disk => "DiskPressure",
            Self::Pid => "PIDPressure",
        }
    }
}

impl Signal {
    const ALL: [Self; 6] = [
        Self::MemoryAvailable,
        Self::NodefsAvailable,
        Self::NodefsInodesFree,
        Self::ImagefsAvailable,
        Self::ImagefsInodesFree,
        Self::PidAvailable,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::MemoryAvailable => "memory.available",
            Self::NodefsAvailable => "nodefs.available",
            Self::NodefsInodesFree => "nodefs.inodesFree",
            Self::ImagefsAvailable => "imagefs.available",
            Self::ImagefsInodesFree => "imagefs.inodesFree",
            Self::PidAvailable => "pid.available",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|signal| signal.name() == name)
    }

    pub fn pressure(self) -> Pressure {
        match self {
            Self::MemoryAvailable => Pressure::Memory,
            Self::PidAvailable => Pressure::Pid,
            _ => Pressure::Disk,
        }
    }

    /// The resource, as people and events call it.
    pub fn resource(self) -> &'static str {
        match self {
            Self::MemoryAvailable => "memory",
            Self::NodefsAvailable | Self::ImagefsAvailable => "ephemeral-storage",
            Self::NodefsInodesFree | Self::ImagefsInodesFree => "inodes",
            Self::PidAvailable => "pids",
        }
    }

    /// A number of this signal's units as people write it.
    pub fn show(self, amount: i64) -> String {
        match self {
            Self::MemoryAvailable | Self::NodefsAvailable | Self::ImagefsAvailable => format!("{}Ki", amount / 1024),
            _ => amount.to_string(),
        }
    }
}

/// An amount, or a part of what there is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Amount {
    Units(i64),
    Percent(f64),
}

impl Amount {
    fn parse(text: &str) -> Option<Self> {
        match text.strip_suffix('%') {
            Some(percent) => percent.parse().ok().filter(|percent| (0.0..=100.0).contains(percent)).map(Self::Percent),
            None => quantity::value(&Quantity(text.to_owned())).filter(|units| *units >= 0).map(Self::Units),
        }
    }

    pub fn of(self, whole: i64) -> i64 {
        match self {
            Self::Units(units) => units,
            Self::Percent(percent) => (whole as f64 * percent / 100.0) as i64,
        }
    }
}

/// Below which amount of a signal something is done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Threshold {
    pub signal: Signal,
    pub amount: Amount,
    /// How long it has to last. None at all makes it a hard one: pods then get no grace.
    pub lasts: Duration,
    /// What has to be there beyond the amount before it is over.
    pub reclaim: Amount,
}

impl Threshold {
    pub fn is_hard(&self) -> bool {
        self.lasts.is_zero()
    }

    fn is_met(&self, seen: Seen, with_reclaim: bool) -> bool {
        let more = if with_reclaim { self.reclaim.of(seen.capacity) } else { 0 };
        seen.available < self.amount.of(seen.capacity) + more
    }
}

/// The settings, as in `KubeletConfiguration`.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    pub hard: &'a BTreeMap<String, String>,
    pub soft: &'a BTreeMap<String, String>,
    pub soft_grace: &'a BTreeMap<String, Duration>,
    pub reclaim: &'a BTreeMap<String, String>,
}

/// The thresholds of settings, or everything that is wrong with them.
pub fn thresholds(settings: Settings<'_>) -> Result<Vec<Threshold>, Vec<String>> {
    let (mut found, mut wrong) = (Vec::new(), Vec::new());
    let mut amount = |field: &str, name: &str, text: &str| {
        let parsed = Signal::parse(name).zip(Amount::parse(text));
        if parsed.is_none() {
            wrong.push(format!("{field}[{name}]: Invalid value: {text:?}"));
        }
        parsed
    };
    let mut reclaims = HashMap::new();
    for (name, text) in settings.reclaim {
        reclaims.extend(amount("evictionMinimumReclaim", name, text));
    }
    let mut missing = Vec::new();
    for (list, field) in [(settings.hard, "evictionHard"), (settings.soft, "evictionSoft")] {
        for (name, text) in list {
            let Some((signal, value)) = amount(field, name, text) else { continue };
            let lasts =
                if field == "evictionHard" { Some(Duration::ZERO) } else { settings.soft_grace.get(name).copied() };
            let Some(lasts) = lasts else {
                missing.push(format!("evictionSoftGracePeriod[{name}]: Required value: evictionSoft names it"));
                continue;
            };
            // An amount of nothing is never reached: that is how a threshold is switched off.
            if value != Amount::Units(0) && value != Amount::Percent(0.0) {
                let reclaim = reclaims.get(&signal).copied().unwrap_or(Amount::Units(0));
                found.push(Threshold { signal, amount: value, lasts, reclaim });
            }
        }
    }
    wrong.extend(missing);
    found.sort_by_key(|threshold| threshold.signal);
    if wrong.is_empty() { Ok(found) } else { Err(wrong) }
}

/// What was measured of one signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    pub available: i64,
    pub capacity: i64,
}

pub type Measured = BTreeMap<Signal, Seen>;

/// What is remembered from one look to the next.
#[derive(Debug, Default)]
pub struct State {
    /// Since when thresholds have been met, by their place in the list.
    since: HashMap<usize, Timestamp>,
    last: HashMap<Pressure, Timestamp>,
}

/// What follows from a look.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    pub pressures: BTreeSet<Pressure>,
    /// The threshold to act on, the most urgent one.
    pub act: Option<Threshold>,
}

impl State {
    /// Takes a look. A pressure stays told for `transition` after it was last seen, so that it does not flap.
    pub fn step(
        &mut self,
        thresholds: &[Threshold],
        measured: &Measured,
        transition: Duration,
        now: Timestamp,
    ) -> Verdict {
        let age = |since: Timestamp| Duration::try_from(now.duration_since(since)).unwrap_or_default();
        let mut act = None;
        for (index, threshold) in thresholds.iter().enumerate() {
            let was_met = self.since.contains_key(&index);
            let is_met = measured.get(&threshold.signal).is_some_and(|seen| threshold.is_met(*seen, was_met));
            if !is_met {
                self.since.remove(&index);
                continue;
            }
            let since = *self.since.entry(index).or_insert(now);
            self.last.insert(threshold.signal.pressure(), now);
            if age(since) >= threshold.lasts && act.is_none() {
                act = Some(*threshold);
            }
        }
        self.last.retain(|_, last| age(*last) < transition || *last == now);
        Verdict { pressures: self.last.keys().copied().collect(), act }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn parse(
        hard: &[(&str, &str)],
        soft: &[(&str, &str)],
        reclaim: &[(&str, &str)],
    ) -> Result<Vec<Threshold>, Vec<String>> {
        let soft_grace = soft.iter().map(|(key, _)| ((*key).to_owned(), Duration::from_secs(30))).collect();
        let (hard, soft, reclaim) = (map(hard), map(soft), map(reclaim));
        thresholds(Settings { hard: &hard, soft: &soft, soft_grace: &soft_grace, reclaim: &reclaim })
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn memory(available: i64) -> Measured {
        [(Signal::MemoryAvailable, Seen { available, capacity: 1000 })].into()
    }

    #[test]
    fn settings_are_read_and_every_fault_is_named() {
        let found =
            parse(&[("nodefs.available", "10%"), ("memory.available", "1Ki"), ("pid.available", "0")], &[], &[])
                .unwrap();
        assert_eq!(
            found.iter().map(|threshold| threshold.signal.name()).collect::<Vec<_>>(),
            ["memory.available", "nodefs.available"]
        );
        assert_eq!((found[0].amount.of(9), found[1].amount.of(200)), (1024, 20));
        let wrong = parse(&[("memory.free", "1"), ("memory.available", "x")], &[("nodefs.available", "101%")], &[])
            .unwrap_err();
        assert_eq!(wrong.len(), 3, "{wrong:?}");
        let soft = map(&[("memory.available", "1")]);
        let empty = BTreeMap::new();
        let missing = thresholds(Settings { hard: &empty, soft: &soft, soft_grace: &BTreeMap::new(), reclaim: &empty });
        assert!(missing.unwrap_err()[0].contains("Required value"));
    }

    #[test]
    fn a_hard_threshold_acts_at_once_and_its_pressure_outlasts_it() {
        let list = parse(&[("memory.available", "100")], &[], &[]).unwrap();
        let (mut state, transition) = (State::default(), Duration::from_secs(60));
        assert_eq!(state.step(&list, &memory(100), transition, at(0)), Verdict::default());
        let verdict = state.step(&list, &memory(99), transition, at(10));
        assert_eq!((verdict.pressures, verdict.act), ([Pressure::Memory].into(), Some(list[0])));
        let after = state.step(&list, &memory(500), transition, at(60));
        assert_eq!((after.pressures, after.act), ([Pressure::Memory].into(), None));
        assert_eq!(state.step(&list, &memory(500), transition, at(70)), Verdict::default());
    }

    #[test]
    fn a_soft_threshold_has_to_last() {
        let list = parse(&[], &[("memory.available", "100")], &[]).unwrap();
        let mut state = State::default();
        let mut acts = |available, seconds| {
            let verdict = state.step(&list, &memory(available), Duration::ZERO, at(seconds));
            (!verdict.pressures.is_empty(), verdict.act.is_some())
        };
        assert_eq!(acts(50, 0), (true, false));
        assert_eq!(acts(50, 29), (true, false));
        assert_eq!(acts(150, 30), (false, false), "it was interrupted");
        assert_eq!(acts(50, 31), (true, false));
        assert_eq!(acts(50, 60), (true, false));
        assert_eq!(acts(50, 61), (true, true));
    }

    #[test]
    fn more_than_the_threshold_has_to_be_reclaimed() {
        let list = parse(&[("memory.available", "100")], &[], &[("memory.available", "5%")]).unwrap();
        let mut state = State::default();
        let mut acts =
            |available, seconds| state.step(&list, &memory(available), Duration::ZERO, at(seconds)).act.is_some();
        assert_eq!(
            [acts(120, 0), acts(99, 1), acts(149, 2), acts(150, 3), acts(120, 4)],
            [false, true, true, false, false]
        );
    }

    #[test]
    fn memory_is_more_urgent_than_disk() {
        let list = parse(&[("nodefs.available", "100"), ("memory.available", "100")], &[], &[]).unwrap();
        let mut measured = memory(1);
        measured.insert(Signal::NodefsAvailable, Seen { available: 1, capacity: 1000 });
        let verdict = State::default().step(&list, &measured, Duration::ZERO, at(0));
        assert_eq!(verdict.act.unwrap().signal, Signal::MemoryAvailable);
        assert_eq!(verdict.pressures, [Pressure::Memory, Pressure::Disk].into());
    }
}
