//! The `kube-controller-manager` binary.

use std::process::ExitCode;

use controller_manager::service;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    component_base::process::main("kube-controller-manager", service::run)
}
