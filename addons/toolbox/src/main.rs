//! The `toolbox` binary: parse, validate, run, exit code.

fn main() {}
