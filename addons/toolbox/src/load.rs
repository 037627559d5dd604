//! Load on processors and memory.

use std::{
    hint::black_box,
    thread,
    time::{Duration, Instant},
};

use crate::stop;

#[derive(clap::Args)]
pub struct CpuOptions {
    /// Threads that are busy
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// How long, in seconds
    #[arg(long, default_value_t = 60.0)]
    seconds: f64,
}

pub fn cpu(options: &CpuOptions) -> i32 {
    let end = Instant::now() + Duration::from_secs_f64(options.seconds);
    thread::scope(|scope| {
        for _ in 0..options.threads {
            scope.spawn(|| {
                let mut value = 1_u64;
                while Instant::now() < end {
                    for _ in 0..10_000 {
                        value = black_box(value.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
                    }
                }
            });
        }
    });
    0
}

#[derive(clap::Args)]
pub struct MemoryOptions {
    /// MiB to fill
    #[arg(long, default_value_t = 64)]
    mebibytes: usize,
    /// How long to hold them, in seconds
    #[arg(long, default_value_t = 60.0)]
    seconds: f64,
}

pub async fn memory(options: MemoryOptions) -> anyhow::Result<i32> {
    // Every page is written, else the kernel would not give it.
    let held = black_box(vec![1_u8; options.mebibytes << 20]);
    println!("holding {} MiB", held.len() >> 20);
    tokio::select! {
        () = tokio::time::sleep(Duration::from_secs_f64(options.seconds)) => {}
        stopped = stop::requested() => stopped?,
    }
    drop(black_box(held));
    Ok(0)
}
