//! The commands of the specification.

mod add;
mod check;
mod delete;

use serde_json::{Value, json};

use crate::config::{NetworkConfig, Parameters};
use crate::error::{CniError, Code};
use crate::version::{self, Version};

/// Runs the command that the environment names; gives what goes to standard output.
pub(crate) fn run(command: &str, config: &NetworkConfig) -> Result<Option<Value>, CniError> {
    if command == "VERSION" {
        return Ok(Some(versions(&config.cni_version)));
    }
    let version: Version = version::negotiate(&config.cni_version)?;
    match command {
        "ADD" => {
            let parameters = Parameters::read(true)?;
            config.check()?;
            add::run(config, &parameters).map(|result| Some(result.to_json(version)))
        }
        "DEL" => {
            let parameters = Parameters::read(false)?;
            config.check()?;
            delete::run(config, &parameters).map(|()| None)
        }
        "CHECK" if !version.has_check() => {
            let details = format!("cniVersion {} has no CHECK: 0.4.0 is the first", version.text);
            Err(CniError::new(
                Code::IncompatibleVersion,
                "incompatible CNI version",
                details,
            ))
        }
        "CHECK" => {
            let parameters = Parameters::read(true)?;
            config.check()?;
            check::run(config, &parameters).map(|()| None)
        }
        "" => Err(CniError::new(
            Code::InvalidEnvironment,
            "invalid environment",
            "CNI_COMMAND is not set: this is a CNI plugin, which a container runtime calls",
        )),
        other => Err(CniError::new(
            Code::InvalidEnvironment,
            "invalid environment",
            format!("CNI_COMMAND {other:?} is not one of ADD, DEL, CHECK, VERSION"),
        )),
    }
}

fn versions(asked: &str) -> Value {
    let newest = version::SUPPORTED.last().copied().unwrap_or_default();
    let own = if asked.is_empty() { newest } else { asked };
    json!({"cniVersion": own, "supportedVersions": version::SUPPORTED})
}
