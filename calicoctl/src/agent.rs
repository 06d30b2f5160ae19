//! The connection to this host's agent, on its Unix socket.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use api_proto::v1::agent_client::AgentClient;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};

/// How long connecting to the agent, and one answer of it, may take.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);
/// The largest answer that is read: flows of a busy host.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Not used on a Unix socket, but a URI must have one.
const AUTHORITY: &str = "http://agent.local";

/// Why the agent cannot be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AgentError {
    /// Nobody serves the socket.
    #[error("no agent is running: nobody serves {0}")]
    NotRunning(PathBuf),
    /// The socket is not ours to open.
    #[error("{0}")]
    Denied(String),
    /// Anything else.
    #[error("cannot reach the agent on {path}: {reason}")]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// What happened.
        reason: String,
    },
}

/// Connects to the agent that serves `path`, for single questions.
pub(crate) async fn connect(path: &Path) -> Result<AgentClient<Channel>, AgentError> {
    connect_by(path, Endpoint::from_static(AUTHORITY).timeout(ANSWER_TIME_MAX)).await
}

/// As [`connect`], for streams that last.
pub(crate) async fn connect_for_stream(path: &Path) -> Result<AgentClient<Channel>, AgentError> {
    connect_by(path, Endpoint::from_static(AUTHORITY)).await
}

async fn connect_by(path: &Path, endpoint: Endpoint) -> Result<AgentClient<Channel>, AgentError> {
    let channel = channel_by(path, endpoint).await?;
    Ok(AgentClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX))
}

/// A connection for other services of the agent.
pub(crate) async fn channel(path: &Path) -> Result<Channel, AgentError> {
    channel_by(path, Endpoint::from_static(AUTHORITY)).await
}

async fn channel_by(path: &Path, endpoint: Endpoint) -> Result<Channel, AgentError> {
    // The first connection tells in the system's own words why there is none.
    probe(path).await?;
    let socket = path.to_owned();
    let connector = tower::service_fn(move |_: Uri| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    endpoint
        .connect_timeout(ANSWER_TIME_MAX)
        .connect_with_connector(connector)
        .await
        .map_err(|error| AgentError::Unreachable {
            path: path.to_owned(),
            reason: error.to_string(),
        })
}

async fn probe(path: &Path) -> Result<(), AgentError> {
    match UnixStream::connect(path).await {
        Ok(_) => Ok(()),
        Err(error) => Err(match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => AgentError::NotRunning(path.to_owned()),
            ErrorKind::PermissionDenied => AgentError::Denied(denied(path)),
            _ => AgentError::Unreachable {
                path: path.to_owned(),
                reason: error.to_string(),
            },
        }),
    }
}

fn denied(path: &Path) -> String {
    let who = match std::fs::metadata(path) {
        Ok(metadata) => {
            let gid = metadata.gid();
            let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
            match group_name(&groups, gid) {
                Some(name) => {
                    format!("members of group {name} may: run as root, or join it (usermod -aG {name} USER)")
                }
                None => format!("members of the group with id {gid} may: run as root, or join it"),
            }
        }
        Err(_) => "its folder is not open to you: run as root".to_owned(),
    };
    format!(
        "permission denied on the agent's socket {}; {who}",
        path.display()
    )
}

/// The name of a group in the text of `/etc/group`.
fn group_name(groups: &str, gid: u32) -> Option<&str> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let id: u32 = fields.nth(1)?.parse().ok()?;
        (id == gid).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups() {
        let groups = "root:x:0:\nmargay:x:998:alice,bob\nbroken\n";
        assert_eq!(group_name(groups, 998), Some("margay"));
        assert_eq!(group_name(groups, 1), None);
    }
}
