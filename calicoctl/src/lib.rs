//! The command line: v3 resources in the datastore, IPAM, and the state of this host's agent.

#![forbid(unsafe_code)]

mod accept_datastore;
mod agent;
mod arguments;
mod bgp;
mod config;
mod crud;
mod datastore_session;
mod failure;
mod flows;
mod go_text;
mod input;
mod ipam;
mod node_status;
mod output;
mod version;

use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, Command, IpamCommand, NodeCommand};
use failure::Failure;

/// Runs the program on the process's arguments. Exit code 0 is success, 1 any error.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return arguments::report(&error),
    };
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print();
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<(), Failure> {
    arguments::set_log_level(&arguments.global.log_level)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("cannot start: {error}")))?;
    runtime.block_on(dispatch(arguments))
}

async fn dispatch(arguments: Arguments) -> Result<(), Failure> {
    let global = arguments.global;
    match arguments.command {
        Command::Create(options) => crud::create(&global, &options).await,
        Command::Apply(options) => crud::apply(&global, &options).await,
        Command::Replace(options) => crud::replace(&global, &options).await,
        Command::Delete(options) => crud::delete(&global, &options).await,
        Command::Get(options) => crud::get(&global, &options).await,
        Command::Validate(options) => crud::validate(&options),
        Command::Node(NodeCommand::Status(options)) => node_status::run(&options).await,
        Command::Node(NodeCommand::AcceptDatastore(options)) => accept_datastore::run(&options).await,
        Command::Bgp(options) => bgp::run(&options).await,
        Command::Flows(options) => flows::run(&options).await,
        Command::Ipam(IpamCommand::Show(options)) => ipam::show(&global, &options).await,
        Command::Version(options) => version::run(&options).await,
    }
}
