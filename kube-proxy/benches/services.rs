//! Row 17 of the performance goals: many Services at once, and then one more, in the real kernel, in a network
//! namespace of its own. `cargo bench -p kube-proxy` runs it with 10,000; `-- 100` with 100. Needs root.

use kube_proxy::nft::{Nft, Program};
use kube_proxy::plan::{LocalTraffic, Policy};
use kube_proxy::proxier::Proxier;
use kube_proxy::testing;
use kube_proxy::view::Family;
use std::process::Command;
use std::time::Instant;

const SERVICES: u32 = 10_000;
const ENDPOINTS: u32 = 2;
const MORE: u32 = 20;

fn main() -> anyhow::Result<()> {
    // `cargo test --benches` and CI run it small: to see that it works, not how fast.
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let small = !arguments.iter().any(|a| a == "--bench");
    let count = arguments.iter().find_map(|a| a.parse().ok()).unwrap_or(if small { 50 } else { SERVICES });
    let namespace = Namespace::new()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(measure(count, &namespace))
}

async fn measure(count: u32, namespace: &Namespace) -> anyhow::Result<()> {
    let nft = Program::with_command(["ip", "netns", "exec", &namespace.0, "nft"].map(String::from).into());
    let policy = Policy { local_traffic: LocalTraffic::ClusterCidr(vec!["10.0.0.0/8".parse()?]), ..Policy::default() };
    let mut proxier = Proxier::new(vec![Family::V4, Family::V6], policy, testing::node(), Vec::new());
    (0..count).for_each(|n| add(&mut proxier, n));
    let (planned, applied) = sync(&mut proxier, &nft).await?;
    println!("{count} Services, {ENDPOINTS} endpoints each");
    println!("full sync          plan {:>9.3} ms   nft {:>9.3} ms", planned, applied);

    proxier.failed();
    let (planned, applied) = sync(&mut proxier, &nft).await?;
    println!("rebuild            plan {:>9.3} ms   nft {:>9.3} ms", planned, applied);

    let mut times = Vec::new();
    for n in count..count + MORE {
        add(&mut proxier, n);
        let (planned, applied) = sync(&mut proxier, &nft).await?;
        times.push(planned + applied);
    }
    times.sort_by(f64::total_cmp);
    let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
    println!("one more Service   median {median:>7.3} ms   worst {worst:>7.3} ms");
    Ok(())
}

fn add(proxier: &mut Proxier, n: u32) {
    let name = format!("s{n}");
    let ip = std::net::Ipv4Addr::from(u32::from(std::net::Ipv4Addr::new(10, 96, 0, 0)) + n);
    let service = testing::service(&name, &ip.to_string());
    let first = u32::from(std::net::Ipv4Addr::new(10, 128, 0, 0)) + n * ENDPOINTS;
    let endpoints: Vec<String> =
        (0..ENDPOINTS).map(|e| format!("{}@n2", std::net::Ipv4Addr::from(first + e))).collect();
    let endpoints: Vec<&str> = endpoints.iter().map(String::as_str).collect();
    proxier.set_service(&service.name.clone(), Some(service));
    proxier.set_slice(&("ns".into(), name.clone()), Some(testing::slice(&name, &endpoints)));
}

/// Milliseconds of planning and writing, and of the kernel with the program in between.
async fn sync(proxier: &mut Proxier, nft: &Program) -> anyhow::Result<(f64, f64)> {
    let begin = Instant::now();
    let script = proxier.plan().transaction.render();
    let planned = begin.elapsed();
    nft.apply(&script).await?;
    Ok((planned.as_secs_f64() * 1e3, (begin.elapsed() - planned).as_secs_f64() * 1e3))
}

struct Namespace(String);

impl Namespace {
    fn new() -> anyhow::Result<Self> {
        let name = format!("kp-bench-{}", std::process::id());
        let status = Command::new("ip").args(["netns", "add", &name]).status()?;
        anyhow::ensure!(status.success(), "cannot make a network namespace: needs root and the package iproute2");
        Ok(Self(name))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = Command::new("ip").args(["netns", "del", &self.0]).status() {
            eprintln!("{} is left behind: {error}", self.0);
        }
    }
}
