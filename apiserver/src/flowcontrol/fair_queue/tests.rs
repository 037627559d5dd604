//! The state machine under load: fairness, seats, and that no request is lost.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const MS: Duration = Duration::from_millis(1);

fn queued(queues: usize, hand_size: usize, length_limit: usize) -> Shape {
    Shape::Queue(Queuing { queues, hand_size, length_limit })
}

/// A flow whose hand is just this queue.
const fn flow(queue: u64) -> u64 {
    queue
}

fn executing(arrival: Arrival) -> Key {
    match arrival {
        Arrival::Executing(key) => key,
        other => panic!("{other:?}"),
    }
}

fn waiting(arrival: Arrival) -> Key {
    match arrival {
        Arrival::Waiting(key) => key,
        other => panic!("{other:?}"),
    }
}

#[test]
fn requests_run_while_there_are_seats_then_wait_then_are_refused() {
    let mut set = QueueSet::new(queued(1, 1, 1), 2);
    let now = Duration::ZERO;
    let first = executing(set.arrive(now, 0, Work::seats(1), ()));
    executing(set.arrive(now, 0, Work::seats(1), ()));
    let third = waiting(set.arrive(now, 0, Work::seats(1), ()));
    assert_eq!(set.arrive(now, 0, Work::seats(1), ()), Arrival::Refused(Reason::QueueFull));
    assert_eq!(set.finish(MS, first), Finished { executed: MS, lingering: None });
    assert_eq!(set.take_dispatched(), [third]);
    assert_eq!(set.totals, Totals { waiting: 0, seats_waiting: 0, executing: 2, seats_in_use: 2 });
    assert_eq!(set.counts, Counts { dispatched: 3, rejected: 1, timed_out: 0, cancelled: 0 });
}

#[test]
fn a_level_that_rejects_has_no_queue_and_an_exempt_one_no_limit() {
    let mut set = QueueSet::new(Shape::Reject, 1);
    executing(set.arrive(MS, 7, Work::seats(1), ()));
    assert_eq!(set.arrive(MS, 7, Work::seats(1), ()), Arrival::Refused(Reason::ConcurrencyLimit));
    let mut set = QueueSet::new(Shape::Exempt, 0);
    for _ in 0..100 {
        executing(set.arrive(MS, 7, Work::seats(10), ()));
    }
}

#[test]
fn seats_are_taken_for_the_additional_time_too() {
    let mut set = QueueSet::new(queued(1, 1, 9), 4);
    let work = Work { initial_seats: 1, final_seats: 8, additional: MS };
    let first = executing(set.arrive(MS, 0, work, ()));
    let second = waiting(set.arrive(MS, 0, Work::seats(1), ()));
    // Wider than the level: half of the seats for twice the time.
    assert_eq!(set.finish(2 * MS, first).lingering, Some(2 * MS));
    assert!(set.take_dispatched().is_empty());
    set.release(4 * MS, first);
    assert_eq!(set.take_dispatched(), [second]);
}

#[test]
fn a_request_wider_than_the_level_runs_alone() {
    let mut set = QueueSet::new(queued(1, 1, 9), 2);
    let narrow = executing(set.arrive(MS, 0, Work::seats(1), ()));
    let wide = waiting(set.arrive(MS, 0, Work::seats(5), ()));
    let next = waiting(set.arrive(MS, 0, Work::seats(1), ()));
    set.finish(2 * MS, narrow);
    assert_eq!(set.take_dispatched(), [wide]);
    set.finish(3 * MS, wide);
    assert_eq!(set.take_dispatched(), [next]);
}

#[test]
fn who_gives_up_makes_place_and_cannot_when_it_was_dispatched() {
    let mut set = QueueSet::new(queued(1, 1, 9), 2);
    let first = executing(set.arrive(MS, 0, Work::seats(1), "first"));
    let wide = waiting(set.arrive(MS, 0, Work::seats(2), "wide"));
    let last = waiting(set.arrive(MS, 0, Work::seats(1), "last"));
    assert_eq!(set.cancel(MS, wide, Reason::TimeOut).map(|request| request.detail), Some("wide"));
    // Behind the wide one waited one that has a seat.
    assert_eq!(set.take_dispatched(), [last]);
    assert!(set.cancel(MS, last, Reason::Cancelled).is_none() && set.cancel(MS, first, Reason::Cancelled).is_none());
    assert_eq!((set.counts.timed_out, set.counts.cancelled, set.totals.waiting), (1, 0, 0));
}

