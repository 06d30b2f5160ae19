//! Scalars of the v3 API whose JSON form is more than one type: numbers that may be strings, ports, durations.
//!
//! Each keeps what Go's client would write again: a numeric string becomes a number, a named port stays a string.

mod as_number;
mod dscp;
mod duration;
mod port;
mod protocol;
mod time;

pub use as_number::AsNumber;
pub use dscp::Dscp;
pub use duration::{DurationError, GoDuration};
pub use port::{Port, PortError};
pub use protocol::Protocol;
pub use time::Time;

use serde::de::{self, Visitor};

/// What a JSON number-or-string field held.
pub(crate) enum NumberOrText {
    Number(u64),
    Text(String),
}

struct NumberOrTextVisitor(&'static str);

impl Visitor<'_> for NumberOrTextVisitor {
    type Value = NumberOrText;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }

    fn visit_u64<E: de::Error>(self, v: u64) -> Result<Self::Value, E> {
        Ok(NumberOrText::Number(v))
    }

    fn visit_i64<E: de::Error>(self, v: i64) -> Result<Self::Value, E> {
        u64::try_from(v)
            .map(NumberOrText::Number)
            .map_err(|_| E::invalid_value(de::Unexpected::Signed(v), &self))
    }

    fn visit_f64<E: de::Error>(self, v: f64) -> Result<Self::Value, E> {
        Err(E::invalid_value(de::Unexpected::Float(v), &self))
    }

    fn visit_str<E: de::Error>(self, v: &str) -> Result<Self::Value, E> {
        Ok(NumberOrText::Text(v.to_owned()))
    }
}

/// Reads a number or a string; `expected` completes "expected ...".
pub(crate) fn number_or_text<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
    expected: &'static str,
) -> Result<NumberOrText, D::Error> {
    deserializer.deserialize_any(NumberOrTextVisitor(expected))
}
