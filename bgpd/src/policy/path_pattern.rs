//! Patterns over AS_PATH: no regular expressions, so that a match takes time in proportion to both lengths at worst.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::PatternError;
use crate::wire::{AsPath, Segment, SegmentKind};

/// Most words that a pattern may have.
pub const PATTERN_TOKENS_MAX: usize = 64;

/// One word of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Token {
    /// An AS in this range.
    As { first: u32, last: u32 },
    /// Any number of ASes, none included.
    Any,
}

/// A pattern of words with spaces between them, which the whole path must match: an AS number, a range of them
/// (`64512-65534`), `?` for any one AS, `*` for any number of them. `""` is the empty path.
///
/// A set in the path stands for one AS, and matches if any of its members does; confederation segments are left out.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AsPathPattern(Vec<Token>);

impl AsPathPattern {
    /// Paths that begin with these ASes, the nearest first.
    pub fn starts_with(ases: impl IntoIterator<Item = u32>) -> Self {
        let one = |asn| Token::As {
            first: asn,
            last: asn,
        };
        Self(ases.into_iter().map(one).chain([Token::Any]).collect())
    }

    /// Paths through this AS.
    pub fn contains(asn: u32) -> Self {
        Self(vec![
            Token::Any,
            Token::As {
                first: asn,
                last: asn,
            },
            Token::Any,
        ])
    }

    /// Paths that began in this AS.
    pub fn origin(asn: u32) -> Self {
        Self(vec![
            Token::Any,
            Token::As {
                first: asn,
                last: asn,
            },
        ])
    }

    /// Whether the whole path matches.
    pub fn matches(&self, path: &AsPath) -> bool {
        let hops: SmallVec<[Hop<'_>; 16]> = path.segments.iter().flat_map(hops).collect();
        let (mut token, mut hop) = (0, 0);
        // The last `*` met, and the hop from which what follows it is tried.
        let mut resume: Option<(usize, usize)> = None;
        loop {
            match (self.0.get(token), hops.get(hop)) {
                (Some(Token::Any), _) => {
                    resume = Some((token + 1, hop));
                    token += 1;
                    continue;
                }
                (Some(Token::As { first, last }), Some(asn)) if asn.is_in(*first, *last) => {
                    (token, hop) = (token + 1, hop + 1);
                    continue;
                }
                (None, None) => return true,
                _ => {}
            }
            match resume {
                Some((after, from)) if from < hops.len() => {
                    resume = Some((after, from + 1));
                    (token, hop) = (after, from + 1);
                }
                _ => return false,
            }
        }
    }

    pub(super) fn token_count(&self) -> usize {
        self.0.len()
    }
}

enum Hop<'a> {
    One(u32),
    Set(&'a [u32]),
}

impl Hop<'_> {
    fn is_in(&self, first: u32, last: u32) -> bool {
        match self {
            Hop::One(asn) => (first..=last).contains(asn),
            Hop::Set(ases) => ases.iter().any(|asn| (first..=last).contains(asn)),
        }
    }
}

fn hops(segment: &Segment) -> impl Iterator<Item = Hop<'_>> {
    let (ones, set): (&[u32], Option<&[u32]>) = match segment.kind {
        SegmentKind::Sequence => (&segment.ases, None),
        SegmentKind::Set => (&[], Some(&segment.ases)),
        SegmentKind::ConfedSequence | SegmentKind::ConfedSet => (&[], None),
    };
    ones.iter().copied().map(Hop::One).chain(set.map(Hop::Set))
}

impl FromStr for AsPathPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let wrong =
            |word: &str| PatternError::new(word, "must be an AS number, a range such as 64512-65534, ? or *");
        let token = |word: &str| match word {
            "*" => Ok(Token::Any),
            "?" => Ok(Token::As {
                first: 0,
                last: u32::MAX,
            }),
            _ => {
                let (first, last) = word.split_once('-').unwrap_or((word, word));
                let number = |part: &str| part.parse::<u32>().map_err(|_| wrong(word));
                let (first, last) = (number(first)?, number(last)?);
                (first <= last)
                    .then_some(Token::As { first, last })
                    .ok_or_else(|| PatternError::new(word, "the range ends before it begins"))
            }
        };
        let mut tokens = text
            .split_whitespace()
            .map(token)
            .collect::<Result<Vec<_>, _>>()?;
        tokens.dedup_by(|a, b| (*a, *b) == (Token::Any, Token::Any));
        if tokens.len() > PATTERN_TOKENS_MAX {
            return Err(PatternError::new(text, "has more than 64 words"));
        }
        Ok(Self(tokens))
    }
}

