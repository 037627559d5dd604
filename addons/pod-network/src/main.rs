//! The `pod-network` binary: parse, validate, run, exit code.

fn main() {}
