use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{NumberOrText, number_or_text};

/// Names that the v3 API knows, with their IP protocol numbers.
const NAMES: [(&str, u8); 6] = [
    ("TCP", 6),
    ("UDP", 17),
    ("ICMP", 1),
    ("ICMPv6", 58),
    ("SCTP", 132),
    ("UDPLite", 136),
];

/// IP protocol of a rule or port: a number or one of `TCP`, `UDP`, `ICMP`, `ICMPv6`, `SCTP`, `UDPLite`.
///
/// Any name decodes; validation refuses those that are not known.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// Written as a number, or as a string of digits.
    Number(u8),
    /// Written as a name, kept as it was written.
    Name(String),
}

impl Protocol {
    /// The protocol named `name`, as it is written.
    #[must_use]
    pub fn name(name: &str) -> Self {
        Self::Name(name.to_owned())
    }

    /// The IP protocol number, or `None` for a name that the API does not know.
    #[must_use]
    pub fn number(&self) -> Option<u8> {
        match self {
            Self::Number(n) => Some(*n),
            Self::Name(name) => NAMES.iter().find(|(known, _)| known == name).map(|(_, n)| *n),
        }
    }

    /// Whether rules may give numeric ports for it: TCP, UDP and SCTP.
    #[must_use]
    pub fn supports_ports(&self) -> bool {
        matches!(self.number(), Some(6 | 17 | 132))
    }
}

impl Default for Protocol {
    fn default() -> Self {
        Self::Number(0)
    }
}

impl From<u8> for Protocol {
    fn from(number: u8) -> Self {
        Self::Number(number)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(n) => write!(f, "{n}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl Serialize for Protocol {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Number(n) => serializer.serialize_u8(*n),
            Self::Name(name) => serializer.serialize_str(name),
        }
    }
}

impl<'de> Deserialize<'de> for Protocol {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const EXPECTED: &str = "a protocol number 0..255 or a protocol name such as TCP";
        let number = match number_or_text(deserializer, EXPECTED)? {
            NumberOrText::Number(n) => n,
            NumberOrText::Text(text) => {
                if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
                    return Ok(Self::Name(text));
                }
                text.parse()
                    .map_err(|_| de::Error::custom(format!("protocol {text} is above 255")))?
            }
        };
        u8::try_from(number)
            .map(Self::Number)
            .map_err(|_| de::Error::custom(format!("protocol {number} is above 255")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numeric_strings_become_numbers() {
        let decoded: Vec<Protocol> = serde_json::from_str(r#"["6", 17, "TCP", "tcp"]"#).unwrap();
        assert_eq!(serde_json::to_string(&decoded).unwrap(), r#"[6,17,"TCP","tcp"]"#);
        let numbers: Vec<_> = decoded.iter().map(Protocol::number).collect();
        assert_eq!(numbers, [Some(6), Some(17), Some(6), None]);
    }

    #[test]
    fn too_large_is_refused() {
        for bad in [
            "256",
            "\"256\"",
            "\"99999999999999999999999\"",
            "-1",
            "1.5",
            "true",
        ] {
            assert!(serde_json::from_str::<Protocol>(bad).is_err(), "{bad}");
        }
    }
}
