//! The streams of a command, given to it so that tests can say what it reads and read what it says.

use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};

use crate::terminal::{self, Terminal};

/// Where a command reads and writes.
pub struct Streams {
    /// Standard input, until a command takes it.
    pub input: Option<Box<dyn Read + Send>>,
    /// Results.
    pub out: Box<dyn Write + Send>,
    /// Warnings and errors.
    pub err: Shared,
    /// The terminal behind the streams, where they all are one.
    pub terminal: Option<Arc<dyn Terminal>>,
}

impl Streams {
    /// Those of the process.
    pub fn process() -> Self {
        Self {
            input: Some(Box::new(io::stdin())),
            out: Box::new(io::BufWriter::with_capacity(64 * 1024, io::stdout())),
            err: Shared::new(io::stderr()),
            terminal: terminal::of_process(),
        }
    }

    /// All of standard input as text.
    ///
    /// # Errors
    /// When it cannot be read, or is not UTF-8.
    pub fn read_input(&mut self) -> io::Result<String> {
        let mut text = String::new();
        if let Some(mut input) = self.input.take() {
            input.read_to_string(&mut text)?;
        }
        Ok(text)
    }
}

/// A writer with several owners.
#[derive(Clone)]
pub struct Shared(Arc<Mutex<dyn Write + Send>>);

impl Shared {
    /// Shares a writer.
    pub fn new(writer: impl Write + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(writer)))
    }

    /// What `writeln!` needs.
    ///
    /// # Errors
    /// When the writer cannot be written.
    pub fn write_fmt(&mut self, text: std::fmt::Arguments<'_>) -> io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write_fmt(text)
    }
}

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).flush()
    }
}
