//! Recordings of a session as JSON lines, and their replay.

use std::io::{BufRead, Write};

use serde::{Deserialize, Serialize};

use super::{Action, Event, Session, Settings, State, Timestamp};

/// Longest line that a replay reads, in bytes.
const LINE_MAX_BYTES: usize = 1 << 20;

/// One line of a recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entry {
    /// The first line: what the session was made of.
    Session {
        /// Its settings.
        settings: Settings,
        /// The seed of its jitter.
        seed: u64,
    },
    /// What happened to it.
    Event {
        /// When.
        at: Timestamp,
        /// What.
        event: Event,
    },
}

/// A recording that cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The file cannot be read.
    #[error("recording: {0}")]
    Read(#[from] std::io::Error),
    /// A line is not an entry, or not in its place.
    #[error("recording line {line}: {reason}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
}

/// Writes entries, one a line.
#[derive(Debug)]
pub struct Recording<W>(W);

impl<W: Write> Recording<W> {
    /// Starts a recording of a session that is about to be made.
    pub fn start(mut out: W, settings: &Settings, seed: u64) -> std::io::Result<Self> {
        write_line(
            &mut out,
            &Entry::Session {
                settings: settings.clone(),
                seed,
            },
        )?;
        Ok(Self(out))
    }

    /// Adds an event before it is handled.
    pub fn event(&mut self, at: Timestamp, event: &Event) -> std::io::Result<()> {
        write_line(
            &mut self.0,
            &Entry::Event {
                at,
                event: event.clone(),
            },
        )
    }
}

fn write_line(out: &mut impl Write, entry: &Entry) -> std::io::Result<()> {
    serde_json::to_writer(&mut *out, entry)?;
    out.write_all(b"\n")
}

/// An event of a recording and what the session did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// When.
    pub at: Timestamp,
    /// What happened.
    pub event: Event,
    /// What the session did.
    pub actions: Vec<Action>,
    /// Where it stood then.
    pub state: State,
}

/// Runs a recording: the session at its end, and what it did at each event.
pub fn replay(recording: impl BufRead) -> Result<(Session, Vec<Step>), ReplayError> {
    let mut session = None;
    let mut steps = Vec::new();
    for (index, line) in recording.lines().enumerate() {
        let line = line?;
        let wrong = |reason: String| ReplayError::Line {
            line: index + 1,
            reason,
        };
        if line.len() > LINE_MAX_BYTES {
            return Err(wrong(format!("is longer than {LINE_MAX_BYTES} bytes")));
        }
        let entry = serde_json::from_str(&line).map_err(|error| wrong(error.to_string()))?;
        match (entry, &mut session) {
            (Entry::Session { settings, seed }, None) => session = Some(Session::new(settings, seed)),
            (Entry::Event { at, event }, Some(session)) => {
                let actions = session.handle(event.clone(), at);
                let state = session.state();
                steps.push(Step {
                    at,
                    event,
                    actions,
                    state,
                });
            }
            (Entry::Session { .. }, Some(_)) => {
                return Err(wrong("a second session: write one recording a file".to_owned()));
            }
            (Entry::Event { .. }, None) => {
                return Err(wrong("an event before the session's settings".to_owned()));
            }
        }
    }
    let empty = || ReplayError::Line {
        line: 1,
        reason: "the recording is empty".to_owned(),
    };
    Ok((session.ok_or_else(empty)?, steps))
}
