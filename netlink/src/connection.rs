//! The socket: requests with acknowledgements, dumps, and batches.

use std::borrow::Borrow;
use std::time::{Duration, Instant};

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::{
    errno::Errno,
    sys::socket::{setsockopt, sockopt},
    sys::time::{TimeVal, TimeValLike},
};

use crate::{Error, NetNs, Refusal, Request};

/// How long an answer may take before [`Error::Timeout`].
pub const ANSWER_TIME_LIMIT: Duration = Duration::from_secs(10);
/// The largest datagram that the kernel sends: it sizes dumps by the buffer offered, up to 32 KiB.
pub(crate) const RECEIVE_BUFFER_BYTES: usize = 64 * 1024;
/// The socket's receive queue. Only refusals and one acknowledgement a batch are queued by
/// requests, so this is for dumps and for a batch that is refused throughout.
pub(crate) const RECEIVE_QUEUE_BYTES: usize = 8 * 1024 * 1024;
/// Bytes of requests in one send; below the default send buffer (208 KiB) with its overheads.
const BATCH_BYTES_MAX: usize = 64 * 1024;
/// Requests in one send: what a full receive queue of refusals could hold, with room to spare.
const BATCH_REQUESTS_MAX: usize = 1024;
/// How often a dump that the kernel says was inconsistent is read again.
const DUMP_ATTEMPTS: usize = 5;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLMSG_OVERRUN: u16 = 4;
const HEADER_BYTES: usize = 16;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSGERR_ATTR_MSG: u16 = 1;

/// A message to send: type, flags besides `NLM_F_REQUEST`, and what follows the netlink header.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) payload: Vec<u8>,
}

/// What became of a request.
pub type Outcome = Result<(), Refusal>;

/// Requests that are sent together.
#[derive(Debug, Default)]
pub(crate) struct Window {
    buffer: Vec<u8>,
    /// Where the last one begins.
    last: usize,
    count: usize,
    /// The number of the last one; the others have those before it.
    last_sequence: u32,
}

impl Window {
    /// What it has so far; it goes on with an empty one, in this buffer.
    pub(crate) fn take(&mut self, buffer: Vec<u8>) -> Window {
        let empty = Window {
            buffer,
            ..Window::default()
        };
        std::mem::replace(self, empty)
    }

    /// Its buffer, emptied.
    pub(crate) fn into_buffer(mut self) -> Vec<u8> {
        self.buffer.clear();
        self.buffer
    }
}

/// Requests by windows, with numbers that follow `sequence`. Each request is asked for when there is room for it.
pub(crate) fn windows<R: Borrow<Request>>(
    requests: impl IntoIterator<Item = R>,
    sequence: &mut u32,
    mut each: impl FnMut(&mut Window) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut window = Window::default();
    for request in requests {
        if window.buffer.len() >= BATCH_BYTES_MAX || window.count >= BATCH_REQUESTS_MAX {
            each(&mut window)?;
            window.buffer.clear();
            window.count = 0;
        }
        window.last = window.buffer.len();
        *sequence = sequence.wrapping_add(1);
        window.last_sequence = *sequence;
        window.buffer.extend_from_slice(&[0; HEADER_BYTES]);
        let (kind, flags) = request.borrow().write(&mut window.buffer)?;
        close_frame(&mut window.buffer, window.last, kind, flags, *sequence);
        window.count += 1;
    }
    match window.count {
        0 => Ok(()),
        _ => each(&mut window),
    }
}

/// A routing netlink socket. Not shared: one per task or thread; opening one is cheap.
pub struct Connection {
    socket: Socket,
    port: u32,
    received: Vec<u8>,
    sequence: u32,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("sequence", &self.sequence)
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// A socket in the calling thread's network namespace.
    pub fn open() -> Result<Connection, Error> {
        let context = "open a netlink socket";
        let io = |e| Error::io(context, e);
        let mut socket = Socket::new(NETLINK_ROUTE).map_err(io)?;
        let port = socket.bind_auto().map_err(io)?.port_number();
        socket.connect(&SocketAddr::new(0, 0)).map_err(io)?;
        // Short acknowledgements (no copy of the request), with the kernel's words.
        socket.set_cap_ack(true).map_err(io)?;
        socket.set_ext_ack(true).map_err(io)?;
        // Filters of dumps are applied by the kernel, and unknown attributes refused, from 4.20 on.
        socket.set_netlink_get_strict_chk(true).map_err(io)?;
        receive_queue(&socket)?;
        let limit = TimeVal::seconds(ANSWER_TIME_LIMIT.as_secs() as i64);
        setsockopt(&socket, sockopt::ReceiveTimeout, &limit).map_err(|e| Error::io(context, e))?;
        Ok(Connection {
            socket,
            port,
            received: Vec::with_capacity(RECEIVE_BUFFER_BYTES),
            sequence: 0,
        })
    }

