//! Versions of the CNI specification.

use crate::error::{CniError, Code};

/// All that we speak, oldest first.
pub(crate) const SUPPORTED: [&str; 6] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0"];
/// What a configuration without `cniVersion` means.
const UNSTATED: &str = "0.2.0";

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// 0.1.0 and 0.2.0: `ip4`, `ip6`.
    Single,
    /// 0.3.0 to 0.4.0: lists, with the family of each address.
    Lists,
    /// 1.0.0: lists.
    Plain,
}

/// A version that we speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) text: &'static str,
    pub(crate) layout: Layout,
}

impl Version {
    /// CHECK came with 0.4.0.
    pub(crate) fn has_check(self) -> bool {
        matches!(self.text, "0.4.0" | "1.0.0")
    }
}

/// The version that a configuration asks for.
pub(crate) fn negotiate(asked: &str) -> Result<Version, CniError> {
    let asked = if asked.is_empty() { UNSTATED } else { asked };
    let text = SUPPORTED
        .into_iter()
        .find(|version| *version == asked)
        .ok_or_else(|| {
            let supported = SUPPORTED.join(", ");
            let details = format!("cniVersion {asked:?} is not supported; this plugin speaks {supported}");
            CniError::new(Code::IncompatibleVersion, "incompatible CNI version", details)
        })?;
    let layout = match text {
        "0.1.0" | "0.2.0" => Layout::Single,
        "1.0.0" => Layout::Plain,
        _ => Layout::Lists,
    };
    Ok(Version { text, layout })
}
