use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, de};

use super::{NumberOrText, number_or_text};

/// Autonomous system number, 32 bits. Read as a number, decimal text or `high.low`; written as a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize)]
#[serde(transparent)]
pub struct AsNumber(pub u32);

impl FromStr for AsNumber {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let invalid = || format!("{text:?} is no AS number: write 0..4294967295 or high.low");
        let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
        if let Some((high, low)) = text.split_once('.') {
            if !digits(high) || !digits(low) {
                return Err(invalid());
            }
            let high: u16 = high.parse().map_err(|_| invalid())?;
            let low: u16 = low.parse().map_err(|_| invalid())?;
            return Ok(Self((u32::from(high) << 16) | u32::from(low)));
        }
        if !digits(text) {
            return Err(invalid());
        }
        text.parse().map(Self).map_err(|_| invalid())
    }
}

impl fmt::Display for AsNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for AsNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match number_or_text(deserializer, "an AS number 0..4294967295")? {
            NumberOrText::Number(n) => u32::try_from(n)
                .map(Self)
                .map_err(|_| de::Error::custom(format!("AS number {n} is above 4294967295"))),
            NumberOrText::Text(text) => text.parse().map_err(de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let decoded: Vec<AsNumber> = serde_json::from_str(r#"[64512,"64512","1.10","4294967295"]"#).unwrap();
        assert_eq!(
            serde_json::to_string(&decoded).unwrap(),
            "[64512,64512,65546,4294967295]"
        );
        for bad in [
            "4294967296",
            "\"1.65536\"",
            "\"+1\"",
            "\"\"",
            "\"1.2.3\"",
            "\".1\"",
            "-1",
        ] {
            assert!(serde_json::from_str::<AsNumber>(bad).is_err(), "{bad}");
        }
    }
}
