//! A stream of numbered packets: what was lost, repeated or overtaken is counted.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::socket::{setsockopt, sockopt};
use serde::{Deserialize, Serialize};

/// Packets are numbered from 0 in their first eight bytes; the last number marks the end.
const END_MARK: u64 = u64::MAX;
/// The end is repeated, since it may be lost as well.
const END_COPIES: u32 = 20;
const END_INTERVAL: Duration = Duration::from_millis(20);
const PACKET_BYTES: usize = 128;
/// The sender wakes this often and catches up with its schedule.
const TICK: Duration = Duration::from_millis(1);
/// Room for several seconds of packets, so that a receiver that waits for the processor loses none.
const RECEIVE_BUFFER_BYTES: usize = 32 << 20;
const READ_TIMEOUT: Duration = Duration::from_millis(200);
/// Largest number of packets of one stream: the receiver remembers each.
const PACKETS_MAX: u64 = 10_000_000;

/// What the sender did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sent {
    /// Packets sent.
    pub packets: u64,
    /// Packets that the kernel refused to send.
    pub refused: u64,
    /// Achieved rate.
    pub packets_per_second: f64,
}

/// What the receiver saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Received {
    /// Different packets.
    pub packets: u64,
    /// Repeated ones.
    pub repeated: u64,
    /// How far behind the newest packet the latest latecomer was.
    pub reordered_by_max: u64,
    /// The longest time without a packet, in milliseconds.
    pub gap_max_ms: u64,
    /// Whether the sender's end mark came.
    pub complete: bool,
}

/// Sends at a steady rate.
pub fn send(to: SocketAddr, rate: u32, seconds: u32) -> anyhow::Result<Sent> {
    let total = u64::from(rate) * u64::from(seconds);
    if total == 0 || total > PACKETS_MAX {
        bail!("rate times seconds must be 1 to {PACKETS_MAX}");
    }
    let any: SocketAddr = if to.is_ipv4() {
        ([0, 0, 0, 0], 0).into()
    } else {
        ([0u16; 8], 0).into()
    };
    let socket = UdpSocket::bind(any).context("opening a socket")?;
    socket
        .connect(to)
        .with_context(|| format!("connecting to {to}"))?;
    let mut packet = [0u8; PACKET_BYTES];
    let begin = Instant::now();
    let (mut sent, mut refused) = (0u64, 0u64);
    while sent < total {
        let due = (begin.elapsed().as_secs_f64() * f64::from(rate)) as u64;
        while sent < due.min(total) {
            packet[..8].copy_from_slice(&sent.to_be_bytes());
            // A refused packet counts as sent: the receiver will miss it.
            refused += u64::from(socket.send(&packet).is_err());
            sent += 1;
        }
        std::thread::sleep(TICK);
    }
    let took = begin.elapsed();
    packet[..8].copy_from_slice(&END_MARK.to_be_bytes());
    for _ in 0..END_COPIES {
        std::thread::sleep(END_INTERVAL);
        let _ = socket.send(&packet);
    }
    Ok(Sent {
        packets: sent,
        refused,
        packets_per_second: sent as f64 / took.as_secs_f64(),
    })
}

/// Receives one stream to its end mark.
pub fn receive(listen: SocketAddr, seconds: u32) -> anyhow::Result<Received> {
    let socket = UdpSocket::bind(listen).with_context(|| format!("listening on {listen}"))?;
    setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER_BYTES).context("sizing the receive buffer")?;
    socket
        .set_read_timeout(Some(READ_TIMEOUT))
        .context("setting the read timeout")?;
    let end = Instant::now() + Duration::from_secs(seconds.into());
    let mut stream = Counter::default();
    let mut buffer = [0u8; PACKET_BYTES];
    let mut last: Option<Instant> = None;
    while Instant::now() < end {
        let length = match socket.recv(&mut buffer) {
            Ok(length) => length,
            Err(e)
                if matches!(
                    e.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                ) =>
            {
                continue;
            }
            Err(e) => return Err(e).context("receiving"),
        };
        let Some(number) = buffer[..length].first_chunk::<8>() else {
            continue;
        };
        let number = u64::from_be_bytes(*number);
        if number == END_MARK {
            return Ok(stream.finish(true));
        }
        let now = Instant::now();
        if let Some(last) = last {
            stream.gap_max = stream.gap_max.max(now - last);
        }
        last = Some(now);
        stream.count(number);
    }
    Ok(stream.finish(false))
}

/// What was seen of a stream; pure.
#[derive(Debug, Default)]
struct Counter {
    seen: Vec<u64>,
    packets: u64,
    repeated: u64,
    newest: Option<u64>,
    reordered_by_max: u64,
    gap_max: Duration,
}

impl Counter {
    fn count(&mut self, number: u64) {
        if number >= PACKETS_MAX {
            return;
        }
        let (word, bit) = ((number / 64) as usize, number % 64);
        if self.seen.len() <= word {
            self.seen.resize(word + 1, 0);
        }
        let Some(word) = self.seen.get_mut(word) else {
            return;
        };
        if *word >> bit & 1 == 1 {
            self.repeated += 1;
            return;
        }
        *word |= 1 << bit;
        self.packets += 1;
        match self.newest {
            Some(newest) if number < newest => {
                self.reordered_by_max = self.reordered_by_max.max(newest - number)
            }
            _ => self.newest = Some(number),
        }
    }

    fn finish(self, complete: bool) -> Received {
        Received {
            packets: self.packets,
            repeated: self.repeated,
            reordered_by_max: self.reordered_by_max,
            gap_max_ms: self.gap_max.as_millis() as u64,
            complete,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_repetition_and_order_are_counted() {
        let mut counter = Counter::default();
        for number in [0, 1, 3, 2, 2, 10, 6, 70, u64::MAX - 1] {
            counter.count(number);
        }
        let received = counter.finish(true);
        assert_eq!(
            (received.packets, received.repeated, received.reordered_by_max),
            (7, 1, 4)
        );
    }

    #[test]
    fn a_stream_over_loopback_arrives_whole() {
        let probe = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = probe.local_addr().unwrap();
        drop(probe);
        let receiver = std::thread::spawn(move || receive(address, 10).unwrap());
        std::thread::sleep(Duration::from_millis(200));
        let sent = send(address, 5000, 1).unwrap();
        let received = receiver.join().unwrap();
        assert_eq!(
            (sent.packets, received.packets, received.complete),
            (5000, 5000, true)
        );
        assert_eq!(received.reordered_by_max, 0);
    }
}