impl fmt::Display for AsPathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, token) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str(" ")?;
            }
            match token {
                Token::Any => f.write_str("*")?,
                Token::As {
                    first: 0,
                    last: u32::MAX,
                } => f.write_str("?")?,
                Token::As { first, last } if first == last => write!(f, "{first}")?,
                Token::As { first, last } => write!(f, "{first}-{last}")?,
            }
        }
        Ok(())
    }
}

impl TryFrom<String> for AsPathPattern {
    type Error = PatternError;

    fn try_from(text: String) -> Result<Self, PatternError> {
        text.parse()
    }
}

impl From<AsPathPattern> for String {
    fn from(pattern: AsPathPattern) -> Self {
        pattern.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matches(pattern: &str, path: &[u32]) -> bool {
        let pattern: AsPathPattern = pattern.parse().unwrap();
        pattern.matches(&AsPath::sequence(path.iter().copied()))
    }

    #[test]
    fn words() {
        let cases: [(&str, &[u32], bool); 16] = [
            ("", &[], true),
            ("", &[1], false),
            ("*", &[], true),
            ("*", &[1, 2], true),
            ("?", &[1], true),
            ("?", &[], false),
            ("1 *", &[1, 2, 3], true),
            ("2 *", &[1, 2, 3], false),
            ("* 3", &[1, 2, 3], true),
            ("* 3", &[3, 1], false),
            ("* 2 *", &[1, 2, 3], true),
            ("* 9 *", &[1, 2, 3], false),
            ("1 ? 3", &[1, 2, 3], true),
            ("1 * 3 4", &[1, 3, 3, 4], true),
            ("* 64512-65534 *", &[1, 65000], true),
            ("* 64512-65534 *", &[1, 65535], false),
        ];
        for (pattern, path, expected) in cases {
            assert_eq!(matches(pattern, path), expected, "{pattern:?} {path:?}");
        }
        let begins = AsPathPattern::starts_with([1, 2]);
        assert!(begins.matches(&AsPath::sequence([1, 2, 3])) && !begins.matches(&AsPath::sequence([1, 3])));
        assert!(AsPathPattern::origin(3).matches(&AsPath::sequence([1, 3])));
        assert!(!AsPathPattern::contains(9).matches(&AsPath::sequence([1, 3])));
    }

    #[test]
    fn a_set_stands_for_one_as() {
        let mut path = AsPath::sequence([1]);
        path.segments.push(Segment {
            kind: SegmentKind::Set,
            ases: vec![7, 8],
        });
        for (pattern, expected) in [
            ("1 8", true),
            ("1 7 8", false),
            ("* 7", true),
            ("1", false),
            ("1 ?", true),
        ] {
            assert_eq!(
                pattern.parse::<AsPathPattern>().unwrap().matches(&path),
                expected,
                "{pattern}"
            );
        }
    }

    #[test]
    fn what_is_no_pattern_says_why() {
        for text in ["x", "1-", "-1", "9-1", "4294967296", "1,2"] {
            let error = text.parse::<AsPathPattern>().unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
        assert!("1 ".repeat(65).parse::<AsPathPattern>().is_err());
    }

    /// The obvious way: every way to split.
    fn slow(tokens: &[Token], path: &[u32]) -> bool {
        match (tokens.split_first(), path.split_first()) {
            (None, None) => true,
            (Some((Token::Any, rest)), _) => (0..=path.len()).any(|taken| slow(rest, &path[taken..])),
            (Some((Token::As { first, last }, rest)), Some((asn, others))) => {
                (first..=last).contains(&asn) && slow(rest, others)
            }
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn equals_the_obvious_way(
            words in prop::collection::vec(prop::sample::select(vec!["*", "?", "1", "2", "1-2"]), 0..7),
            path in prop::collection::vec(1u32..4, 0..8),
        ) {
            let pattern: AsPathPattern = words.join(" ").parse().unwrap();
            prop_assert_eq!(pattern.matches(&AsPath::sequence(path.iter().copied())), slow(&pattern.0, &path));
            prop_assert_eq!(pattern.to_string().parse::<AsPathPattern>().unwrap(), pattern);
        }
    }
}
