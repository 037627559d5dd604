//! The `kubeadm` binary: parse, validate, run, exit code.

fn main() {}
