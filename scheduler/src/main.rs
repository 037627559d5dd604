//! The `kube-scheduler` binary: parse, validate, run, exit code.

fn main() {}
