//! AS_PATH (RFC 4271 section 4.3, 5.1.2; RFC 6793).

use std::fmt;

use serde::{Deserialize, Serialize};

/// Stands for an AS number that does not fit into two octets (RFC 6793 section 9).
pub const AS_TRANS: u32 = 23456;
/// ASes that one segment can hold: its count field is one octet.
pub const SEGMENT_AS_MAX: usize = 255;

/// How the ASes of a segment relate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SegmentKind {
    /// Unordered set of ASes a route has traversed.
    Set,
    /// Ordered sequence, the nearest AS first.
    Sequence,
    /// Ordered sequence inside a confederation (RFC 5065).
    ConfedSequence,
    /// Unordered set inside a confederation (RFC 5065).
    ConfedSet,
}

impl SegmentKind {
    /// The type octet.
    pub const fn code(self) -> u8 {
        match self {
            Self::Set => 1,
            Self::Sequence => 2,
            Self::ConfedSequence => 3,
            Self::ConfedSet => 4,
        }
    }

    /// The kind with this type octet.
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Set),
            2 => Some(Self::Sequence),
            3 => Some(Self::ConfedSequence),
            4 => Some(Self::ConfedSet),
            _ => None,
        }
    }
}

/// One segment of an AS_PATH.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Segment {
    /// Set or sequence.
    pub kind: SegmentKind,
    /// Never empty, and at most [`SEGMENT_AS_MAX`] when decoded.
    pub ases: Vec<u32>,
}

/// The ASes that a route has passed through.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AsPath {
    /// Segments, the nearest first.
    pub segments: Vec<Segment>,
}

impl AsPath {
    /// A path of one sequence; empty if there are no ASes.
    pub fn sequence(ases: impl IntoIterator<Item = u32>) -> Self {
        let ases: Vec<u32> = ases.into_iter().collect();
        let segments = ases.chunks(SEGMENT_AS_MAX).map(|chunk| Segment {
            kind: SegmentKind::Sequence,
            ases: chunk.into(),
        });
        Self {
            segments: segments.collect(),
        }
    }

    /// Whether the route was originated in this AS.
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Length for route selection: a set counts 1 (RFC 4271 section 9.1.2.2), confederation
    /// segments count 0 (RFC 5065 section 5.3).
    pub fn hop_count(&self) -> usize {
        let hops = |segment: &Segment| match segment.kind {
            SegmentKind::Sequence => segment.ases.len(),
            SegmentKind::Set => 1,
            SegmentKind::ConfedSequence | SegmentKind::ConfedSet => 0,
        };
        self.segments.iter().map(hops).sum()
    }

    /// How often the AS occurs, in whatever kind of segment.
    pub fn occurrences(&self, asn: u32) -> usize {
        self.ases().filter(|other| *other == asn).count()
    }

    /// Every AS, nearest first.
    pub fn ases(&self) -> impl Iterator<Item = u32> {
        self.segments
            .iter()
            .flat_map(|segment| segment.ases.iter().copied())
    }

    /// The AS that the route was received from: the first one, if the path starts with a sequence
    /// outside of any confederation.
    pub fn neighbor_as(&self) -> Option<u32> {
        let first = self
            .segments
            .iter()
            .find(|segment| !matches!(segment.kind, SegmentKind::ConfedSequence | SegmentKind::ConfedSet))?;
        (first.kind == SegmentKind::Sequence)
            .then(|| first.ases.first().copied())
            .flatten()
    }

    /// Puts an AS in front (RFC 4271 section 5.1.2), `count` times.
    pub fn prepend(&mut self, asn: u32, count: usize) {
        let mut left = count;
        if let Some(first) = self.segments.first_mut()
            && first.kind == SegmentKind::Sequence
        {
            let fits = left.min(SEGMENT_AS_MAX.saturating_sub(first.ases.len()));
            first.ases.splice(0..0, std::iter::repeat_n(asn, fits));
            left -= fits;
        }
        let more = Self::sequence(std::iter::repeat_n(asn, left));
        // The nearest segment is the one that may not be full.
        self.segments.splice(0..0, more.segments.into_iter().rev());
    }

    /// Whether there are AS_SET or AS_CONFED_SET segments, which RFC 9774 has deprecated.
    pub fn has_sets(&self) -> bool {
        let sets = |segment: &Segment| matches!(segment.kind, SegmentKind::Set | SegmentKind::ConfedSet);
        self.segments.iter().any(sets)
    }

    /// Whether any AS needs four octets.
    pub fn needs_four_octets(&self) -> bool {
        self.ases().any(|asn| asn > u32::from(u16::MAX))
    }
}

impl fmt::Display for AsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, segment) in self.segments.iter().enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            let (open, separator, close) = match segment.kind {
                SegmentKind::Sequence => ("", " ", ""),
                SegmentKind::Set => ("{", ",", "}"),
                SegmentKind::ConfedSequence => ("(", " ", ")"),
                SegmentKind::ConfedSet => ("[", ",", "]"),
            };
            f.write_str(open)?;
            for (position, asn) in segment.ases.iter().enumerate() {
                if position > 0 {
                    f.write_str(separator)?;
                }
                write!(f, "{asn}")?;
            }
            f.write_str(close)?;
        }
        Ok(())
    }
}
