//! What can go wrong between a caller and the store, with the texts that Calico's clients print.

use std::fmt;

/// The outcome of a datastore call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the datastore client. The texts of the first five are a contract: scripts match them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Create found the key taken.
    #[error("resource already exists: {id} with error: {cause}")]
    AlreadyExists {
        /// `Kind(name)`, `Kind(namespace/name)` or an IPAM key's text.
        id: String,
        /// What lies behind it.
        cause: Cause,
    },
    /// The key is not there.
    #[error("resource does not exist: {id} with error: {cause}")]
    DoesNotExist {
        /// As above.
        id: String,
        /// What lies behind it.
        cause: Cause,
    },
    /// The key changed since it was read: read it again and repeat the change.
    #[error("update conflict: {id}")]
    UpdateConflict {
        /// As above.
        id: String,
    },
    /// The operation makes no sense for the object.
    #[error("operation {operation} is not supported on {id}{}", reason_suffix(.reason))]
    Unsupported {
        /// `Create`, `Update`, `Delete`.
        operation: &'static str,
        /// As above.
        id: String,
        /// Why, or empty.
        reason: String,
    },
    /// The store refused the credentials.
    #[error("connection is unauthorized: {0}")]
    Unauthorized(String),
    /// The object breaks a rule; each entry names the field and the reason.
    #[error("{}", validation_text(.0))]
    Validation(Vec<FieldError>),
    /// A name or another identifier is missing.
    #[error("insufficient identifiers, missing '{0}'")]
    InsufficientIdentifiers(&'static str),
    /// What is stored under the key is not what belongs there.
    #[error("cannot read {id} (key {path}): {reason}; correct or delete the key")]
    Unreadable {
        /// As above.
        id: String,
        /// The etcd key.
        path: String,
        /// What the decoder said.
        reason: String,
    },
    /// A value cannot be written as JSON.
    #[error("cannot encode {id}: {reason}")]
    Encode {
        /// As above.
        id: String,
        /// What the encoder said.
        reason: String,
    },
    /// The connection settings are wrong.
    #[error("datastore configuration: {0}")]
    Config(String),
    /// The store did not answer in time.
    #[error(
        "the datastore did not answer {operation} within {seconds} s: check that {endpoints} is up and has a leader"
    )]
    Timeout {
        /// What was asked.
        operation: &'static str,
        /// How long was waited.
        seconds: u64,
        /// The configured endpoints.
        endpoints: String,
    },
    /// The store could not be reached, or answered with an error.
    #[error("datastore error: {0}")]
    Store(#[source] Box<StoreError>),
}

/// A refusal or failure of the etcd transport.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct StoreError {
    /// The gRPC code, if the store or the transport gave one.
    pub code: Option<tonic::Code>,
    /// What it said.
    pub text: String,
    /// True when the request surely never reached a member, so that repeating it is safe.
    pub never_sent: bool,
}

/// The `<cause>` part of an error text: `<nil>` when there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cause(pub Option<String>);

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_str("<nil>"),
            Some(text) => f.write_str(text),
        }
    }
}

/// One broken rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// The field's name as Calico prints it.
    pub name: String,
    /// Its value; `None` leaves that part of the text out.
    pub value: Option<String>,
    /// Why it is wrong.
    pub reason: String,
}

impl FieldError {
    /// A broken rule about `name`, whose value is `value`.
    pub fn new(name: impl Into<String>, value: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            value: Some(value.into()),
            reason: reason.into(),
        }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name)?;
        if let Some(value) = &self.value {
            write!(f, " = '{value}'")?;
        }
        if !self.reason.is_empty() {
            write!(f, " ({})", self.reason)?;
        }
        Ok(())
    }
}

fn validation_text(fields: &[FieldError]) -> String {
    match fields {
        [] => "unknown validation error".to_owned(),
        [one] => format!("error with field {one}"),
        many => {
            let mut text = "error with the following fields:\n".to_owned();
            for field in many {
                text.push_str(&format!("-  {field}\n"));
            }
            text.pop();
            text
        }
    }
}

fn reason_suffix(reason: &str) -> String {
    if reason.is_empty() {
        String::new()
    } else {
        format!(": {reason}")
    }
}

impl Error {
    /// A single broken rule.
    pub fn field(name: impl Into<String>, value: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Validation(vec![FieldError::new(name, value, reason)])
    }

    pub(crate) fn already_exists(id: impl fmt::Display) -> Self {
        Self::AlreadyExists {
            id: id.to_string(),
            cause: Cause(None),
        }
    }