    /// A socket in another network namespace; it stays there wherever it is used from.
    pub fn open_in(netns: &NetNs) -> Result<Connection, Error> {
        netns.run(Connection::open)?
    }

    /// What the kernel knows this socket by: changes that it makes are told to others with this number.
    pub fn port(&self) -> u32 {
        self.port
    }

    /// Send `requests` in as few system calls as fit and gather the outcomes: one a request, in
    /// order. A refused request does not stop those after it. An `Err` means that the outcome of
    /// the requests is not known (read the state back). Each is asked for when there is room for it.
    pub fn batch<R: Borrow<Request>>(
        &mut self,
        requests: impl IntoIterator<Item = R>,
    ) -> Result<Vec<Outcome>, Error> {
        let requests = requests.into_iter();
        let mut outcomes = Vec::with_capacity(requests.size_hint().0);
        let mut sequence = self.sequence;
        let sent = windows(requests, &mut sequence, |window| {
            self.send_window(window, &mut outcomes)
        });
        self.sequence = sequence;
        sent.map(|()| outcomes)
    }

    /// The kernel answers refusals always and successes when asked: asking it of the last request
    /// alone makes one acknowledgement the end of the window, since it works in order.
    pub(crate) fn send_window(
        &mut self,
        window: &mut Window,
        outcomes: &mut Vec<Outcome>,
    ) -> Result<(), Error> {
        let (count, last_sequence) = (window.count, window.last_sequence);
        let action = format!("send {count} requests");
        let flags_at = window.last + 6..window.last + 8;
        if let Some([low, high]) = window.buffer.get_mut(flags_at) {
            let flags = u16::from_ne_bytes([*low, *high]) | NLM_F_ACK;
            [*low, *high] = flags.to_ne_bytes();
        }
        self.send(&action, &window.buffer)?;
        let first_sequence = last_sequence.wrapping_sub(count as u32).wrapping_add(1);
        let start = outcomes.len();
        outcomes.extend((0..count).map(|_| Ok(())));
        let mut ended = false;
        while !ended {
            self.receive(&action, |header, payload| {
                let at = header.sequence.wrapping_sub(first_sequence) as usize;
                if header.kind == NLMSG_ERROR && at < count {
                    if let Some(refusal) = refusal(header.flags, payload)
                        && let Some(outcome) = outcomes.get_mut(start + at)
                    {
                        *outcome = Err(refusal);
                    }
                    ended |= header.sequence == last_sequence;
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// One request, one acknowledgement.
    pub(crate) fn call(&mut self, action: impl FnOnce() -> String, message: &Message) -> Result<(), Error> {
        self.query(action, message, |_, _| Ok(()))
    }

    /// One request, its acknowledgement and the messages before it.
    pub(crate) fn query(
        &mut self,
        action: impl FnOnce() -> String,
        message: &Message,
        mut each: impl FnMut(u16, &[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let action = action();
        let mut buffer = Vec::with_capacity(HEADER_BYTES + message.payload.len());
        self.sequence = self.sequence.wrapping_add(1);
        let sequence = self.sequence;
        frame(&mut buffer, message, NLM_F_ACK, sequence);
        self.send(&action, &buffer)?;
        let mut outcome = None;
        while outcome.is_none() {
            self.receive(&action, |header, payload| {
                if header.sequence != sequence {
                    return Ok(());
                }
                match header.kind {
                    NLMSG_ERROR => outcome = Some(refusal(header.flags, payload)),
                    kind if kind > NLMSG_OVERRUN => each(kind, payload)?,
                    _ => {}
                }
                Ok(())
            })?;
        }
        match outcome.flatten() {
            Some(refusal) => Err(Error::Refused { action, refusal }),
            None => Ok(()),
        }
    }

    /// A dump into a list.
    pub(crate) fn dump<T>(
        &mut self,
        action: &str,
        message: &Message,
        each: impl FnMut(u16, &[u8], &mut Vec<T>) -> Result<(), Error>,
    ) -> Result<Vec<T>, Error> {
        self.gather(action, message, each)
    }

    /// A dump: `each` is called for every object, with what was found so far in this attempt.
    pub(crate) fn gather<T: Default>(
        &mut self,
        action: &str,
        message: &Message,
        mut each: impl FnMut(u16, &[u8], &mut T) -> Result<(), Error>,
    ) -> Result<T, Error> {
        for attempt in 1..=DUMP_ATTEMPTS {
            let mut found = T::default();
            let mut buffer = Vec::with_capacity(HEADER_BYTES + message.payload.len());
            self.sequence = self.sequence.wrapping_add(1);
            let sequence = self.sequence;
            frame(&mut buffer, message, NLM_F_DUMP, sequence);
            self.send(action, &buffer)?;
            let mut interrupted = false;
            let mut outcome = None;
            while outcome.is_none() {
                self.receive(action, |header, payload| {
                    if header.sequence != sequence {
                        return Ok(());
                    }
                    interrupted |= header.flags & NLM_F_DUMP_INTR != 0;
                    match header.kind {
                        NLMSG_ERROR | NLMSG_DONE => outcome = Some(refusal(header.flags, payload)),
                        kind if kind > NLMSG_OVERRUN => each(kind, payload, &mut found)?,
                        _ => {}
                    }
                    Ok(())
                })?;
            }
            match outcome.flatten() {
                Some(refusal) => {
                    return Err(Error::Refused {
                        action: action.into(),
                        refusal,
                    });
                }
                // An inconsistent dump missed or repeated something; the last attempt is better than none
                // because the drivers look again.
                None if interrupted && attempt < DUMP_ATTEMPTS => continue,
                None => return Ok(found),
            }
        }
        Ok(T::default())
    }

    fn send(&mut self, action: &str, buffer: &[u8]) -> Result<(), Error> {
        match self.socket.send(buffer, 0) {
            Ok(sent) if sent == buffer.len() => Ok(()),
            Ok(sent) => Err(Error::Malformed {
                action: action.into(),
                reason: format!("only {sent} of {} bytes were sent", buffer.len()),
            }),
            Err(e) => Err(Error::io(action, e)),
        }
    }

    /// One datagram; `each` for every message in it.
    fn receive(
        &mut self,
        action: &str,
        mut each: impl FnMut(&Header, &[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let started = Instant::now();
        loop {
            self.received.clear();
            match self.socket.recv(&mut self.received, 0) {
                Ok(_) => break,
                Err(e) => match e.raw_os_error().map(Errno::from_raw) {
                    Some(Errno::EINTR) if started.elapsed() < ANSWER_TIME_LIMIT => {}
                    Some(Errno::EAGAIN | Errno::EINTR) => {
                        return Err(Error::Timeout {
                            action: action.into(),
                            limit_seconds: ANSWER_TIME_LIMIT.as_secs(),
                        });
                    }
                    Some(Errno::ENOBUFS) => {
                        return Err(Error::Overrun {
                            action: action.into(),
                        });
                    }
                    _ => return Err(Error::io(action, e)),
                },
            }
        }
        for_each_message(&self.received, |header, payload| each(header, payload)).map_err(|e| {
            e.into_error(|reason| Error::Malformed {
                action: action.into(),
                reason,
            })
        })
    }
}

/// Give the socket a queue of [`RECEIVE_QUEUE_BYTES`], or what the limits allow without privileges.
pub(crate) fn receive_queue(socket: &Socket) -> Result<(), Error> {
    if setsockopt(socket, sockopt::RcvBufForce, &RECEIVE_QUEUE_BYTES).is_err() {
        setsockopt(socket, sockopt::RcvBuf, &RECEIVE_QUEUE_BYTES)
            .map_err(|e| Error::io("size a netlink socket's receive queue", e))?;
    }
    Ok(())
}

/// The netlink header's fields that we use.
pub(crate) struct Header {
    pub(crate) kind: u16,
    flags: u16,
    sequence: u32,
}

/// Either an error of the callback or the reason why the bytes are no netlink messages.
pub(crate) enum Broken {
    Callback(Error),
    Bytes(String),
}

impl Broken {
    pub(crate) fn into_error(self, bytes: impl FnOnce(String) -> Error) -> Error {
        match self {
            Broken::Callback(error) => error,
            Broken::Bytes(reason) => bytes(reason),
        }
    }
}

/// Split a datagram into its messages.
pub(crate) fn for_each_message(
    mut rest: &[u8],
    mut each: impl FnMut(&Header, &[u8]) -> Result<(), Error>,
) -> Result<(), Broken> {
    while !rest.is_empty() {
        let Some(&[l0, l1, l2, l3, k0, k1, f0, f1, s0, s1, s2, s3, ..]) = rest.get(..HEADER_BYTES) else {
            return Err(Broken::Bytes(format!(
                "{} bytes are too few for a header",
                rest.len()
            )));
        };
        let length = u32::from_ne_bytes([l0, l1, l2, l3]) as usize;
        let Some(payload) = rest.get(HEADER_BYTES..length) else {
            return Err(Broken::Bytes(format!("length {length} in {} bytes", rest.len())));
        };
        let header = Header {
            kind: u16::from_ne_bytes([k0, k1]),
            flags: u16::from_ne_bytes([f0, f1]),
            sequence: u32::from_ne_bytes([s0, s1, s2, s3]),
        };
        each(&header, payload).map_err(Broken::Callback)?;
        rest = rest.get(align(length)..).unwrap_or_default();
    }
    Ok(())
}

/// Append a message with its header.
fn frame(buffer: &mut Vec<u8>, message: &Message, flags: u16, sequence: u32) {
    let start = buffer.len();
    buffer.extend_from_slice(&[0; HEADER_BYTES]);
    buffer.extend_from_slice(&message.payload);
    close_frame(buffer, start, message.kind, message.flags | flags, sequence);
}

/// Fill in the header of the message that began at `start`, and pad it.
fn close_frame(buffer: &mut Vec<u8>, start: usize, kind: u16, flags: u16, sequence: u32) {
    let length = buffer.len() - start;
    if let Some(header) = buffer
        .get_mut(start..)
        .and_then(<[u8]>::first_chunk_mut::<HEADER_BYTES>)
    {
        let [l0, l1, l2, l3] = (length as u32).to_ne_bytes();
        let [k0, k1] = kind.to_ne_bytes();
        let [f0, f1] = (NLM_F_REQUEST | flags).to_ne_bytes();
        let [s0, s1, s2, s3] = sequence.to_ne_bytes();
        // The last four are the sender's port: the kernel knows it.
        *header = [l0, l1, l2, l3, k0, k1, f0, f1, s0, s1, s2, s3, 0, 0, 0, 0];
    }
    buffer.resize(buffer.len() + align(length) - length, 0);
}

fn align(length: usize) -> usize {
    length.div_ceil(4) * 4
}

/// What an NLMSG_ERROR or NLMSG_DONE says: nothing for success.
fn refusal(flags: u16, payload: &[u8]) -> Option<Refusal> {
    let Some(&[a, b, c, d]) = payload.get(..4) else {
        return None; // an empty NLMSG_DONE is a success
    };
    let code = i32::from_ne_bytes([a, b, c, d]);
    if code == 0 {
        return None;
    }
    Some(Refusal {
        errno: Errno::from_raw(code.saturating_neg()),
        message: extended_message(flags, payload),
    })
}

/// The text after the (capped) copy of the request's header (linux/netlink.h, nlmsgerr_attrs).
fn extended_message(flags: u16, payload: &[u8]) -> Option<Box<str>> {
    if flags & NLM_F_ACK_TLVS == 0 {
        return None;
    }
    let request = payload
        .get(4..8)
        .map(|l| u32::from_ne_bytes([l[0], l[1], l[2], l[3]]) as usize)?;
    let skip = if flags & NLM_F_CAPPED != 0 {
        HEADER_BYTES
    } else {
        align(request)
    };
    let mut rest = payload.get(4 + skip..)?;
    while let Some(&[l0, l1, k0, k1]) = rest.get(..4) {
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = rest.get(4..length)?;
        if u16::from_ne_bytes([k0, k1]) & 0x3fff == NLMSGERR_ATTR_MSG {
            let text = String::from_utf8_lossy(value);
            return Some(text.trim_end_matches('\0').into());
        }
        rest = rest.get(align(length)..)?;
    }
    None
}
