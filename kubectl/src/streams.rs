//! The streams of a command, given to it so that tests can read what it says.

use std::io::Write;

/// Where a command writes. Standard input is read by the commands that ask for it by `-`.
pub struct Streams {
    /// Results.
    pub out: Box<dyn Write + Send>,
    /// Warnings and errors.
    pub err: Box<dyn Write + Send>,
}

impl Streams {
    /// Those of the process.
    pub fn process() -> Self {
        Self { out: Box::new(std::io::stdout()), err: Box::new(std::io::stderr()) }
    }
}
