//! Lists of a large table, and what goes on meanwhile.

use std::collections::HashSet;
use std::net::Ipv4Addr;

use bgpd::rpc;
use bgpd::speaker::{RouteView, SpeakerHandle};
use bgpd::wire::Prefix;
use bgpd_proto::v1::bgp_client::BgpClient;
use bgpd_proto::v1::{ListRoutesRequest, Route};

use crate::raw::RawPeer;
use crate::{address, hub, key, listen_address, network, start, wait_for};

const ROUTES: u32 = 200_000;

/// A speaker with a large table, and a peer of it.
async fn large(last: u8) -> (SpeakerHandle, RawPeer) {
    let mut config = hub(last, [last + 1], 65000);
    config.networks = (0..ROUTES)
        .map(|n| network(&format!("{}/32", Ipv4Addr::from(0x1400_0000 + n))))
        .collect();
    let speaker = start(config);
    let peer = RawPeer::open(last + 1, listen_address(&speaker).await, 90).await;
    (speaker, peer)
}

/// The RIB's owner does other work between two pages, however long the reader takes.
#[tokio::test]
async fn routes_come_and_go_between_the_pages_of_a_list() {
    let (speaker, mut peer) = large(111).await;
    let mut pages = speaker.route_pages(RouteView::Best);
    let mut seen: HashSet<Prefix> = HashSet::new();
    let mut rounds = 0;
    let mut longest = 0;
    while let Some(page) = pages.next().await.unwrap() {
        longest = longest.max(page.len());
        let before = seen.len();
        seen.extend(page.iter().map(|route| route.prefix));
        assert_eq!(seen.len(), before + page.len(), "each route once");
        if rounds < 5 {
            // A whole change, from a neighbour's UPDATE to its selection, has its place in the middle of the list.
            let prefix = format!("10.0.{rounds}.0/24");
            peer.announce(&[prefix.as_str()]).await;
            wait_for("the neighbor's route", async || {
                let routes = speaker.routes_of(RouteView::Best, prefix.parse().unwrap()).await;
                !routes.unwrap().is_empty()
            })
            .await;
        }
        rounds += 1;
    }
    assert!(
        longest <= 2048 && rounds > 90,
        "{rounds} pages of up to {longest}"
    );
    let of_large = seen.iter().filter(|prefix| prefix.prefix_len() == 32);
    assert_eq!(of_large.count(), ROUTES as usize);
    let view = RouteView::Received(key(address(112), 179));
    assert_eq!(speaker.routes(view).await.unwrap().len(), 5);
}

#[tokio::test]
async fn a_stream_of_routes_waits_for_its_reader() {
    let (speaker, mut peer) = large(113).await;
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("api.sock");
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serve = {
        let (socket, speaker) = (socket.clone(), speaker.clone());
        tokio::spawn(async move {
            let stopped = async move {
                let _ = stopped.await;
            };
            rpc::serve(&socket, speaker, stopped).await
        })
    };
    wait_for("the socket", async || socket.exists()).await;
    let channel = bgpd_proto::client::connect(&socket).await.unwrap();
    let mut client = BgpClient::new(channel);
    let request = |limit| ListRoutesRequest {
        view: "best".to_owned(),
        limit,
        ..ListRoutesRequest::default()
    };
    let mut stream = client.stream_routes(request(0)).await.unwrap().into_inner();
    let first = stream.message().await.unwrap().unwrap().routes;
    // It is left there: nothing else waits for it.
    peer.announce(&["10.7.0.0/16"]).await;
    wait_for("the neighbor's route", async || {
        let asked = ListRoutesRequest {
            prefix: "10.7.0.0/16".to_owned(),
            ..request(0)
        };
        let routes = client
            .clone()
            .list_routes(asked)
            .await
            .unwrap()
            .into_inner()
            .routes;
        !routes.is_empty()
    })
    .await;
    let mut all: Vec<Route> = first;
    while let Some(page) = stream.message().await.unwrap() {
        all.extend(page.routes);
    }
    let of_large = all
        .iter()
        .filter(|route| route.prefix.ends_with("/32") && route.best);
    assert_eq!(of_large.count(), ROUTES as usize);
    let mut some = client.stream_routes(request(3000)).await.unwrap().into_inner();
    let mut count = 0;
    while let Some(page) = some.message().await.unwrap() {
        count += page.routes.len();
    }
    assert_eq!(count, 3000);
    // By prefix, the first ones, with the number of the others.
    let listed = client.list_routes(request(2)).await.unwrap().into_inner();
    let prefixes: Vec<_> = listed.routes.iter().map(|route| route.prefix.as_str()).collect();
    assert_eq!(prefixes, ["10.7.0.0/16", "20.0.0.0/32"]);
    assert_eq!(listed.left_out, u64::from(ROUTES) - 1);
    drop((stream, some));
    stop.send(()).unwrap();
    serve.await.unwrap().unwrap();
}
