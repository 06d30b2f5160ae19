//! The connection to a speaker, on its Unix socket.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};

/// How long connecting may take.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);
/// Not used on a Unix socket, but a URI must have one.
const AUTHORITY: &str = "http://bgpd.local";

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody serves the socket.
    #[error("no BGP speaker is running: nobody serves {0}")]
    NotRunning(PathBuf),
    /// Anything else.
    #[error("cannot reach the BGP speaker on {path}: {reason}")]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// What happened.
        reason: String,
    },
}

/// Connects to the speaker that serves `path`.
pub async fn connect(path: &Path) -> Result<Channel, ConnectError> {
    let unreachable = |reason: String| ConnectError::Unreachable {
        path: path.to_owned(),
        reason,
    };
    // The first connection tells in the system's own words why there is none.
    UnixStream::connect(path)
        .await
        .map_err(|error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => ConnectError::NotRunning(path.to_owned()),
            _ => unreachable(error.to_string()),
        })?;
    let socket = path.to_owned();
    let connector = tower::service_fn(move |_: Uri| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    Endpoint::from_static(AUTHORITY)
        .connect_timeout(CONNECT_TIME_MAX)
        .connect_with_connector(connector)
        .await
        .map_err(|error| unreachable(error.to_string()))
}
