//! What can go wrong between us and the kernel.

use nix::errno::Errno;

/// The kernel's answer to one request: an error number and, where the kernel gives it, its words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The error number.
    pub errno: Errno,
    /// The extended acknowledgement, for example `Nexthop has invalid gateway`.
    pub message: Option<Box<str>>,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.message {
            Some(message) => write!(f, "{message} ({})", self.errno),
            None => f.write_str(self.errno.desc()),
        }
    }
}

impl std::error::Error for Refusal {}

impl Refusal {
    /// The object exists already (`EEXIST`).
    pub fn is_exists(&self) -> bool {
        self.errno == Errno::EEXIST
    }

    /// There is no such object (`ENOENT`, `ESRCH`, `ENODEV`, `EADDRNOTAVAIL`).
    pub fn is_not_found(&self) -> bool {
        matches!(
            self.errno,
            Errno::ENOENT | Errno::ESRCH | Errno::ENODEV | Errno::EADDRNOTAVAIL
        )
    }
}

/// An operation that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused the request.
    #[error("{action}: {refusal}")]
    Refused {
        /// What was asked, with the names of the objects.
        action: String,
        /// Why it was refused.
        refusal: Refusal,
    },
    /// A system call failed.
    #[error("{action}: {source}")]
    Io {
        /// What was being done.
        action: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// The kernel sent nothing for too long.
    #[error(
        "{action}: no answer from the kernel within {limit_seconds} s; the request may or may not have been carried out"
    )]
    Timeout {
        /// What was being done.
        action: String,
        /// The limit that passed.
        limit_seconds: u64,
    },
    /// Answers were lost because the receive buffer was full: read the state back.
    #[error("{action}: answers were lost (receive buffer full); read the state back and try again")]
    Overrun {
        /// What was being done.
        action: String,
    },
    /// A message could not be understood.
    #[error("{action}: the kernel's answer cannot be read: {reason}")]
    Malformed {
        /// What was being done.
        action: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The caller's value cannot be sent.
    #[error("{field} `{value}`: {reason}")]
    Invalid {
        /// Which field.
        field: &'static str,
        /// The value given.
        value: String,
        /// What is wrong with it and what is allowed.
        reason: &'static str,
    },
}

impl Error {
    pub(crate) fn io(action: impl Into<String>, source: impl Into<std::io::Error>) -> Error {
        Error::Io {
            action: action.into(),
            source: source.into(),
        }
    }

    /// The error number, when the kernel or the system gave one.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Error::Refused { refusal, .. } => Some(refusal.errno),
            Error::Io { source, .. } => source.raw_os_error().map(Errno::from_raw),
            _ => None,
        }
    }

    /// The object exists already.
    pub fn is_exists(&self) -> bool {
        self.errno() == Some(Errno::EEXIST)
    }

    /// There is no such object.
    pub fn is_not_found(&self) -> bool {
        match self {
            Error::Refused { refusal, .. } => refusal.is_not_found(),
            other => matches!(other.errno(), Some(Errno::ENOENT | Errno::ESRCH | Errno::ENODEV)),
        }
    }
}
