//! `margay-cni`: the CNI plugin. It gives a container an address, a link to the host and an endpoint in the store, and
//! returns once the agent has put the endpoint's policy in force.

#![forbid(unsafe_code)]

mod address;
mod command;
mod config;
mod error;
mod identity;
mod link;
mod lock;
mod log;
mod result;
mod status;
mod store;
mod version;

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use crate::config::NetworkConfig;
use crate::error::CniError;

fn main() -> ExitCode {
    // Not `args`, which panics where an argument is no UTF-8.
    if let Some(argument) = std::env::args_os().nth(1) {
        return match argument.to_str() {
            Some("-v" | "--version") => print(env!("CARGO_PKG_VERSION")),
            _ => {
                eprintln!(
                    "margay-cni {}: a CNI plugin, called by container runtimes. Its only argument is -v.",
                    env!("CARGO_PKG_VERSION")
                );
                ExitCode::from(2)
            }
        };
    }
    let mut cni_version = String::new();
    match run(&mut cni_version) {
        Ok(Some(result)) => print(&format!("{result:#}")),
        Ok(None) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(code = error.code as u32, %error, "failed");
            print(&error.to_json(&cni_version));
            ExitCode::FAILURE
        }
    }
}

fn run(cni_version: &mut String) -> Result<Option<serde_json::Value>, CniError> {
    let command = std::env::var("CNI_COMMAND").unwrap_or_default();
    // Somebody who tries it by hand gets the message about CNI_COMMAND, not a prompt.
    let by_hand = command.is_empty() && std::io::stdin().is_terminal();
    let config = if by_hand {
        NetworkConfig::default()
    } else {
        NetworkConfig::read(std::io::stdin())?
    };
    *cni_version = config.cni_version.clone();
    log::start(&config);
    let container = std::env::var("CNI_CONTAINERID").unwrap_or_default();
    tracing::info!(command, container, network = config.name, "called");
    command::run(&command, &config)
}

fn print(text: &str) -> ExitCode {
    match writeln!(std::io::stdout(), "{text}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
