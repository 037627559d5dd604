//! The scheduler alone, in the shape of scheduler_perf: 5,000 nodes, thousands of pods, no API. One iteration is one pod.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use scheduler::scheduler::{Input, Options, Outcome, Scheduler};
use scheduler::testing::{NodeBuilder, PodBuilder, profiles};

const ZONES: usize = 3;

/// `--test` runs every benchmark once; it is enough to see that they work.
fn size() -> (usize, usize) {
    if std::env::args().any(|a| a == "--test") { (50, 20) } else { (5000, 2000) }
}

fn cluster(nodes: usize) -> Scheduler {
    let mut scheduler = Scheduler::new(profiles(), Options::default());
    let node = |i: usize| {
        NodeBuilder::new(&format!("node-{i}")).label("topology.kubernetes.io/zone", &format!("z{}", i % ZONES))
    };
    let nodes = (0..nodes).map(|i| node(i).allocatable("memory", "32Gi").build()).collect();
    scheduler.apply(Input::AllNodes(nodes), Instant::now());
    scheduler
}

fn loaded(nodes: usize, pods: usize, pod: impl Fn(usize) -> PodBuilder) -> Scheduler {
    let mut scheduler = cluster(nodes);
    for i in 0..pods {
        scheduler.apply(Input::Pod(pod(i).build()), Instant::now());
    }
    scheduler
}

/// Schedules everything, and has every binding succeed.
fn drain(scheduler: &mut Scheduler) -> usize {
    let mut assigned = 0;
    while let Some(outcome) = scheduler.next(Instant::now()) {
        match outcome {
            Outcome::Assigned(a) => {
                assigned += 1;
                scheduler.apply(Input::BindingEnded { uid: a.pod.uid.clone(), result: Ok(()) }, Instant::now());
            }
            Outcome::Failed(rejection) => panic!("{} was not placed: {}", rejection.pod.key(), rejection.message),
            Outcome::Dropped => {}
        }
    }
    assigned
}

fn small_requests(i: usize) -> PodBuilder {
    PodBuilder::new(&format!("pod-{i}")).requests(serde_json::json!({"cpu": "100m", "memory": "500Mi"}))
}

fn basic(c: &mut Criterion) {
    let (nodes, pods) = size();
    let mut group = c.benchmark_group("scheduling");
    group.sample_size(10).measurement_time(Duration::from_secs(10));
    group.throughput(criterion::Throughput::Elements(pods as u64));
    group.bench_function(format!("basic/{nodes}-nodes"), |b| {
        b.iter_batched(
            || loaded(nodes, pods, small_requests),
            |mut scheduler| assert_eq!(black_box(drain(&mut scheduler)), pods),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, basic);
criterion_main!(benches);
