//! `watch`.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use tonic::transport::Channel;

use super::output::{Format, line, or_none, print};
use super::{CommandError, WatchOptions};
use crate::v1::bgp_client::BgpClient;
use crate::v1::event::What;
use crate::v1::{Event, WatchRequest};

/// Widths of the columns: what comes is not known. Time, kind, prefix or peer.
const WIDTHS: [usize; 4] = [23, 5, 20, 0];

pub(super) async fn run(client: &mut BgpClient<Channel>, options: &WatchOptions) -> Result<(), CommandError> {
    let asked = WatchRequest {
        peers: options.peers,
        routes: options.routes,
    };
    let mut stream = client.watch(asked).await?.into_inner();
    let zone = TimeZone::system();
    while let Some(event) = stream.message().await? {
        print(&render(&event, options.output, &zone)?)?;
    }
    Err(CommandError::Refused("the speaker ended the stream".to_owned()))
}

fn render(event: &Event, format: Format, zone: &TimeZone) -> Result<String, CommandError> {
    if format == Format::Json || format == Format::Yaml {
        let text = serde_json::to_string(event).map_err(|error| CommandError::Print(error.to_string()))?;
        return Ok(format!("{text}\n"));
    }
    let time = Timestamp::from_millisecond(i64::try_from(event.time_ms).unwrap_or_default())
        .unwrap_or(Timestamp::UNIX_EPOCH)
        .to_zoned(zone.clone())
        .strftime("%Y-%m-%d %H:%M:%S%.3f")
        .to_string();
    let (kind, about, text) = match &event.what {
        Some(What::Peer(peer)) => ("peer", peer.peer.clone(), peer.state.clone()),
        Some(What::Route(route)) => {
            let text = match &route.best {
                None => "gone".to_owned(),
                Some(best) => format!("via {} path {}", best.next_hop, or_none(&best.as_path)),
            };
            ("route", route.prefix.clone(), text)
        }
        Some(What::Lost(lost)) => (
            "lost",
            format!("{lost} events"),
            "this reader is too slow".to_owned(),
        ),
        // A newer speaker's.
        None => ("other", String::new(), String::new()),
    };
    Ok(line([time.as_str(), kind, &about, &text].into_iter(), &WIDTHS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::{PeerEvent, Route, RouteEvent};

    #[test]
    fn events() {
        let event = |what| Event {
            time_ms: 1_700_000_000_250,
            what: Some(what),
        };
        let up = event(What::Peer(PeerEvent {
            peer: "10.0.0.1".into(),
            state: "Established".into(),
        }));
        let ps = |event: &Event| render(event, Format::Ps, &TimeZone::UTC).unwrap();
        assert_eq!(
            ps(&up),
            "2023-11-14 22:13:20.250  peer   10.0.0.1              Established\n"
        );
        let best = Route {
            next_hop: "10.0.0.1".into(),
            peer: "10.0.0.1".into(),
            ..Route::default()
        };
        let route = |best| {
            event(What::Route(RouteEvent {
                prefix: "10.1.0.0/24".into(),
                best,
            }))
        };
        assert_eq!(
            ps(&route(Some(best))),
            "2023-11-14 22:13:20.250  route  10.1.0.0/24           via 10.0.0.1 path -\n"
        );
        assert_eq!(
            ps(&route(None)),
            "2023-11-14 22:13:20.250  route  10.1.0.0/24           gone\n"
        );
        assert_eq!(
            render(&up, Format::Json, &TimeZone::UTC).unwrap(),
            "{\"timeMs\":1700000000250,\"peer\":{\"peer\":\"10.0.0.1\",\"state\":\"Established\"}}\n"
        );
        assert_eq!(
            ps(&event(What::Lost(7))),
            "2023-11-14 22:13:20.250  lost   7 events              this reader is too slow\n"
        );
    }
}
