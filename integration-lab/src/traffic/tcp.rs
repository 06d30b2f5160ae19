//! One long TCP connection, with what the kernel says of it at its end.

use std::io::{Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use crate::sys::tcp_total_retransmissions;

const CHUNK_BYTES: usize = 1024;
/// A chunk this often: a steady flow, not one that fills queues.
const CHUNK_INTERVAL: Duration = Duration::from_millis(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const ACCEPT_POLL: Duration = Duration::from_millis(20);
const IO_TIMEOUT: Duration = Duration::from_secs(10);

/// What the sender did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TcpSent {
    /// Bytes written.
    pub bytes: u64,
    /// `tcpi_total_retrans` after the last of them was acknowledged.
    pub total_retransmissions: u32,
    /// Bytes that the receiver says it got.
    pub acknowledged_by_receiver: u64,
}

/// What the receiver saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TcpReceived {
    /// Bytes read to the end.
    pub bytes: u64,
}

/// Tail loss probes repeat a segment whose acknowledgement is some milliseconds late, which a busy processor is
/// enough for. Without them a retransmission means that a segment was lost or stood still for the 200 ms of the
/// least retransmission timeout. The setting is this network namespace's own.
const LOSS_PROBES: &str = "/proc/sys/net/ipv4/tcp_early_retrans";

/// Sends for some time over one connection, then closes its side and waits for the receiver's count.
pub fn send(to: SocketAddr, seconds: u32) -> anyhow::Result<TcpSent> {
    std::fs::write(LOSS_PROBES, "0").with_context(|| format!("writing {LOSS_PROBES}"))?;
    let mut stream =
        TcpStream::connect_timeout(&to, CONNECT_TIMEOUT).with_context(|| format!("connecting to {to}"))?;
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(IO_TIMEOUT))?;
    stream.set_read_timeout(Some(IO_TIMEOUT))?;
    let end = Instant::now() + Duration::from_secs(seconds.into());
    let chunk = [0x5a_u8; CHUNK_BYTES];
    let mut bytes = 0;
    while Instant::now() < end {
        stream.write_all(&chunk).context("sending")?;
        bytes += CHUNK_BYTES as u64;
        std::thread::sleep(CHUNK_INTERVAL);
    }
    stream
        .shutdown(std::net::Shutdown::Write)
        .context("closing the sending side")?;
    let mut count = [0u8; 8];
    stream
        .read_exact(&mut count)
        .context("waiting for the receiver's count")?;
    let total_retransmissions = tcp_total_retransmissions(stream.as_fd()).context("reading TCP_INFO")?;
    Ok(TcpSent {
        bytes,
        total_retransmissions,
        acknowledged_by_receiver: u64::from_be_bytes(count),
    })
}

/// Receives one connection to its end and answers with the count of its bytes.
pub fn receive(port: u16, seconds: u32) -> anyhow::Result<TcpReceived> {
    let listener =
        TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).with_context(|| format!("listening on {port}"))?;
    listener.set_nonblocking(true)?;
    let end = Instant::now() + Duration::from_secs(seconds.into());
    let mut stream = loop {
        match listener.accept() {
            Ok((stream, _)) => break stream,
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(e) => return Err(e).context("accepting"),
        }
        if Instant::now() > end {
            bail!("nobody connected");
        }
        std::thread::sleep(ACCEPT_POLL);
    };
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(IO_TIMEOUT))?;
    let mut buffer = [0u8; 16 << 10];
    let mut bytes = 0u64;
    loop {
        let length = stream.read(&mut buffer).context("receiving")?;
        if length == 0 {
            break;
        }
        bytes += length as u64;
        if Instant::now() > end {
            bail!("the stream did not end");
        }
    }
    stream
        .write_all(&bytes.to_be_bytes())
        .context("answering with the count")?;
    Ok(TcpReceived { bytes })
}
