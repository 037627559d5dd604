//! The `kubelet` binary: parse, validate, run, exit code.

fn main() {}
