//! `bgp`: questions to the speaker in this host's agent. Grammar and tables are the speaker's own.

use bgpd_proto::commands::{self, CommandError};

use crate::agent;
use crate::arguments::BgpOptions;
use crate::failure::Failure;

pub(crate) async fn run(options: &BgpOptions) -> Result<(), Failure> {
    let channel = agent::channel(&options.agent_socket)
        .await
        .map_err(Failure::new)?;
    commands::run(&options.command, channel)
        .await
        .map_err(|error| match error {
            CommandError::Closed => Failure::silent(),
            error => Failure::new(error),
        })
}