    pub(crate) fn does_not_exist(id: impl fmt::Display) -> Self {
        Self::DoesNotExist {
            id: id.to_string(),
            cause: Cause(None),
        }
    }

    pub(crate) fn conflict(id: impl fmt::Display) -> Self {
        Self::UpdateConflict { id: id.to_string() }
    }

    /// The key was not there.
    pub fn is_does_not_exist(&self) -> bool {
        matches!(self, Self::DoesNotExist { .. })
    }

    /// The key was there already.
    pub fn is_already_exists(&self) -> bool {
        matches!(self, Self::AlreadyExists { .. })
    }

    /// The key changed since it was read.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::UpdateConflict { .. })
    }

    /// The store is away, slow or without a leader: the same call may work later.
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Timeout { .. } => true,
            Self::Store(e) => matches!(
                e.code,
                None | Some(
                    tonic::Code::Unavailable
                        | tonic::Code::DeadlineExceeded
                        | tonic::Code::Cancelled
                        | tonic::Code::Unknown
                )
            ),
            _ => false,
        }
    }

    /// The revision asked for has been compacted away.
    pub fn is_compacted(&self) -> bool {
        matches!(self, Self::Store(e) if e.code == Some(tonic::Code::OutOfRange) && e.text.contains("compacted"))
    }
}

impl From<etcd_client::Error> for Error {
    fn from(error: etcd_client::Error) -> Self {
        match error {
            etcd_client::Error::GRpcStatus(status) => {
                let text = status_text(&status);
                match status.code() {
                    tonic::Code::Unauthenticated | tonic::Code::PermissionDenied => Self::Unauthorized(text),
                    // etcd answers a wrong password, and a missing user, with this code.
                    tonic::Code::InvalidArgument
                        if text.contains("authentication failed") || text.contains("user name is empty") =>
                    {
                        Self::Unauthorized(text)
                    }
                    code => {
                        let never_sent = code == tonic::Code::Unavailable && text.contains("connect error");
                        Self::Store(Box::new(StoreError {
                            code: Some(code),
                            text,
                            never_sent,
                        }))
                    }
                }
            }
            etcd_client::Error::InvalidArgs(text) => Self::Config(text),
            etcd_client::Error::InvalidUri(e) => Self::Config(format!("endpoint: {e}")),
            etcd_client::Error::TransportError(e) => Self::Store(Box::new(StoreError {
                code: None,
                text: chain(&e),
                never_sent: true,
            })),
            other => Self::Store(Box::new(StoreError {
                code: None,
                text: other.to_string(),
                never_sent: false,
            })),
        }
    }
}

/// The status message, and the transport's own reason behind it ("Connection refused"), which the message leaves out.
fn status_text(status: &tonic::Status) -> String {
    let mut text = status.message().to_owned();
    if let Some(source) = std::error::Error::source(status) {
        let behind = chain(source);
        if !behind.is_empty() && !text.contains(&behind) {
            text = if text.is_empty() {
                behind
            } else {
                format!("{text}: {behind}")
            };
        }
    }
    if text.is_empty() {
        status.code().to_string()
    } else {
        text
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        if parts.last().is_none_or(|last| !last.contains(&text)) {
            parts.push(text);
        }
        next = error.source();
    }
    parts.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_that_scripts_match() {
        assert_eq!(
            Error::already_exists("IPPool(a)").to_string(),
            "resource already exists: IPPool(a) with error: <nil>"
        );
        assert_eq!(
            Error::does_not_exist("NetworkPolicy(ns/a)").to_string(),
            "resource does not exist: NetworkPolicy(ns/a) with error: <nil>"
        );
        assert_eq!(Error::conflict("Node(a)").to_string(), "update conflict: Node(a)");
        assert_eq!(
            Error::field("IPPool.Spec.CIDR", "10.0.0.0/8", "IPPool CIDR cannot be modified").to_string(),
            "error with field IPPool.Spec.CIDR = '10.0.0.0/8' (IPPool CIDR cannot be modified)"
        );
        let two = Error::Validation(vec![
            FieldError::new("A", "1", "x"),
            FieldError {
                name: "B".into(),
                value: None,
                reason: "y".into(),
            },
        ]);
        assert_eq!(
            two.to_string(),
            "error with the following fields:\n-  A = '1' (x)\n-  B (y)"
        );
        let unsupported = Error::Unsupported {
            operation: "Delete",
            id: "Tier(default)".into(),
            reason: "Cannot delete default tier".into(),
        };
        assert_eq!(
            unsupported.to_string(),
            "operation Delete is not supported on Tier(default): Cannot delete default tier"
        );
    }
}
