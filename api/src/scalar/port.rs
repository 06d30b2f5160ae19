use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{NumberOrText, number_or_text};

/// The longest port name that decodes, in bytes. Validation allows fewer.
const PORT_NAME_LEN_MAX: usize = 128;

/// A port, a range of ports or the name of a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Port {
    /// `min` to `max`, both included; equal for a single port.
    Range {
        /// First port.
        min: u16,
        /// Last port, not below `min`.
        max: u16,
    },
    /// A named port of the matched endpoint.
    Named(String),
}

/// Why a text is no port.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// A number above 65535.
    #[error("port {0} is above 65535")]
    TooLarge(String),
    /// `max:min`.
    #[error("port range {0} has its ends in the wrong order: write the lower port first")]
    Reversed(String),
    /// Neither a number, a range nor a name.
    #[error(
        "{0:?} is no port: write a number, a range such as 8000:8080, or a name of letters, digits, '_', '.' and '-'"
    )]
    Invalid(String),
}

impl Port {
    /// A single numeric port.
    #[must_use]
    pub fn single(port: u16) -> Self {
        Self::Range { min: port, max: port }
    }

    /// Whether it is given by number.
    #[must_use]
    pub fn is_numeric(&self) -> bool {
        matches!(self, Self::Range { .. })
    }
}

impl FromStr for Port {
    type Err = PortError;

    fn from_str(text: &str) -> Result<Self, PortError> {
        let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
        let number = |s: &str| s.parse::<u16>().map_err(|_| PortError::TooLarge(s.to_owned()));
        if digits(text) {
            return Ok(Self::single(number(text)?));
        }
        if let Some((min, max)) = text.split_once(':')
            && digits(min)
            && digits(max)
        {
            let (min, max) = (number(min)?, number(max)?);
            if min > max {
                return Err(PortError::Reversed(text.to_owned()));
            }
            return Ok(Self::Range { min, max });
        }
        let named = !text.is_empty()
            && text.len() <= PORT_NAME_LEN_MAX
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
        if named {
            Ok(Self::Named(text.to_owned()))
        } else {
            Err(PortError::Invalid(text.to_owned()))
        }
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range { min, max } if min == max => write!(f, "{min}"),
            Self::Range { min, max } => write!(f, "{min}:{max}"),
            Self::Named(name) => f.write_str(name),
        }
    }
}

impl Serialize for Port {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Range { min, max } if min == max => serializer.serialize_u16(*min),
            _ => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Port {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const EXPECTED: &str = "a port number 0..65535, a range such as \"8000:8080\" or a port name";
        match number_or_text(deserializer, EXPECTED)? {
            NumberOrText::Number(n) => u16::try_from(n)
                .map(Self::single)
                .map_err(|_| de::Error::custom(PortError::TooLarge(n.to_string()))),
            NumberOrText::Text(text) => text.parse().map_err(de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serialises_as_go_does() {
        let ports: Vec<Port> = serde_json::from_str(r#"[80,"80","8000:8080","90:90","http"]"#).unwrap();
        assert_eq!(
            serde_json::to_string(&ports).unwrap(),
            r#"[80,80,"8000:8080",90,"http"]"#
        );
    }

    #[test]
    fn bad_ports() {
        for bad in [
            "65536",
            "\"65536\"",
            "\"9:8\"",
            "\"\"",
            "\"a b\"",
            "-1",
            "1.5",
            "null",
            "\"1:99999\"",
        ] {
            assert!(serde_json::from_str::<Port>(bad).is_err(), "{bad}");
        }
    }
}
