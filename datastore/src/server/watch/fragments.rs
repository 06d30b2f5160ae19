//! Cuts a response that is too large into fragments.

use prost::Message;

use crate::server::pb::etcdserverpb::WatchResponse;

/// Splits at event boundaries so that each part stays below `max` bytes where that is possible; all parts but
/// the last are marked.
pub(crate) fn cut(response: WatchResponse, max: usize) -> Vec<WatchResponse> {
    if response.encoded_len() < max || response.events.len() < 2 {
        return vec![response];
    }
    let empty = WatchResponse {
        events: Vec::new(),
        fragment: true,
        ..response.clone()
    };
    let mut parts = Vec::new();
    let mut part = empty.clone();
    let mut bytes = empty.encoded_len();
    for event in response.events {
        // A tag and a length of up to five bytes precede each event.
        let event_bytes = event.encoded_len() + 6;
        if !part.events.is_empty() && bytes + event_bytes >= max {
            parts.push(std::mem::replace(&mut part, empty.clone()));
            bytes = empty.encoded_len();
        }
        bytes += event_bytes;
        part.events.push(event);
    }
    part.fragment = false;
    parts.push(part);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::pb::mvccpb::{Event, KeyValue};

    #[test]
    fn all_events_come_once_and_only_the_last_part_is_unmarked() {
        let event = |n: u8| Event {
            kv: Some(KeyValue {
                key: vec![n].into(),
                value: vec![n; 100].into(),
                ..KeyValue::default()
            }),
            ..Event::default()
        };
        let whole = WatchResponse {
            watch_id: 7,
            events: (0..20).map(event).collect(),
            ..Default::default()
        };
        let parts = cut(whole.clone(), 500);
        assert!(parts.len() > 3);
        assert!(
            parts
                .iter()
                .all(|part| part.encoded_len() < 500 && part.watch_id == 7)
        );
        let marks: Vec<bool> = parts.iter().map(|part| part.fragment).collect();
        assert_eq!(marks.iter().filter(|mark| !**mark).count(), 1);
        assert!(!marks[marks.len() - 1]);
        let events: Vec<Event> = parts.into_iter().flat_map(|part| part.events).collect();
        assert_eq!(events, whole.events);
        assert_eq!(cut(whole.clone(), usize::MAX), [whole]);
    }
}
