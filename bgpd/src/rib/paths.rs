//! The paths of one prefix, and which of them are selected.

use smallvec::SmallVec;

use super::import::Ineligible;
use super::intern::AttrId;
use super::sources::SourceId;

/// One source's route to a prefix. 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Path {
    /// Who announced it; it holds a reference.
    pub(super) source: SourceId,
    /// As it came.
    pub(super) received: AttrId,
    /// After the import policy; of no meaning for a path that is ineligible.
    attributes: AttrId,
    ineligible: Option<Ineligible>,
    /// Kept from before the peer's restart.
    pub(super) stale: bool,
    /// It was usable when the paths were ranked last, which is done for neighbours with add-path.
    pub(super) ranked: bool,
}

impl Path {
    /// A path that the peer has just announced; `accepted` says what the import policy made of it.
    pub(super) fn new(source: SourceId, received: AttrId, accepted: Result<AttrId, Ineligible>) -> Self {
        Self {
            source,
            received,
            attributes: accepted.unwrap_or(received),
            ineligible: accepted.err(),
            stale: false,
            ranked: false,
        }
    }

    /// Whether both are the same but for their ranks.
    pub(super) fn is_as(&self, other: &Self) -> bool {
        let ranked = self.ranked;
        *self == Self { ranked, ..*other }
    }

    /// After the import policy, or why it is not used.
    pub(super) fn accepted(&self) -> Result<AttrId, Ineligible> {
        self.ineligible.map_or(Ok(self.attributes), Err)
    }
}

/// A path that was selected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Chosen {
    pub(super) source: SourceId,
    pub(super) attributes: AttrId,
}

/// Paths in the order of preference: the best path and those equal to it, or all that are usable.
pub(super) type Choices = SmallVec<[Chosen; 2]>;

/// Most prefixes have one path, which needs no memory of its own; two are one allocation.
#[derive(Debug, Default)]
pub(super) enum Paths {
    #[default]
    None,
    One(Path),
    Many(Box<SmallVec<[Path; 2]>>),
}

impl Paths {
    pub(super) fn as_slice(&self) -> &[Path] {
        match self {
            Self::None => &[],
            Self::One(path) => std::slice::from_ref(path),
            Self::Many(paths) => paths,
        }
    }

    /// The path, if there is but one.
    pub(super) fn only(&self) -> Option<Path> {
        match self {
            Self::One(path) => Some(*path),
            Self::None | Self::Many(_) => None,
        }
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [Path] {
        match self {
            Self::None => &mut [],
            Self::One(path) => std::slice::from_mut(path),
            Self::Many(paths) => paths,
        }
    }

    /// Store a path in the place of the same source's; gives the one that it replaces.
    pub(super) fn put(&mut self, path: Path) -> Option<Path> {
        if let Some(old) = self
            .as_mut_slice()
            .iter_mut()
            .find(|old| old.source == path.source)
        {
            let ranked = old.ranked;
            return Some(std::mem::replace(old, Path { ranked, ..path }));
        }
        *self = match std::mem::take(self) {
            Self::None => Self::One(path),
            Self::One(first) => Self::Many(Box::new([first, path].into())),
            Self::Many(mut paths) => {
                paths.push(path);
                Self::Many(paths)
            }
        };
        None
    }

    /// Take a source's path.
    pub(super) fn remove(&mut self, source: SourceId) -> Option<Path> {
        let at = self.as_slice().iter().position(|path| path.source == source)?;
        match std::mem::take(self) {
            Self::None => None,
            Self::One(path) => Some(path),
            Self::Many(mut paths) => {
                let removed = paths.remove(at);
                *self = match paths.as_slice() {
                    [last] => Self::One(*last),
                    _ => Self::Many(paths),
                };
                Some(removed)
            }
        }
    }

    /// Put the chosen paths in front, in their order.
    pub(super) fn bring_forward(&mut self, chosen: &[Chosen]) {
        let paths = self.as_mut_slice();
        for (to, choice) in chosen.iter().enumerate() {
            let rest = paths.get(to..).unwrap_or_default();
            let at = rest.iter().position(|path| path.source == choice.source);
            if let Some(at) = at.filter(|at| *at > 0) {
                paths.swap(to, to + at);
            }
        }
    }

    /// Put the ranked paths in front, in their order, and mark them.
    pub(super) fn rank(&mut self, ranked: &[Chosen]) {
        self.bring_forward(ranked);
        for (at, path) in self.as_mut_slice().iter_mut().enumerate() {
            path.ranked = at < ranked.len();
        }
    }

    /// Bytes outside of the value itself.
    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Self::None | Self::One(_) => 0,
            Self::Many(paths) => {
                let spilled = if paths.spilled() { paths.capacity() } else { 0 };
                size_of::<SmallVec<[Path; 2]>>() + spilled * size_of::<Path>()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rib::PeerId;

    const fn source(number: u32) -> SourceId {
        SourceId::of_peer(PeerId(number))
    }

    fn path(number: u32) -> Path {
        Path::new(source(number), AttrId::of(7), Err(Ineligible::Policy))
    }

    fn sources(paths: &Paths) -> Vec<SourceId> {
        paths.as_slice().iter().map(|path| path.source).collect()
    }

    #[test]
    fn a_path_and_the_paths_of_a_prefix_take_16_bytes() {
        assert_eq!((size_of::<Path>(), size_of::<Paths>()), (16, 16));
    }

    #[test]
    fn paths_come_go_and_move_forward() {
        let mut paths = Paths::default();
        for number in 1..=4 {
            assert_eq!(paths.put(path(number)), None);
        }
        assert_eq!(paths.put(path(2)), Some(path(2)));
        let choice = |number| Chosen {
            source: source(number),
            attributes: AttrId::of(7),
        };
        paths.bring_forward(&[choice(3), choice(1)]);
        assert_eq!(sources(&paths), [3, 1, 2, 4].map(source));
        assert_eq!(paths.remove(source(9)), None);
        for (number, left) in [(1, vec![3, 2, 4]), (4, vec![3, 2]), (3, vec![2]), (2, vec![])] {
            assert_eq!(paths.remove(source(number)), Some(path(number)));
            let left: Vec<SourceId> = left.into_iter().map(source).collect();
            assert_eq!(sources(&paths), left);
        }
        assert_eq!(paths.heap_bytes(), 0);
    }
}