#[test]
fn queues_that_are_too_many_are_emptied_first() {
    let mut set = QueueSet::new(queued(4, 1, 9), 1);
    let first = executing(set.arrive(MS, flow(3), Work::seats(1), ()));
    let second = waiting(set.arrive(MS, flow(3), Work::seats(1), ()));
    set.configure(MS, queued(2, 1, 9));
    assert_eq!(set.queues().len(), 4);
    set.finish(MS, first);
    assert_eq!(set.take_dispatched(), [second]);
    set.finish(MS, second);
    assert_eq!(set.queues().len(), 2);
    set.configure(MS, queued(8, 1, 9));
    assert_eq!(set.queues().len(), 8);
}

#[test]
fn more_seats_let_more_run() {
    let mut set = QueueSet::new(queued(1, 1, 9), 1);
    executing(set.arrive(MS, 0, Work::seats(1), ()));
    let waits: Vec<Key> = (0..3).map(|_| waiting(set.arrive(MS, 0, Work::seats(1), ()))).collect();
    set.set_limit(MS, 3);
    assert_eq!(set.take_dispatched(), waits[..2]);
    set.configure(MS, Shape::Exempt);
    assert_eq!(set.totals.waiting, 1);
}

/// Lets flows send requests of some length as fast as they are answered, each so many at a time, and tells how long each was
/// served in all.
fn serve(limit: u32, flows: &[(usize, u64)], rounds: usize) -> Vec<u64> {
    let mut set = QueueSet::new(queued(flows.len(), 1, 1000), limit);
    let mut ends: BTreeMap<(u64, Key), usize> = BTreeMap::new();
    let mut served = vec![0; flows.len()];
    let mut clock = 0;
    let send = |set: &mut QueueSet<usize>, clock: u64, of: usize| {
        let now = Duration::from_millis(clock);
        match set.arrive(now, flow(of as u64), Work::seats(1), of) {
            Arrival::Executing(key) => Some(key),
            _ => None,
        }
    };
    for (of, (parallel, length)) in flows.iter().enumerate() {
        for _ in 0..*parallel {
            if let Some(key) = send(&mut set, clock, of) {
                ends.insert((clock + length, key), of);
            }
        }
    }
    for _ in 0..rounds {
        let Some(((end, key), of)) = ends.pop_first() else { break };
        clock = end;
        served[of] += flows[of].1;
        set.finish(Duration::from_millis(clock), key);
        let again = send(&mut set, clock, of);
        for key in set.take_dispatched().into_iter().chain(again) {
            let of = set.get(key).expect("dispatched").detail;
            ends.insert((clock + flows[of].1, key), of);
        }
    }
    served
}

#[test]
fn a_flow_with_many_requests_gets_no_more_than_one_with_few() {
    let served = serve(4, &[(100, 10), (4, 10), (4, 10)], 3000);
    let mean = served.iter().sum::<u64>() / 3;
    assert!(served.iter().all(|time| time.abs_diff(mean) * 20 <= mean), "{served:?}");
}

#[test]
fn a_flow_with_long_requests_gets_no_more_time_than_one_with_short_ones() {
    let served = serve(4, &[(50, 100), (50, 10)], 5000);
    assert!(served[0].abs_diff(served[1]) * 10 <= served[0], "{served:?}");
}

#[test]
fn a_flow_that_wants_less_than_its_part_gets_all_it_wants() {
    let served = serve(4, &[(100, 7), (1, 10)], 4000);
    // One seat all the time, but for what it waits until one of the others ends.
    let wanted = served.iter().sum::<u64>() / 4;
    assert!(served[1] * 10 >= wanted * 6, "{served:?}");
}

/// One thing that happens to a set.
#[derive(Clone, Debug)]
enum Step {
    Arrive { flow: u64, work: Work },
    End(usize),
    Cancel(usize),
    Release(usize),
    Limit(u32),
    Configure(Shape),
}

