//! Errors as the CNI specification has them: a code, a message, details.

use serde::Serialize;

/// Codes 1 to 99 are the specification's, those from 100 on ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    IncompatibleVersion = 1,
    UnknownContainer = 3,
    InvalidEnvironment = 4,
    Io = 5,
    Decode = 6,
    InvalidConfig = 7,
    TryAgainLater = 11,
    /// The store refused or failed.
    Datastore = 100,
    /// No address could be had.
    Ipam = 101,
    /// The kernel refused a link, address, route or setting.
    Network = 102,
    /// The agent did not put the endpoint's policy in force in time.
    PolicyTimeout = 103,
    /// CHECK found a difference.
    CheckFailed = 104,
}

/// What a command fails with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{msg}: {details}")]
pub(crate) struct CniError {
    pub(crate) code: Code,
    /// What could not be done.
    pub(crate) msg: String,
    /// Why, and what to do.
    pub(crate) details: String,
}

impl CniError {
    pub(crate) fn new(code: Code, msg: impl Into<String>, details: impl std::fmt::Display) -> Self {
        Self {
            code,
            msg: msg.into(),
            details: details.to_string(),
        }
    }

    /// The JSON that goes to standard output.
    pub(crate) fn to_json(&self, cni_version: &str) -> String {
        #[derive(Serialize)]
        struct Wire<'a> {
            #[serde(rename = "cniVersion")]
            cni_version: &'a str,
            code: u32,
            msg: &'a str,
            details: &'a str,
        }
        let wire = Wire {
            cni_version,
            code: self.code as u32,
            msg: &self.msg,
            details: &self.details,
        };
        serde_json::to_string_pretty(&wire).unwrap_or_else(|_| String::from("{}"))
    }
}

/// Gives a failure its code and message.
pub(crate) trait Context<T> {
    fn cni(self, code: Code, msg: impl Into<String>) -> Result<T, CniError>;
}

impl<T, E: std::fmt::Display> Context<T> for Result<T, E> {
    fn cni(self, code: Code, msg: impl Into<String>) -> Result<T, CniError> {
        self.map_err(|error| CniError::new(code, msg, error))
    }
}
