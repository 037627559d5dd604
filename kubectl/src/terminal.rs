//! The terminal of a process: whether there is one, its raw mode, and its size.

use std::io::{self, IsTerminal};
use std::sync::Arc;

use rustix::termios::{self, OptionalActions, Termios};

/// Columns and rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    pub width: u16,
    pub height: u16,
}

/// A terminal that can give up line editing and echo for a while.
pub trait Terminal: Send + Sync {
    /// Raw until the returned value is dropped.
    ///
    /// # Errors
    /// When the terminal refuses.
    fn raw(&self) -> io::Result<Box<dyn Send>>;

    /// The size, where it is known.
    fn size(&self) -> Option<Size>;
}

/// The terminal of standard input, where it is one.
pub fn of_process() -> Option<Arc<dyn Terminal>> {
    io::stdin().is_terminal().then(|| Arc::new(Tty) as Arc<dyn Terminal>)
}

struct Tty;

/// Puts the terminal's settings back.
struct Restore(Termios);

impl Terminal for Tty {
    fn raw(&self) -> io::Result<Box<dyn Send>> {
        let before = termios::tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        Ok(Box::new(Restore(before)))
    }

    fn size(&self) -> Option<Size> {
        let size = termios::tcgetwinsize(io::stdin()).ok()?;
        Some(Size { width: size.ws_col, height: size.ws_row })
    }
}

impl Drop for Restore {
    fn drop(&mut self) {
        if let Err(error) = termios::tcsetattr(io::stdin(), OptionalActions::Now, &self.0) {
            eprintln!("cannot restore the terminal: {error}");
        }
    }
}
