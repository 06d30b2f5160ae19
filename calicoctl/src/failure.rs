//! How a command ends when it does not succeed.

use std::fmt::Display;
use std::io::{ErrorKind, Write};

/// What to print before exiting with 1.
#[derive(Debug)]
pub(crate) struct Failure {
    text: String,
    stream: Stream,
}

#[derive(Debug, Clone, Copy)]
enum Stream {
    Out,
    Err,
    /// Nobody reads any more.
    None,
}

impl Failure {
    /// A message on standard error.
    pub(crate) fn new(text: impl Display) -> Self {
        Self {
            text: text.to_string(),
            stream: Stream::Err,
        }
    }

    /// A message on standard output, as some early failures have it.
    pub(crate) fn on_stdout(text: impl Display) -> Self {
        Self {
            text: text.to_string(),
            stream: Stream::Out,
        }
    }

    /// Nothing to say: nobody reads any more.
    pub(crate) fn silent() -> Self {
        Self {
            text: String::new(),
            stream: Stream::None,
        }
    }

    pub(crate) fn print(&self) {
        match self.stream {
            // With both streams closed there is nobody left to tell.
            Stream::Out => drop(writeln!(std::io::stdout(), "{}", self.text)),
            Stream::Err => drop(writeln!(std::io::stderr(), "{}", self.text)),
            Stream::None => {}
        }
    }
}

impl From<datastore::Error> for Failure {
    fn from(error: datastore::Error) -> Self {
        Self::new(error)
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::new(error)
    }
}

/// Writes to standard output at once. A reader that went away (`| head`) ends the command without a word.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| match error.kind() {
            ErrorKind::BrokenPipe => Failure::silent(),
            _ => Failure::new(format!("cannot write to standard output: {error}")),
        })
}
