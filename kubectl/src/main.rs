//! The `kubectl` binary: parse, validate, run, exit code.

fn main() {}
