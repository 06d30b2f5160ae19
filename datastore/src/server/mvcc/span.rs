//! The keys that a `key` and `range_end` pair names.

use std::ops::Bound;

use bytes::Bytes;

/// Where a span starts and ends in an ordered map.
pub(crate) type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// A set of keys: one key, an interval, or everything from a key on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Span {
    /// An empty `range_end`: the key itself.
    One(Bytes),
    /// The keys from the first up to, not including, the second.
    Interval(Bytes, Bytes),
    /// A `range_end` of one zero byte: the key and all after it.
    From(Bytes),
}

impl Span {
    /// Reads the pair as etcd's API defines it.
    pub(crate) fn new(key: &Bytes, range_end: &Bytes) -> Self {
        match range_end.as_ref() {
            [] => Self::One(key.clone()),
            [0] => Self::From(key.clone()),
            _ => Self::Interval(key.clone(), range_end.clone()),
        }
    }

    /// Whether the span names the key.
    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        match self {
            Self::One(one) => one.as_ref() == key,
            Self::Interval(start, end) => start.as_ref() <= key && key < end.as_ref(),
            Self::From(start) => start.as_ref() <= key,
        }
    }

    /// The span as bounds of an ordered map; nothing if no key can be in it.
    pub(crate) fn bounds(&self) -> Option<Bounds<'_>> {
        match self {
            Self::One(key) => Some((Bound::Included(key.as_ref()), Bound::Included(key.as_ref()))),
            Self::Interval(start, end) if start < end => {
                Some((Bound::Included(start.as_ref()), Bound::Excluded(end.as_ref())))
            }
            Self::Interval(..) => None,
            Self::From(start) => Some((Bound::Included(start.as_ref()), Bound::Unbounded)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(key: &'static [u8], end: &'static [u8]) -> Span {
        Span::new(&Bytes::from_static(key), &Bytes::from_static(end))
    }

    #[test]
    fn zero_byte_end_means_all_keys_from_the_first() {
        let all = span(b"\0", b"\0");
        assert!(all.contains(b"\0") && all.contains(b"\xff\xff"));
        assert!(!span(b"b", b"\0").contains(b"a"));
    }

    #[test]
    fn inverted_interval_is_empty() {
        assert_eq!(span(b"b", b"a").bounds(), None);
        assert_eq!(span(b"b", b"b").bounds(), None);
        assert!(!span(b"b", b"a").contains(b"b"));
    }
}
