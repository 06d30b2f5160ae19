use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Units of Go's duration text and their nanoseconds.
const UNITS: [(&str, i128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// The most fraction digits that are looked at; more add nothing to a nanosecond count.
const FRACTION_DIGITS_MAX: usize = 18;

/// A duration in Go's text form: `90s`, `1m30s`, `250ms`. Written as Go prints it (`1m30s`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct GoDuration {
    nanos: i64,
}

/// Why a text is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no duration: write numbers with units such as 90s, 1m30s or 250ms")]
pub struct DurationError(pub String);

impl GoDuration {
    /// From whole seconds; saturates at Go's limit of about 292 years.
    #[must_use]
    pub fn from_secs(secs: u32) -> Self {
        Self {
            nanos: i64::from(secs) * 1_000_000_000,
        }
    }

    /// Nanoseconds, negative for a negative duration.
    #[must_use]
    pub fn as_nanos(self) -> i64 {
        self.nanos
    }

    /// As a standard duration; a negative one is zero.
    #[must_use]
    pub fn to_std(self) -> std::time::Duration {
        std::time::Duration::from_nanos(u64::try_from(self.nanos).unwrap_or(0))
    }
}

impl FromStr for GoDuration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        let error = || DurationError(text.to_owned());
        let (negative, mut rest) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        if rest == "0" {
            return Ok(Self::default());
        }
        if rest.is_empty() {
            return Err(error());
        }
        let mut total: i128 = 0;
        while !rest.is_empty() {
            let (nanos, tail) = term(rest).ok_or_else(error)?;
            total = total
                .checked_add(nanos)
                .filter(|t| *t <= i128::from(i64::MAX))
                .ok_or_else(error)?;
            rest = tail;
        }
        let total = i64::try_from(total).map_err(|_| error())?;
        Ok(Self {
            nanos: if negative { -total } else { total },
        })
    }
}

/// One number with its unit, and what follows it.
fn term(text: &str) -> Option<(i128, &str)> {
    let digits = |s: &str| s.bytes().take_while(u8::is_ascii_digit).count();
    let (whole, rest) = text.split_at(digits(text));
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(digits(rest)),
        None => ("", rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let unit_len = rest
        .find(|c: char| c == '.' || c.is_ascii_digit())
        .unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(unit_len);
    let scale = UNITS
        .iter()
        .find(|(name, _)| *name == unit)
        .map(|(_, scale)| *scale)?;
    let whole: i128 = if whole.is_empty() {
        0
    } else {
        i128::from(whole.parse::<u64>().ok()?)
    };
    let fraction = fraction.get(..FRACTION_DIGITS_MAX).unwrap_or(fraction);
    let mut nanos = whole.checked_mul(scale)?;
    if !fraction.is_empty() {
        let divisor = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
        nanos = nanos.checked_add(fraction.parse::<i128>().ok()? * scale / divisor)?;
    }
    Some((nanos, rest))
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.nanos.unsigned_abs();
        if self.nanos < 0 {
            f.write_str("-")?;
        }
        let fraction = |f: &mut fmt::Formatter<'_>, value: u64, unit: u64, digits: usize, name: &str| {
            write!(f, "{}", value / unit)?;
            if !value.is_multiple_of(unit) {
                let text = format!("{:0digits$}", value % unit);
                write!(f, ".{}", text.trim_end_matches('0'))?;
            }
            f.write_str(name)
        };
        match nanos {
            0 => f.write_str("0s"),
            1..1_000 => write!(f, "{nanos}ns"),
            1_000..1_000_000 => fraction(f, nanos, 1_000, 3, "\u{b5}s"),
            1_000_000..1_000_000_000 => fraction(f, nanos, 1_000_000, 6, "ms"),
            _ => {
                let minutes = nanos / 60_000_000_000;
                if minutes >= 60 {
                    write!(f, "{}h", minutes / 60)?;
                }
                if minutes > 0 {
                    write!(f, "{}m", minutes % 60)?;
                }
                fraction(f, nanos % 60_000_000_000, 1_000_000_000, 9, "s")
            }
        }
    }
}

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_text() {
        for (given, printed) in [
            ("90s", "1m30s"),
            ("120s", "2m0s"),
            ("1h", "1h0m0s"),
            ("250ms", "250ms"),
            ("1.5s", "1.5s"),
            ("1.5h", "1h30m0s"),
            ("0", "0s"),
            ("0s", "0s"),
            ("-90s", "-1m30s"),
            ("1us", "1\u{b5}s"),
            (".5m", "30s"),
            ("1500us", "1.5ms"),
        ] {
            assert_eq!(
                given.parse::<GoDuration>().unwrap().to_string(),
                printed,
                "{given}"
            );
        }
        for bad in [
            "",
            "s",
            "1",
            "1x",
            "-",
            ".",
            ".s",
            "1s2",
            "1 s",
            "9999999999999h",
            "\u{e9}1s",
        ] {
            assert!(bad.parse::<GoDuration>().is_err(), "{bad}");
        }
    }
}
