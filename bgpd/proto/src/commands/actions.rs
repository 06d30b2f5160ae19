//! `drain`, `undrain`, `reset`, `clear-dampening` and `dump`.

use std::time::Duration;

use tonic::transport::Channel;

use super::output::print;
use super::{ClearDampeningOptions, CommandError, Direction, DrainOptions, ResetOptions, request};
use crate::v1::bgp_client::BgpClient;
use crate::v1::{ClearDampeningRequest, DrainRequest, DumpMrtRequest, ResetPeerRequest, UndrainRequest};

pub(super) async fn drain(
    client: &mut BgpClient<Channel>,
    options: &DrainOptions,
) -> Result<(), CommandError> {
    let peers = client.drain(request(DrainRequest {})).await?.into_inner().peers;
    print(&format!(
        "Draining: {peers} peers are told to prefer other ways (65535:0, LOCAL_PREF 0).\n"
    ))?;
    if options.wait > 0 && peers > 0 {
        tokio::time::sleep(Duration::from_secs(options.wait)).await;
        print(&format!(
            "{} s have passed: the speaker may be stopped, or brought back with undrain.\n",
            options.wait
        ))?;
    }
    Ok(())
}

pub(super) async fn undrain(client: &mut BgpClient<Channel>) -> Result<(), CommandError> {
    client.undrain(request(UndrainRequest {})).await?;
    print("Routes are announced as usual again.\n")
}

pub(super) async fn reset(
    client: &mut BgpClient<Channel>,
    options: &ResetOptions,
) -> Result<(), CommandError> {
    let (soft, done) = match options.soft {
        None => ("", "its session was ended and starts again"),
        Some(Direction::In) => ("in", "what it told us was judged again and asked for again"),
        Some(Direction::Out) => ("out", "it is sent everything again"),
        Some(Direction::Both) => (
            "both",
            "what it told us was judged again and asked for again, and it is sent everything again",
        ),
    };
    let asked = ResetPeerRequest {
        peer: options.peer.clone(),
        soft: soft.to_owned(),
    };
    client.reset_peer(request(asked)).await?;
    print(&format!("{}: {done}.\n", options.peer))
}

pub(super) async fn clear_dampening(
    client: &mut BgpClient<Channel>,
    options: &ClearDampeningOptions,
) -> Result<(), CommandError> {
    let asked = ClearDampeningRequest {
        peer: options.peer.clone().unwrap_or_default(),
        prefix: options.prefix.clone().unwrap_or_default(),
    };
    let routes = client.clear_dampening(request(asked)).await?.into_inner().routes;
    print(&format!("The penalties of {routes} routes were forgotten.\n"))
}

pub(super) async fn dump(client: &mut BgpClient<Channel>) -> Result<(), CommandError> {
    let dumped = client.dump_mrt(request(DumpMrtRequest {})).await?.into_inner();
    let left_out = match dumped.left_out {
        0 => String::new(),
        count => format!(", {count} paths left out"),
    };
    print(&format!(
        "{}: {} prefixes, {} paths{left_out}.\n",
        dumped.path, dumped.prefixes, dumped.paths
    ))
}
