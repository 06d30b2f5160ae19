//! Where the store is and how to reach it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use etcd_client::{Certificate, ConnectOptions, Identity, TlsOptions};

use crate::error::{Error, Result};

/// How long connecting to one member may take.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// A ping is sent on a connection this long after the last frame.
pub const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// A connection whose ping is unanswered for this long is given up.
pub const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one request (not a watch) may take.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Where the store is when nobody says.
pub const DEFAULT_ENDPOINT: &str = "http://127.0.0.1:2379";
/// The largest PEM file that is read.
const PEM_BYTES_MAX: u64 = 1 << 20;

/// The settings of a [`Client`](super::Client).
#[derive(Clone, PartialEq, Eq)]
pub struct ClientConfig {
    /// `http://` or `https://` URLs of the members; one without a scheme follows `tls`.
    pub endpoints: Vec<String>,
    /// Used only when both are set.
    pub username: Option<String>,
    /// Used only when both are set.
    pub password: Option<String>,
    /// The authority that signed the members' certificates.
    pub ca: Option<Pem>,
    /// Our certificate.
    pub cert: Option<Pem>,
    /// Our key.
    pub key: Option<Pem>,
    /// See [`DIAL_TIMEOUT`].
    pub dial_timeout: Duration,
    /// See [`KEEP_ALIVE_INTERVAL`].
    pub keep_alive_interval: Duration,
    /// See [`KEEP_ALIVE_TIMEOUT`].
    pub keep_alive_timeout: Duration,
    /// See [`REQUEST_TIMEOUT`].
    pub request_timeout: Duration,
}

/// A PEM document: the path of its file, or the text itself. The three of a configuration are either all files or all text.
#[derive(Clone, PartialEq, Eq)]
pub enum Pem {
    /// Read at each connect, so that a renewed certificate is taken up.
    File(PathBuf),
    /// The document.
    Inline(String),
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "File({})", path.display()),
            Self::Inline(_) => f.write_str("Inline(..)"),
        }
    }
}

impl fmt::Debug for ClientConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientConfig")
            .field("endpoints", &self.endpoints)
            .field("username", &self.username)
            .field("ca", &self.ca)
            .field("cert", &self.cert)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            endpoints: vec![DEFAULT_ENDPOINT.to_owned()],
            username: None,
            password: None,
            ca: None,
            cert: None,
            key: None,
            dial_timeout: DIAL_TIMEOUT,
            keep_alive_interval: KEEP_ALIVE_INTERVAL,
            keep_alive_timeout: KEEP_ALIVE_TIMEOUT,
            request_timeout: REQUEST_TIMEOUT,
        }
    }
}

impl ClientConfig {
    /// The default settings for these endpoints.
    pub fn new<I, S>(endpoints: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: Into<String>,
    {
        Self {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            ..Self::default()
        }
    }

    /// The endpoints of a comma-separated list, as `ETCD_ENDPOINTS` has it.
    pub fn from_endpoint_list(list: &str) -> Self {
        Self::new(list.split(',').map(str::trim).filter(|part| !part.is_empty()))
    }

    pub(crate) fn endpoint_text(&self) -> String {
        self.endpoints.join(",")
    }

    /// True where any connection is to be encrypted.
    fn wants_tls(&self) -> bool {
        self.endpoints.iter().any(|e| e.starts_with("https://"))
    }

    pub(crate) fn connect_options(&self) -> Result<ConnectOptions> {
        if self.endpoints.is_empty() {
            return Err(Error::Config(
                "no endpoint is set: give etcdEndpoints or ETCD_ENDPOINTS".into(),
            ));
        }
        let mut options = ConnectOptions::new()
            .with_connect_timeout(self.dial_timeout)
            .with_keep_alive(self.keep_alive_interval, self.keep_alive_timeout)
            .with_keep_alive_while_idle(true)
            .with_require_leader(true)
            .with_auto_token_refresh(true);
        if let (Some(user), Some(password)) = (&self.username, &self.password)
            && !user.is_empty()
            && !password.is_empty()
        {
            options = options.with_user(user, password);
        }
        if let Some(tls) = self.tls()? {
            options = options.with_tls(tls);
        }
        Ok(options)
    }

    fn tls(&self) -> Result<Option<TlsOptions>> {
        let parts = [&self.ca, &self.cert, &self.key];
        let files = parts.iter().filter(|p| matches!(p, Some(Pem::File(_)))).count();
        let inline = parts.iter().filter(|p| matches!(p, Some(Pem::Inline(_)))).count();
        if files > 0 && inline > 0 {
            return Err(Error::Config(
                "cannot mix inline certificate-key and certificate / key files: give all of them one way"
                    .into(),
            ));
        }
        if !self.wants_tls() {
            if files + inline > 0 {
                return Err(Error::Config(format!(
                    "certificates are set, but no endpoint in '{}' starts with https://",
                    self.endpoint_text()
                )));
            }
            return Ok(None);
        }
        if self.endpoints.iter().any(|e| e.starts_with("http://")) {
            return Err(Error::Config(
                "endpoints mix http:// and https://: use one scheme".into(),
            ));
        }
        let mut tls = TlsOptions::new().with_enabled_roots();
        if let Some(ca) = &self.ca {
            tls = tls.ca_certificate(Certificate::from_pem(ca.read("CA certificate")?));
        }
        match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => {
                tls = tls.identity(Identity::from_pem(cert.read("certificate")?, key.read("key")?));
            }
            (None, None) => {}
            _ => {
                return Err(Error::Config(
                    "a certificate needs its key, and a key its certificate: set both".into(),
                ));
            }
        }
        Ok(Some(tls))
    }
}

impl Pem {
    fn read(&self, what: &str) -> Result<String> {
        match self {
            Self::Inline(text) => Ok(text.clone()),
            Self::File(path) => {
                read_pem(path).map_err(|e| Error::Config(format!("{what} file {}: {e}", path.display())))
            }
        }
    }
}

fn read_pem(path: &Path) -> std::io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    std::fs::File::open(path)?
        .take(PEM_BYTES_MAX)
        .read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mixed_certificates_are_refused() {
        let config = ClientConfig {
            ca: Some(Pem::File("/nonexistent".into())),
            cert: Some(Pem::Inline("x".into())),
            key: Some(Pem::Inline("x".into())),
            ..ClientConfig::new(["https://a:2379"])
        };
        assert!(
            config
                .connect_options()
                .unwrap_err()
                .to_string()
                .contains("cannot mix")
        );
    }

    #[test]
    fn a_missing_file_is_named() {
        let config = ClientConfig {
            ca: Some(Pem::File("/nonexistent".into())),
            ..ClientConfig::new(["https://a:2379"])
        };
        assert!(
            config
                .connect_options()
                .unwrap_err()
                .to_string()
                .contains("/nonexistent")
        );
    }

    #[test]
    fn secrets_are_not_printed() {
        let config = ClientConfig {
            password: Some("s3cret".into()),
            key: Some(Pem::Inline("k3y".into())),
            ..Default::default()
        };
        let text = format!("{config:?}");
        assert!(!text.contains("s3cret") && !text.contains("k3y"), "{text}");
    }
}
