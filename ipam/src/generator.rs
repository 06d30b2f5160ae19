//! In which order a host tries the blocks of a pool.

use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;

/// Walks all blocks of a pool once, from a place that depends on the host: a host always starts at the same place, and
/// hosts start at different ones, so that they seldom want the same block.
#[derive(Debug, Clone)]
pub struct BlockGenerator {
    pool: IpNet,
    block_size: u8,
    blocks: u128,
    start: u128,
    next: u128,
}

impl BlockGenerator {
    /// The blocks of `pool` for `host`. Blocks of one address start anywhere, by `now`: they are used up one by one,
    /// and the same start would be tried in vain again and again.
    pub fn new(pool: IpNet, block_size: u8, host: &str, now: Timestamp) -> Self {
        let bits = block_size.saturating_sub(pool.prefix_len());
        // A /0 of /128 blocks has one block too many for the type: nobody walks that far.
        let blocks = 1u128.checked_shl(u32::from(bits)).unwrap_or(u128::MAX);
        let seed = if block_size == pool.max_prefix_len() {
            u64::from_ne_bytes(
                now.as_nanosecond().to_ne_bytes()[..8]
                    .try_into()
                    .unwrap_or_default(),
            )
        } else {
            u64::from(fnv1_32(host.as_bytes()))
        };
        Self {
            pool: pool.trunc(),
            block_size,
            blocks,
            start: u128::from(splitmix(seed)) % blocks,
            next: 0,
        }
    }
}

impl Iterator for BlockGenerator {
    type Item = IpNet;

    fn next(&mut self) -> Option<IpNet> {
        if self.next >= self.blocks {
            return None;
        }
        let index = (self.start + self.next) % self.blocks;
        self.next += 1;
        let shift = u32::from(self.pool.max_prefix_len() - self.block_size);
        let offset = index.checked_shl(shift)?;
        let address = match self.pool.network() {
            IpAddr::V4(base) => IpAddr::V4(u32::from(base).checked_add(u32::try_from(offset).ok()?)?.into()),
            IpAddr::V6(base) => IpAddr::V6(u128::from(base).checked_add(offset)?.into()),
        };
        IpNet::new(address, self.block_size).ok()
    }
}

/// FNV-1, 32 bits.
fn fnv1_32(bytes: &[u8]) -> u32 {
    const OFFSET: u32 = 0x811c_9dc5;
    const PRIME: u32 = 0x0100_0193;
    bytes
        .iter()
        .fold(OFFSET, |hash, byte| hash.wrapping_mul(PRIME) ^ u32::from(*byte))
}

/// One step of the SplitMix64 generator: spreads similar seeds.
fn splitmix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn walk(pool: &str, size: u8, host: &str) -> Vec<IpNet> {
        BlockGenerator::new(pool.parse().unwrap(), size, host, Timestamp::UNIX_EPOCH).collect()
    }

    #[test]
    fn every_block_comes_once() {
        for (pool, size, count) in [
            ("10.0.0.0/16", 26, 1024),
            ("10.0.0.0/26", 26, 1),
            ("fd00::/112", 122, 1024),
            ("10.9.8.0/28", 32, 16),
        ] {
            let blocks = walk(pool, size, "host-1");
            let pool: IpNet = pool.parse().unwrap();
            assert_eq!(blocks.len(), count);
            assert_eq!(blocks.iter().collect::<BTreeSet<_>>().len(), count);
            assert!(
                blocks
                    .iter()
                    .all(|b| pool.contains(b) && b.prefix_len() == size && b.trunc() == *b)
            );
        }
    }

    #[test]
    fn a_host_starts_at_its_own_place() {
        assert_eq!(walk("10.0.0.0/16", 26, "a"), walk("10.0.0.0/16", 26, "a"));
        let starts: BTreeSet<IpNet> = (0..64)
            .map(|n| walk("10.0.0.0/16", 26, &format!("host-{n}"))[0])
            .collect();
        assert!(starts.len() > 50, "{}", starts.len());
    }

    #[test]
    fn the_hash_is_fnv_1() {
        // From the published test vectors of FNV-1.
        assert_eq!(fnv1_32(b""), 0x811c_9dc5);
        assert_eq!(fnv1_32(b"a"), 0x050c_5d7e);
        assert_eq!(fnv1_32(b"foobar"), 0x31f0_b262);
    }

    #[test]
    fn a_huge_pool_is_walked_lazily() {
        let mut blocks = BlockGenerator::new("::/0".parse().unwrap(), 128, "h", Timestamp::UNIX_EPOCH);
        assert!(blocks.next().is_some());
    }
}
