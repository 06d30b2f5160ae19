//! The message header (RFC 4271 section 4.1) and the message types.

use serde::{Deserialize, Serialize};

use super::notification::{self, Notification};
use super::{Codec, Family, Open, RefreshKind, RouteRefresh, Update};

/// Marker, length and type.
pub const HEADER_BYTES: usize = 19;
/// Longest message without RFC 8654.
pub const MESSAGE_MAX_BYTES: usize = 4096;
/// Longest message with RFC 8654.
pub const MESSAGE_MAX_EXTENDED_BYTES: usize = 65535;

const MARKER: [u8; 16] = [0xff; 16];

/// A message's type octet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MessageType {
    /// RFC 4271 section 4.2.
    Open,
    /// RFC 4271 section 4.3.
    Update,
    /// RFC 4271 section 4.5.
    Notification,
    /// RFC 4271 section 4.4.
    Keepalive,
    /// RFC 2918.
    RouteRefresh,
}

impl MessageType {
    /// The type octet.
    pub const fn code(self) -> u8 {
        match self {
            Self::Open => 1,
            Self::Update => 2,
            Self::Notification => 3,
            Self::Keepalive => 4,
            Self::RouteRefresh => 5,
        }
    }

    /// The type of a code, if there is one.
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Open),
            2 => Some(Self::Update),
            3 => Some(Self::Notification),
            4 => Some(Self::Keepalive),
            5 => Some(Self::RouteRefresh),
            _ => None,
        }
    }

    /// Shortest and longest message of the type (RFC 4271 section 6.1, RFC 8654 section 4).
    fn length_range(self, codec: Codec) -> std::ops::RangeInclusive<usize> {
        match self {
            Self::Open => 29..=MESSAGE_MAX_BYTES,
            Self::Update => 23..=codec.received_max_bytes(),
            Self::Notification => 21..=codec.received_max_bytes(),
            Self::Keepalive => HEADER_BYTES..=HEADER_BYTES,
            Self::RouteRefresh => HEADER_BYTES..=codec.received_max_bytes(),
        }
    }
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// Opens a session.
    Open(Open),
    /// Changes routes.
    Update(Update),
    /// Ends the session.
    Notification(Notification),
    /// Keeps the session.
    Keepalive,
    /// Asks for all routes again, or frames them (RFC 7313). `None` is one to pass over: of a family that
    /// we do not carry, or of an unknown subtype.
    RouteRefresh(Option<RouteRefresh>),
}

/// Looks for a whole message at the front of `buffer`: its length, or `None` if more is to come.
///
/// A header that is wrong is found as soon as its first wrong octet is there.
pub fn frame(buffer: &[u8], codec: Codec) -> Result<Option<usize>, Notification> {
    let error = |subcode, data: &[u8]| Notification::with_data(notification::HEADER, subcode, data);
    if buffer
        .iter()
        .zip(MARKER)
        .any(|(octet, expected)| *octet != expected)
    {
        return Err(error(notification::header::NOT_SYNCHRONIZED, &[]));
    }
    let Some([_, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, high, low, kind]) =
        buffer.first_chunk::<HEADER_BYTES>()
    else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    if !(HEADER_BYTES..=codec.received_max_bytes()).contains(&length) {
        return Err(error(notification::header::BAD_LENGTH, &[*high, *low]));
    }
    let Some(kind) = MessageType::from_code(*kind) else {
        return Err(error(notification::header::BAD_TYPE, &[*kind]));
    };
    if !kind.length_range(codec).contains(&length) {
        return Err(error(notification::header::BAD_LENGTH, &[*high, *low]));
    }
    Ok((buffer.len() >= length).then_some(length))
}

/// Reads one message that [`frame`] has measured.
pub fn decode(message: &[u8], codec: Codec) -> Result<Message, Notification> {
    let bad_length = || bad_length(message.len());
    let (header, body) = message.split_at_checked(HEADER_BYTES).ok_or_else(bad_length)?;
    let kind = header.last().copied().unwrap_or_default();
    match MessageType::from_code(kind) {
        Some(MessageType::Open) => Open::decode(body).map(Message::Open),
        Some(MessageType::Update) => Update::decode(body, codec).map(Message::Update),
        Some(MessageType::Notification) => Notification::decode(body)
            .map(Message::Notification)
            .ok_or_else(bad_length),
        Some(MessageType::Keepalive) if body.is_empty() => Ok(Message::Keepalive),
        Some(MessageType::Keepalive) => Err(bad_length()),
        Some(MessageType::RouteRefresh) => {
            RouteRefresh::decode(body, message, codec).map(Message::RouteRefresh)
        }
        None => Err(Notification::with_data(
            notification::HEADER,
            notification::header::BAD_TYPE,
            &[kind],
        )),
    }
}

/// RFC 4271 section 6.1.
pub(super) fn bad_length(length: usize) -> Notification {
    let length = u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
    Notification::with_data(notification::HEADER, notification::header::BAD_LENGTH, &length)
}

pub(super) fn start_message(kind: MessageType, out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.extend(MARKER);
    out.extend([0, 0, kind.code()]);
    start
}

pub(super) fn finish_message(start: usize, out: &mut [u8]) {
    let length = u16::try_from(out.len() - start).unwrap_or(u16::MAX).to_be_bytes();
    if let Some(field) = out.get_mut(start + MARKER.len()..start + MARKER.len() + 2) {
        field.copy_from_slice(&length);
    }
}

fn encode(kind: MessageType, body: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    let start = start_message(kind, &mut out);
    body(&mut out);
    finish_message(start, &mut out);
    out
}

/// Writes OPEN.
pub fn encode_open(open: &Open) -> Vec<u8> {
    encode(MessageType::Open, |out| open.encode(out))
}

/// Writes NOTIFICATION.
pub fn encode_notification(notification: &Notification) -> Vec<u8> {
    encode(MessageType::Notification, |out| notification.encode(out))
}

/// Writes KEEPALIVE.
pub fn encode_keepalive() -> Vec<u8> {
    encode(MessageType::Keepalive, |_| {})
}

/// Writes ROUTE-REFRESH. To a neighbour without RFC 7313, only [`RefreshKind::Request`] may be sent.
pub fn encode_route_refresh(family: Family, kind: RefreshKind) -> Vec<u8> {
    encode(MessageType::RouteRefresh, |out| {
        RouteRefresh { kind, family }.encode(out);
    })
}
