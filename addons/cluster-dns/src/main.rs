//! The `cluster-dns` binary: parse, validate, run, exit code.

fn main() {}
