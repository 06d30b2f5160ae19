//! What runs in workloads: servers that say who they are, probes, and streams that notice every lost packet.
//! Hidden subcommands of `lab`, so that nothing else has to be installed in a node.

pub mod flips;
pub mod probe;
pub mod serve;
pub mod tcp;
pub mod udp;

use std::io::Write;
use std::net::{IpAddr, SocketAddr};

use anyhow::Context;

use clap::Subcommand;

/// `lab traffic ...`
#[derive(Debug, Subcommand)]
pub enum Traffic {
    /// Answer TCP connections with this workload's name.
    Serve {
        /// What to answer.
        #[arg(long)]
        name: String,
        /// Ports to listen on.
        #[arg(long, value_delimiter = ',')]
        ports: Vec<u16>,
    },
    /// Read targets from standard input, try them all, print what was seen.
    Probe,
    /// Send numbered packets at a steady rate.
    UdpSend {
        /// Where to.
        #[arg(long)]
        to: SocketAddr,
        /// Packets a second.
        #[arg(long)]
        rate: u32,
        /// For how long.
        #[arg(long)]
        seconds: u32,
    },
    /// Count numbered packets until they end.
    UdpReceive {
        /// Where.
        #[arg(long)]
        listen: SocketAddr,
        /// Give up after this long without an end.
        #[arg(long)]
        seconds: u32,
    },
    /// Send over one TCP connection and report its retransmissions.
    TcpSend {
        /// Address of the receiver.
        #[arg(long)]
        to: IpAddr,
        /// Its port.
        #[arg(long)]
        port: u16,
        /// For how long.
        #[arg(long)]
        seconds: u32,
    },
    /// Try a TCP port again and again and print when it opened and closed.
    Flips {
        /// Address of the server.
        #[arg(long)]
        to: IpAddr,
        /// Its port.
        #[arg(long)]
        port: u16,
        /// For how long.
        #[arg(long)]
        seconds: u32,
    },
    /// Receive one TCP connection to its end.
    TcpReceive {
        /// Port to listen on.
        #[arg(long)]
        port: u16,
        /// Give up after this long.
        #[arg(long)]
        seconds: u32,
    },
}

/// Runs one of them.
pub fn run(traffic: Traffic) -> anyhow::Result<()> {
    match traffic {
        Traffic::Serve { name, ports } => serve::run(&name, &ports),
        Traffic::Probe => probe::run(),
        Traffic::UdpSend { to, rate, seconds } => print(&udp::send(to, rate, seconds)?),
        Traffic::UdpReceive { listen, seconds } => print(&udp::receive(listen, seconds)?),
        Traffic::TcpSend { to, port, seconds } => print(&tcp::send(SocketAddr::new(to, port), seconds)?),
        Traffic::Flips { to, port, seconds } => print(&flips::watch(SocketAddr::new(to, port), seconds)?),
        Traffic::TcpReceive { port, seconds } => print(&tcp::receive(port, seconds)?),
    }
}

pub(crate) fn print<T: serde::Serialize>(value: &T) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(value)?).context("printing the result")
}
