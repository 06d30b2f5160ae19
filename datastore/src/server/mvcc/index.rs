//! The key index: for each key, its versions in order. Values are not here; see `records`.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::Revision;
use super::span::{Bounds, Span};

/// One version of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    /// The change that made it.
    pub(crate) revision: Revision,
    /// The revision in which the key's present life began.
    pub(crate) created: i64,
    /// Counts the puts of this life from one; zero marks a deletion.
    pub(crate) count: i64,
    /// The lease the key is attached to, or zero.
    pub(crate) lease: i64,
}

impl Version {
    fn is_deletion(&self) -> bool {
        self.count == 0
    }
}

/// All keys and their versions since the last compaction.
#[derive(Debug, Default)]
pub(crate) struct Index {
    keys: BTreeMap<Bytes, Vec<Version>>,
}

impl Index {
    /// Records a put and gives the version that it makes.
    pub(crate) fn put(&mut self, key: &Bytes, revision: Revision, lease: i64) -> Version {
        let versions = self.keys.entry(key.clone()).or_default();
        let (created, count) = match versions.last() {
            Some(last) if !last.is_deletion() => (last.created, last.count + 1),
            _ => (revision.main, 1),
        };
        let version = Version {
            revision,
            created,
            count,
            lease,
        };
        versions.push(version);
        version
    }

    /// Records a version read back from the file; revisions must come in rising order.
    pub(crate) fn restore(&mut self, key: Bytes, version: Version) {
        self.keys.entry(key).or_default().push(version);
    }

    /// Records the deletion of a key that is alive.
    pub(crate) fn delete(&mut self, key: &[u8], revision: Revision) {
        if let Some(versions) = self.keys.get_mut(key) {
            versions.push(Version {
                revision,
                created: 0,
                count: 0,
                lease: 0,
            });
        }
    }

    /// The version of a key that is alive at a revision.
    pub(crate) fn at(&self, key: &[u8], revision: i64) -> Option<Version> {
        live_at(self.keys.get(key)?, revision)
    }

    /// The keys of a span that are alive at a revision, in order.
    pub(crate) fn span_at<'a>(
        &'a self,
        span: &'a Span,
        revision: i64,
    ) -> impl Iterator<Item = (&'a Bytes, Version)> {
        span.bounds()
            .map(|bounds: Bounds<'_>| self.keys.range::<[u8], _>(bounds))
            .into_iter()
            .flatten()
            .filter_map(move |(key, versions)| Some((key, live_at(versions, revision)?)))
    }

    /// Every key alive now, with its version.
    pub(crate) fn live(&self) -> impl Iterator<Item = (&Bytes, Version)> {
        self.keys
            .iter()
            .filter_map(|(key, versions)| Some((key, live_at(versions, i64::MAX)?)))
    }

    /// Forgets what no read at `revision` or later can see, and gives the forgotten changes.
    ///
    /// A deletion made in `revision` itself is kept, so that a watch that starts there sees it.
    pub(crate) fn compact(&mut self, revision: i64) -> Vec<Revision> {
        let mut forgotten = Vec::new();
        self.keys.retain(|_, versions| {
            let past = versions.partition_point(|v| v.revision.main <= revision);
            let keep_from = match past
                .checked_sub(1)
                .and_then(|last| Some((last, versions.get(last)?)))
            {
                None => 0,
                Some((_, last)) if last.is_deletion() && last.revision.main < revision => past,
                Some((last, _)) => last,
            };
            forgotten.extend(versions.drain(..keep_from).map(|v| v.revision));
            !versions.is_empty()
        });
        forgotten.sort_unstable();
        forgotten
    }

    /// The changes at or before `revision` that a read at it still sees.
    pub(crate) fn kept_at(&self, revision: i64) -> std::collections::HashSet<Revision> {
        self.keys
            .values()
            .filter_map(|versions| Some(live_at(versions, revision)?.revision))
            .collect()
    }
}

fn live_at(versions: &[Version], revision: i64) -> Option<Version> {
    let past = versions.partition_point(|v| v.revision.main <= revision);
    let last = versions.get(past.checked_sub(1)?)?;
    (!last.is_deletion()).then_some(*last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rev(main: i64) -> Revision {
        Revision { main, sub: 0 }
    }

    #[test]
    fn a_key_has_lives() {
        let mut index = Index::default();
        let key = Bytes::from_static(b"k");
        index.put(&key, rev(2), 0);
        let second = index.put(&key, rev(3), 7);
        assert_eq!((second.created, second.count, second.lease), (2, 2, 7));
        index.delete(&key, rev(4));
        let third = index.put(&key, rev(5), 0);
        assert_eq!((third.created, third.count), (5, 1));
        assert_eq!(index.at(b"k", 3), Some(second));
        assert_eq!(index.at(b"k", 4), None);
        assert_eq!(index.at(b"k", 9), Some(third));
    }

    #[test]
    fn compaction_keeps_what_reads_at_it_see() {
        let mut index = Index::default();
        let key = Bytes::from_static(b"k");
        index.put(&key, rev(2), 0);
        index.put(&key, rev(3), 0);
        index.delete(&key, rev(4));
        assert_eq!(index.compact(3), [rev(2)]);
        assert_eq!(index.at(b"k", 3).map(|v| v.count), Some(2));
        // The deletion at the compact revision stays for a watch that starts there ...
        assert_eq!(index.compact(4), [rev(3)]);
        assert_eq!(index.at(b"k", 4), None);
        // ... and goes with the next compaction.
        assert_eq!(index.compact(5), [rev(4)]);
        assert!(index.keys.is_empty());
    }
}
