//! JSON as Go's `encoding/json` writes it: compact, with `<`, `>`, `&`, U+2028 and U+2029 escaped.

use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

/// Compact JSON with Go's HTML escapes.
///
/// # Errors
/// When a map has keys that are not strings.
pub fn to_vec<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(value).map(|bytes| escape_html(&bytes))
}

/// As [`to_vec`], as text.
///
/// # Errors
/// When a map has keys that are not strings.
pub fn to_string<T: Serialize + ?Sized>(value: &T) -> Result<String, serde_json::Error> {
    to_vec(value).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// Indented by `indent` spaces, with Go's HTML escapes; no newline at the end.
///
/// # Errors
/// When a map has keys that are not strings.
pub fn to_string_pretty<T: Serialize + ?Sized>(
    value: &T,
    indent: usize,
) -> Result<String, serde_json::Error> {
    let spaces = " ".repeat(indent);
    let formatter = serde_json::ser::PrettyFormatter::with_indent(spaces.as_bytes());
    let mut bytes = Vec::new();
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter))?;
    Ok(String::from_utf8_lossy(&escape_html(&bytes)).into_owned())
}

/// These bytes stand in JSON only inside strings, so a bytewise replacement is safe.
fn escape_html(json: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len());
    let mut rest = json;
    while let Some((&byte, tail)) = rest.split_first() {
        let (escape, len): (&[u8], usize) = match (byte, tail) {
            (b'<', _) => (b"\\u003c", 1),
            (b'>', _) => (b"\\u003e", 1),
            (b'&', _) => (b"\\u0026", 1),
            (0xe2, [0x80, 0xa8, ..]) => (b"\\u2028", 3),
            (0xe2, [0x80, 0xa9, ..]) => (b"\\u2029", 3),
            _ => (std::slice::from_ref(&byte), 1),
        };
        out.extend_from_slice(escape);
        rest = rest.get(len..).unwrap_or_default();
    }
    out
}

/// Removes object members that are `null`, at every depth: Go reads them as absent. Array elements stay.
#[must_use]
pub fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.into_iter()
                .filter(|(_, v)| !v.is_null())
                .map(|(k, v)| (k, without_nulls(v)))
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        other => other,
    }
}

/// Go's `omitempty`: the zero value is left out.
pub(crate) fn zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A float as Go prints it: whole numbers without a fraction.
pub(crate) fn float<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    /// Integers up to here are exact in a double.
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    match value {
        // Whole and within the exact range.
        Some(v) if v.fract() == 0.0 && v.abs() <= EXACT_MAX => serializer.serialize_i64(*v as i64),
        other => other.serialize(serializer),
    }
}

/// Reads `""` as absent, as Go's `omitempty` string enumerations do.
pub(crate) fn empty_is_none<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: std::str::FromStr<Err = String>,
{
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        Ok(None)
    } else {
        text.parse().map(Some).map_err(serde::de::Error::custom)
    }
}

/// Declares an enumeration of strings: `FromStr`, `Display`, `as_str` and serde by the given spellings.
macro_rules! string_enum {
    ($(#[$meta:meta])* pub enum $name:ident { $($(#[$vmeta:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$vmeta])* $variant),+ }

        impl $name {
            /// All values, in the order of their declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The spelling in the API.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($text => Ok(Self::$variant),)+
                    _ => Err(format!("{text:?} is not allowed here: write one of {}", [$($text),+].join(", "))),
                }
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use string_enum;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn escapes_like_go() {
        let value = json!({"s": "a == \"b\" && c <> \u{2028}\u{2029} \u{2027}"});
        assert_eq!(
            to_string(&value).unwrap(),
            "{\"s\":\"a == \\\"b\\\" \\u0026\\u0026 c \\u003c\\u003e \\u2028\\u2029 \u{2027}\"}"
        );
    }

    #[test]
    fn nulls_go_from_objects_only() {
        assert_eq!(
            without_nulls(json!({"a": null, "b": [null, {"c": null}]})),
            json!({"b": [null, {}]})
        );
    }
}
