//! The `corten-images` binary: parse, validate, run, exit code.

fn main() {}
