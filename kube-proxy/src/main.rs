//! The `kube-proxy` binary: parse, validate, run, exit code.

fn main() {}
