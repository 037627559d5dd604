//! The `kube-apiserver` binary: parse, validate, run, exit code.

fn main() {}
