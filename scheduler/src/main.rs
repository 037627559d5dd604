//! The `kube-scheduler` binary.

use std::process::ExitCode;

use scheduler::service;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    component_base::process::main("kube-scheduler", service::run)
}
