//! The `kube-controller-manager` binary: parse, validate, run, exit code.

fn main() {}
