//! How a command ends when it does not succeed.

use std::fmt::Display;

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

    pub(crate) fn print(&self) {
        match self.stream {
            Stream::Out => println!("{}", self.text),
            Stream::Err => eprintln!("{}", self.text),
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
