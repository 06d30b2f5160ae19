use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{NumberOrText, number_or_text};

/// A DSCP code point: 0..63, or one of `DF`, `EF`, `AF11`..`AF43`, `CS0`..`CS6`. Kept as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Dscp {
    /// By number.
    Number(u8),
    /// By name; case does not matter.
    Name(String),
}

impl Dscp {
    /// The six-bit value (RFC 2474, 2597, 3246), or `None` if it is neither in range nor a known name.
    #[must_use]
    pub fn value(&self) -> Option<u8> {
        let name = match self {
            Self::Number(n) => return (*n <= 63).then_some(*n),
            Self::Name(name) => name.to_ascii_uppercase(),
        };
        match name.as_bytes() {
            b"DF" => Some(0),
            b"EF" => Some(46),
            [b'A', b'F', class @ b'1'..=b'4', drop @ b'1'..=b'3'] => {
                Some(8 * (class - b'0') + 2 * (drop - b'0'))
            }
            [b'C', b'S', class @ b'0'..=b'6'] => Some(8 * (class - b'0')),
            _ => None,
        }
    }
}

impl Serialize for Dscp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Number(n) => serializer.serialize_u8(*n),
            Self::Name(name) => serializer.serialize_str(name),
        }
    }
}

impl<'de> Deserialize<'de> for Dscp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = match number_or_text(deserializer, "a DSCP number 0..63 or a name such as EF")? {
            NumberOrText::Number(n) => n,
            NumberOrText::Text(text) => match text.parse() {
                Ok(n) => n,
                Err(_) => return Ok(Self::Name(text)),
            },
        };
        u8::try_from(number)
            .map(Self::Number)
            .map_err(|_| de::Error::custom(format!("DSCP {number} is above 63")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        for (name, value) in [
            ("DF", Some(0)),
            ("ef", Some(46)),
            ("AF43", Some(38)),
            ("cs6", Some(48)),
            ("CS7", None),
        ] {
            assert_eq!(Dscp::Name(name.to_owned()).value(), value, "{name}");
        }
        assert_eq!(Dscp::Number(64).value(), None);
    }
}
