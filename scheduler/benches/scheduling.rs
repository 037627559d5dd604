//! The scheduler alone, in the shapes of scheduler_perf: 5,000 nodes, thousands of pods, no API. The rate is of pods that are placed.

use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use scheduler::labels::intern;
use scheduler::scheduler::{Input, Options, Outcome, Promise, Scheduler};
use scheduler::testing::{NodeBuilder, PodBuilder, profiles};
use serde_json::{Value, json};

const ZONE: &str = "topology.kubernetes.io/zone";
const HOSTNAME: &str = "kubernetes.io/hostname";
const ZONES: usize = 3;

/// A kind of load.
struct Shape {
    name: &'static str,
    nodes: usize,
    /// Pods that are there before, spread evenly.
    there: (usize, fn(usize) -> PodBuilder),
    /// Pods that are placed.
    pods: (usize, fn(usize) -> PodBuilder),
}

const SHAPES: &[Shape] = &[
    Shape { name: "basic", nodes: 5000, there: (1000, small), pods: (2000, small) },
    Shape { name: "spread", nodes: 5000, there: (5000, small), pods: (2000, spread) },
    Shape { name: "affinity", nodes: 5000, there: (5000, near), pods: (1000, near) },
    Shape { name: "anti-affinity", nodes: 5000, there: (1000, apart), pods: (1000, apart) },
    Shape { name: "preemption", nodes: 500, there: (2000, unimportant), pods: (500, important) },
];

impl Shape {
    /// `--test` runs every benchmark once; small ones are enough to see that they work.
    fn sized(&self) -> Self {
        let part = if std::env::args().any(|argument| argument == "--test") { 50 } else { 1 };
        Self {
            nodes: self.nodes / part,
            there: (self.there.0 / part, self.there.1),
            pods: (self.pods.0 / part, self.pods.1),
            ..*self
        }
    }

    fn start(&self) -> Scheduler {
        let mut scheduler = Scheduler::new(profiles(), Options::default());
        let node = |i: usize| {
            NodeBuilder::new(&format!("node-{i}")).label(ZONE, &format!("z{}", i % ZONES)).allocatable("memory", "32Gi")
        };
        scheduler.apply(Input::AllNodes((0..self.nodes).map(|i| node(i).build()).collect()), Instant::now());
        scheduler.apply(
            Input::AllNamespaces(vec![(intern("default"), scheduler::labels::Labels::default())]),
            Instant::now(),
        );
        let (count, pod) = self.there;
        for i in 0..count {
            let there = pod(i).with("/metadata", json!({ "name": format!("there-{i}"), "uid": format!("there-{i}") }));
            scheduler.apply(Input::Pod(there.node(&format!("node-{}", i % self.nodes)).build()), Instant::now());
        }
        let (count, pod) = self.pods;
        (0..count).for_each(|i| scheduler.apply(Input::Pod(pod(i).build()), Instant::now()));
        scheduler
    }

    /// Schedules everything, and has every binding and every deletion succeed.
    fn drain(&self, scheduler: &mut Scheduler) {
        let (mut assigned, mut now) = (0, Instant::now());
        while assigned < self.pods.0 {
            let Some(outcome) = scheduler.next(now) else {
                // Those for whom room was made wait a little before they are tried again.
                now = scheduler.next_due().expect("a pod that waits is due some time");
                continue;
            };
            match outcome {
                Outcome::Assigned(assignment) => {
                    assigned += 1;
                    scheduler.apply(Input::BindingEnded { uid: assignment.pod.uid.clone(), result: Ok(()) }, now);
                }
                Outcome::Failed(rejection) => {
                    let Promise::Made(made_room) = rejection.promise else {
                        panic!("{} was not placed: {}", rejection.pod.key(), rejection.message)
                    };
                    for victim in made_room.victims {
                        scheduler.apply(Input::PodGone { uid: victim.uid.clone() }, now);
                    }
                }
                Outcome::Dropped => {}
            }
        }
    }
}

fn small(i: usize) -> PodBuilder {
    PodBuilder::new(&format!("pod-{i}")).requests(json!({ "cpu": "100m", "memory": "500Mi" }))
}

fn spread(i: usize) -> PodBuilder {
    let constraint = json!({ "topologyKey": ZONE, "maxSkew": 5, "whenUnsatisfiable": "DoNotSchedule", "labelSelector": alike("blue") });
    small(i).labels(json!({ "color": "blue" })).spec(json!({ "topologySpreadConstraints": [constraint] }))
}

fn near(i: usize) -> PodBuilder {
    let terms = json!([{ "labelSelector": alike("blue"), "topologyKey": ZONE }]);
    let affinity = json!({ "podAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": terms } });
    small(i).labels(json!({ "color": "blue" })).spec(json!({ "affinity": affinity }))
}

fn apart(i: usize) -> PodBuilder {
    let terms = json!([{ "labelSelector": alike("green"), "topologyKey": HOSTNAME }]);
    let affinity = json!({ "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": terms } });
    small(i).labels(json!({ "color": "green" })).spec(json!({ "affinity": affinity }))
}

fn alike(color: &str) -> Value {
    json!({ "matchLabels": { "color": color } })
}

fn unimportant(i: usize) -> PodBuilder {
    PodBuilder::new(&format!("pod-{i}")).cpu("900m").priority(1)
}

fn important(i: usize) -> PodBuilder {
    PodBuilder::new(&format!("pod-{i}")).cpu("3").priority(1000)
}

fn scheduling(c: &mut Criterion) {
    let mut group = c.benchmark_group("scheduling");
    group.sample_size(10).measurement_time(Duration::from_secs(10));
    for shape in SHAPES.iter().map(Shape::sized) {
        group.throughput(criterion::Throughput::Elements(shape.pods.0 as u64));
        group.bench_function(format!("{}/{}-nodes", shape.name, shape.nodes), |b| {
            b.iter_batched(|| shape.start(), |mut scheduler| shape.drain(&mut scheduler), BatchSize::PerIteration);
        });
    }
    group.finish();
}

criterion_group!(benches, scheduling);
criterion_main!(benches);
