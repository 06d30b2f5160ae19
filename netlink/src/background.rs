//! Batches that a thread of their own sends while the caller prepares the next one.

use std::borrow::Borrow;
use std::collections::VecDeque;
use std::sync::mpsc;
use std::thread::JoinHandle;

use crate::connection::{Connection, Outcome, Window, windows};
use crate::{Error, NetNs, Request};

/// What became of a window, and its buffer to be used again.
type Answer = (Result<Vec<Outcome>, Error>, Vec<u8>);

/// A connection with a thread that sends: the kernel works on a batch within the call that sends it, and the caller
/// need not wait for that. Batches are carried out in order. Dropping it ends the thread, once what was submitted is
/// sent.
#[derive(Debug)]
pub struct Background {
    port: u32,
    sequence: u32,
    windows: Option<mpsc::Sender<Window>>,
    answers: mpsc::Receiver<Answer>,
    /// How many windows each batch has whose outcomes were not asked for yet.
    batches: VecDeque<usize>,
    spare: Vec<Vec<u8>>,
    thread: Option<JoinHandle<()>>,
}

impl Background {
    /// A connection in another network namespace, with a thread of this name.
    pub fn open_in(netns: &NetNs, name: &str) -> Result<Background, Error> {
        let connection = Connection::open_in(netns)?;
        let port = connection.port();
        let (windows, to_send) = mpsc::channel();
        let (answered, answers) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || serve(connection, &to_send, &answered))
            .map_err(|error| Error::io("start a thread that sends requests", error))?;
        Ok(Background {
            port,
            sequence: 0,
            windows: Some(windows),
            answers,
            batches: VecDeque::new(),
            spare: Vec::new(),
            thread: Some(thread),
        })
    }

    /// What the kernel knows its socket by: see [`Connection::port`].
    pub fn port(&self) -> u32 {
        self.port
    }

    /// Send `requests`, as [`Connection::batch`] does, without waiting for the kernel. The caller bounds how many
    /// batches are under way. After an error, none of this batch is.
    pub fn submit<R: Borrow<Request>>(&mut self, requests: impl IntoIterator<Item = R>) -> Result<(), Error> {
        let mut ready = 0;
        let Background {
            sequence,
            windows: to_send,
            spare,
            ..
        } = self;
        let encoded = windows(requests, sequence, |window| {
            let full = window.take(spare.pop().unwrap_or_default());
            // A thread that has ended is found out when the outcomes are asked for.
            let sent = to_send.as_ref().map(|to_send| to_send.send(full));
            ready += usize::from(matches!(sent, Some(Ok(()))));
            Ok(())
        });
        self.batches.push_back(ready);
        match encoded {
            Ok(()) => Ok(()),
            Err(error) => {
                // What was sent before the request that cannot be encoded.
                self.batches.pop_back();
                self.gather(ready).and(Err(error))
            }
        }
    }

    /// The outcomes of the oldest batch under way, as [`Connection::batch`] gives them; waits for the kernel. No
    /// outcomes if none is under way.
    pub fn outcomes(&mut self) -> Result<Vec<Outcome>, Error> {
        let windows = self.batches.pop_front().unwrap_or_default();
        self.gather(windows)
    }

    fn gather(&mut self, windows: usize) -> Result<Vec<Outcome>, Error> {
        let mut gathered = Ok(Vec::new());
        for _ in 0..windows {
            let Ok((outcomes, buffer)) = self.answers.recv() else {
                let ended = std::io::Error::other("the thread that sends requests has ended");
                return Err(Error::io("wait for the kernel", ended));
            };
            self.spare.push(buffer);
            match (&mut gathered, outcomes) {
                (Ok(all), Ok(outcomes)) => all.extend(outcomes),
                (Ok(_), Err(error)) => gathered = Err(error),
                (Err(_), _) => {}
            }
        }
        gathered
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.windows = None;
        if let Some(thread) = self.thread.take() {
            // It has nothing to say but what `outcomes` gave.
            let _ = thread.join();
        }
    }
}

fn serve(mut connection: Connection, windows: &mpsc::Receiver<Window>, answers: &mpsc::Sender<Answer>) {
    for mut window in windows {
        let mut outcomes = Vec::new();
        let sent = connection.send_window(&mut window, &mut outcomes);
        let answer = sent.map(|()| outcomes);
        if answers
            .send((answer, window.take(Vec::new()).into_buffer()))
            .is_err()
        {
            break;
        }
    }
}
