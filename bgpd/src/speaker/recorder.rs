//! Recordings of sessions: a file a neighbour's task, all of them written by one thread. A session never waits
//! for the disk; where the disk is too slow, its recording ends.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::config::NeighborKey;
use crate::session::{Event, Recording, Settings, Timestamp};

/// Lines that wait for the thread.
const QUEUE_LINES: usize = 4096;

struct Line {
    file: Arc<Path>,
    octets: Vec<u8>,
}

/// Starts recordings.
#[derive(Clone, Debug)]
pub(super) struct Recorder {
    directory: Arc<Path>,
    lines: SyncSender<Line>,
}

impl Recorder {
    /// Records into a directory, which is made if it is not there.
    pub(super) fn start(directory: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(directory)?;
        let (lines, queue) = sync_channel(QUEUE_LINES);
        std::thread::Builder::new()
            .name("bgp-recorder".to_owned())
            .spawn(move || write_lines(&queue))?;
        Ok(Self {
            directory: directory.into(),
            lines,
        })
    }

    /// A recording of a session that is about to be made.
    pub(super) fn session(
        &self,
        key: NeighborKey,
        settings: &Settings,
        seed: u64,
    ) -> Option<SessionRecording> {
        let name = |c: char| {
            if c.is_ascii_alphanumeric() || c == '.' {
                c
            } else {
                '_'
            }
        };
        let neighbor: String = key.to_string().chars().map(name).collect();
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or(Duration::ZERO);
        let file = self
            .directory
            .join(format!("{neighbor}-{}.jsonl", since.as_millis()));
        let sink = Sink {
            file: file.into(),
            line: Vec::new(),
            lines: self.lines.clone(),
        };
        match Recording::start(sink, settings, seed) {
            Ok(recording) => Some(SessionRecording { key, recording }),
            Err(error) => {
                tracing::warn!(neighbor = %key, %error, "the session is not recorded");
                None
            }
        }
    }
}

/// The recording of one session.
#[derive(Debug)]
pub(super) struct SessionRecording {
    key: NeighborKey,
    recording: Recording<Sink>,
}

impl SessionRecording {
    /// Adds an event before it is handled. False: the recording has ended, because one with a gap is worth
    /// nothing.
    pub(super) fn event(&mut self, at: Timestamp, event: &Event) -> bool {
        let written = self.recording.event(at, event);
        if let Err(error) = &written {
            tracing::warn!(neighbor = %self.key, %error, "the session's recording ends here");
        }
        written.is_ok()
    }
}

/// Gathers a line and gives it to the thread.
#[derive(Debug)]
struct Sink {
    file: Arc<Path>,
    line: Vec<u8>,
    lines: SyncSender<Line>,
}

impl Write for Sink {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.line.extend(octets);
        if self.line.ends_with(b"\n") {
            let line = Line {
                file: Arc::clone(&self.file),
                octets: std::mem::take(&mut self.line),
            };
            self.lines
                .try_send(line)
                .map_err(|_| io::Error::other("the disk is too slow"))?;
        }
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Ends with the last recorder and recording.
fn write_lines(queue: &Receiver<Line>) {
    let mut files: HashMap<Arc<Path>, Option<File>> = HashMap::new();
    while let Ok(line) = queue.recv() {
        let file = files.entry(Arc::clone(&line.file)).or_insert_with(|| {
            let created = File::create(&*line.file);
            created.map_err(|error| failed(&line.file, &error)).ok()
        });
        let Some(open) = file else { continue };
        if let Err(error) = open.write_all(&line.octets) {
            failed(&line.file, &error);
            *file = None;
        }
    }
}

fn failed(file: &Path, error: &io::Error) {
    let path: PathBuf = file.into();
    tracing::error!(path = %path.display(), %error, "a session cannot be recorded");
}
