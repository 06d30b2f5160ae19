//! The commands about a running speaker: their grammar, what they ask, and how they print the answer.

mod actions;
mod explain;
mod output;
mod peers;
mod routes;
mod watch;

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use tonic::Status;
use tonic::transport::Channel;

use crate::v1::bgp_client::BgpClient;
pub use output::Format;

/// The largest answer that is read: all routes of a big table.
const ANSWER_BYTES_MAX: usize = 1024 * 1024 * 1024;
/// How long one answer may take.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);

/// What can be asked of a speaker.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Neighbours and their sessions; with PEER, everything about one
    Peers(PeersOptions),
    /// Routes that were selected, received, accepted, rejected or advertised, with the reason of each decision
    Routes(RoutesOptions),
    /// Every path of a prefix, why it is or is not used, and which peers are told of it
    Explain(ExplainOptions),
    /// The speaker as a whole: identity, sizes, the state of the kernel's routes
    Summary(OutputOptions),
    /// Move traffic away before maintenance: announce everything with 65535:0 and LOCAL_PREF 0 (RFC 8326)
    Drain(DrainOptions),
    /// The end of drain
    Undrain,
    /// End a session so that it starts again, or with --soft only judge its routes again
    Reset(ResetOptions),
    /// Forget the penalties of routes that flapped, so that those which are dampened are used again (RFC 2439)
    ClearDampening(ClearDampeningOptions),
    /// Write the whole table to an MRT file now, where the speaker's configuration says
    Dump,
    /// Follow changes of sessions and of selected routes
    Watch(WatchOptions),
}

/// How to print.
#[derive(Debug, Clone, Args)]
pub struct OutputOptions {
    /// ps, wide, json or yaml
    #[arg(short = 'o', long, value_enum, default_value_t = Format::Ps)]
    pub output: Format,
}

/// Options of `peers`.
#[derive(Debug, Clone, Args)]
pub struct PeersOptions {
    /// Address of one peer, with its port where it is not 179
    pub peer: Option<String>,
    /// How to print.
    #[command(flatten)]
    pub output: OutputOptions,
}

/// Which routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum View {
    /// What was selected
    Best,
    /// What a peer told us
    Received,
    /// Of that, what passed loop checks and import policy
    Accepted,
    /// Of that, what did not
    Rejected,
    /// What we tell a peer
    Advertised,
}

impl View {
    fn as_str(self) -> &'static str {
        match self {
            Self::Best => "best",
            Self::Received => "received",
            Self::Accepted => "accepted",
            Self::Rejected => "rejected",
            Self::Advertised => "advertised",
        }
    }
}

/// Options of `routes`.
#[derive(Debug, Clone, Args)]
pub struct RoutesOptions {
    /// Only this prefix
    pub prefix: Option<String>,
    /// best; received, accepted, rejected and advertised need --peer
    #[arg(long, value_enum)]
    pub view: Option<View>,
    /// The peer; without --view, what it told us
    #[arg(long)]
    pub peer: Option<String>,
    /// With PREFIX: what lies inside it too
    #[arg(long, requires = "prefix")]
    pub longer: bool,
    /// At most this many, by prefix; 0 for all, in no order
    #[arg(long, default_value_t = 1000)]
    pub limit: u32,
    /// How to print.
    #[command(flatten)]
    pub output: OutputOptions,
}

/// Options of `explain`.
#[derive(Debug, Clone, Args)]
pub struct ExplainOptions {
    /// A prefix, or an address: then the longest prefix that holds it
    pub prefix: String,
    /// How to print.
    #[command(flatten)]
    pub output: OutputOptions,
}

/// Options of `drain`.
#[derive(Debug, Clone, Args)]
pub struct DrainOptions {
    /// Seconds to wait afterwards, for peers to move their traffic
    #[arg(long, default_value_t = 10, value_name = "SECONDS")]
    pub wait: u64,
}

/// Directions of a soft reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Direction {
    /// Judge what it told us again, and ask it to send that again
    In,
    /// Send it everything again
    Out,
    /// Both
    Both,
}

/// Options of `reset`.
#[derive(Debug, Clone, Args)]
pub struct ResetOptions {
    /// Address of the peer, with its port where it is not 179
    pub peer: String,
    /// Leave the session up
    #[arg(long, value_enum)]
    pub soft: Option<Direction>,
}

/// Options of `clear-dampening`.
#[derive(Debug, Clone, Args)]
pub struct ClearDampeningOptions {
    /// Only this prefix
    pub prefix: Option<String>,
    /// Only routes of this peer
    #[arg(long)]
    pub peer: Option<String>,
}

/// Options of `watch`.
#[derive(Debug, Clone, Args)]
pub struct WatchOptions {
    /// Only changes of sessions
    #[arg(long, conflicts_with = "routes")]
    pub peers: bool,
    /// Only changes of selected routes
    #[arg(long)]
    pub routes: bool,
    /// ps, or json: an object a line
    #[arg(short = 'o', long, value_enum, default_value_t = Format::Ps)]
    pub output: Format,
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The speaker refused or is gone.
    #[error("{0}")]
    Refused(String),
    /// There is nothing of what was asked for.
    #[error("{0}")]
    Nothing(String),
    /// The answer cannot be printed.
    #[error("cannot print the answer: {0}")]
    Print(String),
    /// The reader of the output went away: there is nobody to tell.
    #[error("nobody reads the output")]
    Closed,
}

impl From<Status> for CommandError {
    fn from(status: Status) -> Self {
        let text = match status.message() {
            "" => status.code().to_string(),
            message => message.to_owned(),
        };
        Self::Refused(text)
    }
}

/// Runs a command and prints to standard output.
///
/// # Errors
/// When the speaker refuses, when there is nothing of what was asked for, or when output fails.
pub async fn run(command: &Command, channel: Channel) -> Result<(), CommandError> {
    let mut client = BgpClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
    match command {
        Command::Peers(options) => peers::run(&mut client, options).await,
        Command::Routes(options) => routes::run(&mut client, options).await,
        Command::Explain(options) => explain::run(&mut client, options).await,
        Command::Summary(options) => peers::summary(&mut client, options.output).await,
        Command::Drain(options) => actions::drain(&mut client, options).await,
        Command::Undrain => actions::undrain(&mut client).await,
        Command::Reset(options) => actions::reset(&mut client, options).await,
        Command::ClearDampening(options) => actions::clear_dampening(&mut client, options).await,
        Command::Dump => actions::dump(&mut client).await,
        Command::Watch(options) => watch::run(&mut client, options).await,
    }
}

/// A request that is given up after [`ANSWER_TIME_MAX`].
fn request<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(ANSWER_TIME_MAX);
    request
}
