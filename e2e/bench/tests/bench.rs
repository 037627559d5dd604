//! The benchmark runs, at a tiny size: it fails on errors, never on slowness.

use std::process::Command;

use anyhow::Result;

#[test]
fn the_benchmark_prints_a_line_for_each_row() -> Result<()> {
    let output = Command::new(env!("CARGO_BIN_EXE_corten-bench"))
        .args(["--pods=100", "--objects=120", "--seconds=0.05"])
        .output()?;
    let text = String::from_utf8(output.stdout)?;
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    for row in ["1", "2", "3", "4", "5", "6", "7", "8", "9", "18", "19"] {
        assert!(text.lines().any(|line| line.starts_with(&format!("| {row} |"))), "no row {row} in\n{text}");
    }
    Ok(())
}
