//! The daemon under test.

use std::path::PathBuf;
use std::time::Duration;

use bgpd_proto::v1::bgp_client::BgpClient;
use bgpd_proto::v1::{
    ClearDampeningRequest, DrainRequest, GetSpeakerRequest, ListPeersRequest, ListRoutesRequest, Peer,
    ResetPeerRequest, Route, UndrainRequest,
};
use tonic::transport::{Channel, Endpoint};

use crate::net::{Netns, Process};

pub(crate) struct Bgpd {
    pub(crate) process: Process,
    api: PathBuf,
    file: PathBuf,
    runtime: tokio::runtime::Runtime,
}

impl Bgpd {
    /// Starts it with a configuration, whose `[global]` gets the API's path.
    pub(crate) fn start(netns: &Netns, directory: &std::path::Path, config: &str, options: &str) -> Self {
        let api = directory.join("api.sock");
        let file = directory.join("bgpd.toml");
        std::fs::write(&file, with_api(config, &api)).unwrap();
        let line = format!(
            "{} --log bgpd=debug --config {} {options}",
            env!("CARGO_BIN_EXE_bgpd"),
            file.display()
        );
        let process = netns.spawn(&line, &directory.join("bgpd.log"));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        Self {
            process,
            api,
            file,
            runtime,
        }
    }

    /// Gives it another configuration.
    pub(crate) fn reload(&self, config: &str) {
        std::fs::write(&self.file, with_api(config, &self.api)).unwrap();
        self.process.signal("HUP");
    }

    fn client(&self) -> Option<BgpClient<Channel>> {
        let endpoint = Endpoint::from_shared(format!("unix://{}", self.api.display())).unwrap();
        let endpoint = endpoint.timeout(Duration::from_secs(5));
        self.runtime.block_on(endpoint.connect()).ok().map(BgpClient::new)
    }

    pub(crate) fn peers(&self) -> Vec<Peer> {
        let Some(mut client) = self.client() else {
            return Vec::new();
        };
        let answer = self.runtime.block_on(client.list_peers(ListPeersRequest {}));
        answer.map(|answer| answer.into_inner().peers).unwrap_or_default()
    }

    pub(crate) fn peer(&self, address: &str) -> Option<Peer> {
        self.peers().into_iter().find(|peer| peer.address == address)
    }

    /// The neighbour of a name, as an interface or an address with its interface.
    pub(crate) fn named(&self, name: &str) -> Option<Peer> {
        self.peers().into_iter().find(|peer| peer.name == name)
    }

    pub(crate) fn is_established(&self, address: &str) -> bool {
        self.peer(address).is_some_and(|peer| peer.state == "Established")
    }

    pub(crate) fn routes(&self, view: &str, peer: &str) -> Vec<Route> {
        let Some(mut client) = self.client() else {
            return Vec::new();
        };
        let request = ListRoutesRequest {
            view: view.to_owned(),
            peer: peer.to_owned(),
            prefix: String::new(),
            ..ListRoutesRequest::default()
        };
        let answer = self.runtime.block_on(client.list_routes(request));
        answer
            .map(|answer| answer.into_inner().routes)
            .unwrap_or_default()
    }

    /// Asks a neighbour for its routes once more, and tells it ours.
    pub(crate) fn soft_reset(&self, address: &str) {
        let mut client = self.client().unwrap();
        let request = ResetPeerRequest {
            peer: address.to_owned(),
            soft: "both".to_owned(),
        };
        self.runtime.block_on(client.reset_peer(request)).unwrap();
    }

    /// Moves traffic away, or takes it again.
    pub(crate) fn drain(&self, drain: bool) {
        let mut client = self.client().unwrap();
        if drain {
            self.runtime.block_on(client.drain(DrainRequest {})).unwrap();
        } else {
            self.runtime.block_on(client.undrain(UndrainRequest {})).unwrap();
        }
    }

    /// Has the penalties of a route forgotten; says how many there were.
    pub(crate) fn clear_dampening(&self, address: &str, prefix: &str) -> u64 {
        let mut client = self.client().unwrap();
        let request = ClearDampeningRequest {
            peer: address.to_owned(),
            prefix: prefix.to_owned(),
        };
        let answer = self.runtime.block_on(client.clear_dampening(request));
        answer.unwrap().into_inner().routes
    }

    /// BFD packets that were for no session, or from too far away.
    pub(crate) fn bfd_discarded(&self) -> u64 {
        let mut client = self.client().unwrap();
        let answer = self.runtime.block_on(client.get_speaker(GetSpeakerRequest {}));
        let speaker = answer.unwrap().into_inner();
        speaker.bfd.map(|bfd| bfd.packets_discarded).unwrap_or_default()
    }

    /// The best route of a prefix.
    pub(crate) fn best(&self, prefix: &str) -> Option<Route> {
        self.routes("best", "")
            .into_iter()
            .find(|route| route.prefix == prefix && route.best)
    }
}

fn with_api(config: &str, api: &std::path::Path) -> String {
    config.replacen("[global]", &format!("[global]\napi = {api:?}"), 1)
}