fn step() -> impl Strategy<Value = Step> {
    let work = (1_u32..6, 0_u32..6, 0_u64..3).prop_map(|(initial_seats, final_seats, additional)| Work {
        initial_seats,
        final_seats,
        additional: Duration::from_millis(additional),
    });
    let shape = prop_oneof![
        Just(Shape::Reject),
        (1_usize..6, 1_usize..4, 0_usize..4).prop_map(|(queues, hand, limit)| queued(queues, hand.min(queues), limit)),
    ];
    prop_oneof![
        6 => (any::<u64>(), work).prop_map(|(flow, work)| Step::Arrive { flow, work }),
        4 => any::<usize>().prop_map(Step::End),
        2 => any::<usize>().prop_map(Step::Cancel),
        2 => any::<usize>().prop_map(Step::Release),
        1 => (0_u32..10).prop_map(Step::Limit),
        1 => shape.prop_map(Step::Configure),
    ]
}

/// What the other side of a set knows of its requests.
#[derive(Default)]
struct Known {
    waiting: Vec<Key>,
    executing: Vec<Key>,
    lingering: Vec<Key>,
}

impl Known {
    fn take(&mut self, set: &mut QueueSet<()>, step: Step, now: Duration) {
        let pick = |keys: &mut Vec<Key>, at: usize| (!keys.is_empty()).then(|| keys.swap_remove(at % keys.len()));
        match step {
            Step::Arrive { flow, work } => match set.arrive(now, flow, work, ()) {
                Arrival::Executing(key) => self.executing.push(key),
                Arrival::Waiting(key) => self.waiting.push(key),
                Arrival::Refused(_) => {}
            },
            Step::End(at) => {
                if let Some(key) = pick(&mut self.executing, at)
                    && set.finish(now, key).lingering.is_some()
                {
                    self.lingering.push(key);
                }
            }
            Step::Cancel(at) => {
                if let Some(key) = pick(&mut self.waiting, at) {
                    assert!(set.cancel(now, key, Reason::Cancelled).is_some());
                }
            }
            Step::Release(at) => {
                if let Some(key) = pick(&mut self.lingering, at) {
                    set.release(now, key);
                }
            }
            Step::Limit(limit) => set.set_limit(now, limit),
            Step::Configure(shape) => set.configure(now, shape),
        }
        for key in set.take_dispatched() {
            self.waiting.retain(|other| *other != key);
            self.executing.push(key);
        }
    }
}

proptest! {
    #[test]
    fn no_request_is_lost_and_seats_are_never_overrun(steps in proptest::collection::vec(step(), 1..200)) {
        let mut set = QueueSet::new(queued(3, 2, 3), 4);
        let mut known = Known::default();
        let mut limit = 4;
        for (at, step) in steps.into_iter().enumerate() {
            let before = set.totals.seats_in_use;
            let begun = set.counts.dispatched;
            if let Step::Limit(next) = step {
                limit = next;
            }
            known.take(&mut set, step, Duration::from_millis(at as u64));
            let totals = set.totals;
            prop_assert_eq!(totals.waiting as usize, known.waiting.len());
            prop_assert_eq!(totals.executing as usize, known.executing.len());
            let seats = |keys: &[Key]| keys.iter().map(|key| set.get(*key).expect("known").work.max_seats()).sum::<u32>();
            prop_assert_eq!(totals.seats_in_use, seats(&known.executing) + seats(&known.lingering));
            prop_assert_eq!(totals.seats_waiting, seats(&known.waiting));
            let alone = known.executing.len() + known.lingering.len() == 1;
            let grew = totals.seats_in_use > before && set.counts.dispatched > begun;
            prop_assert!(!grew || totals.seats_in_use <= limit || alone, "{:?} of {limit}", totals);
            let queued: usize = set.queues().iter().map(Queue::len).sum();
            prop_assert_eq!(queued, known.waiting.len());
            let active = set.queues().iter().filter(|queue| queue.is_active()).count();
            prop_assert_eq!(set.active as usize, active);
        }
        // Whoever waits is served when the others leave.
        set.set_limit(Duration::from_secs(1), 10);
        for round in 0..1000 {
            let step = if round % 2 == 0 { Step::End(0) } else { Step::Release(0) };
            known.take(&mut set, step, Duration::from_secs(2 + round));
        }
        prop_assert!(set.is_idle(), "{:?}", set.totals);
    }
}
