//! How full pools and blocks are.

use ipam::{ORPHANED_BLOCKS, PoolUtilisation};
use ipnet::IpNet;

use crate::go_text::{float_with_digits, percent};
use crate::output::boxes;

/// Significant digits of a count.
const COUNT_DIGITS: usize = 5;
const HEADINGS: [&str; 6] = [
    "GROUPING",
    "CIDR",
    "IPS TOTAL",
    "IPS IN USE",
    "IPS RESERVED",
    "IPS FREE",
];

pub(super) fn render(pools: &[PoolUtilisation], show_blocks: bool) -> String {
    let mut rows = Vec::new();
    for pool in pools {
        if pool.name != ORPHANED_BLOCKS {
            rows.push(row(
                "IP Pool",
                &pool.cidr,
                pool.capacity,
                pool.in_use,
                pool.available,
            ));
        }
        if show_blocks {
            let wide = |count: usize| u128::try_from(count).unwrap_or(u128::MAX);
            rows.extend(pool.blocks.iter().map(|block| {
                row(
                    "Block",
                    &block.cidr,
                    wide(block.capacity),
                    wide(block.in_use),
                    wide(block.available),
                )
            }));
        }
    }
    boxes::table(&HEADINGS, &rows, &[2, 3, 4, 5])
}

#[expect(clippy::cast_precision_loss, reason = "five digits are shown")]
fn row(grouping: &str, cidr: &IpNet, total: u128, used: u128, free: u128) -> Vec<String> {
    let count = |n: u128| float_with_digits(n as f64, COUNT_DIGITS);
    let share = |n: u128| format!("{} ({}%)", count(n), percent(n as f64, total as f64));
    vec![
        grouping.to_owned(),
        cidr.to_string(),
        count(total),
        share(used),
        share(0),
        share(free),
    ]
}

#[cfg(test)]
mod tests {
    use ipam::BlockUtilisation;

    use super::*;

    fn pool(name: &str, cidr: &str, capacity: u128, blocks: &[(&str, usize)]) -> PoolUtilisation {
        let blocks: Vec<BlockUtilisation> = blocks
            .iter()
            .map(|(cidr, in_use)| BlockUtilisation {
                cidr: cidr.parse().unwrap(),
                affinity: None,
                capacity: 64,
                in_use: *in_use,
                available: 64 - in_use,
            })
            .collect();
        let in_use = blocks.iter().map(|block| block.in_use as u128).sum();
        PoolUtilisation {
            name: name.to_owned(),
            cidr: cidr.parse().unwrap(),
            capacity,
            in_use,
            available: capacity.saturating_sub(in_use),
            blocks,
        }
    }

    #[test]
    fn as_the_reference_prints_it() {
        assert_eq!(
            render(&[pool("a", "10.65.0.0/16", 65536, &[("10.65.79.0/26", 5)])], true),
            "+----------+---------------+-----------+------------+--------------+--------------+\n\
             | GROUPING | CIDR          | IPS TOTAL | IPS IN USE | IPS RESERVED | IPS FREE     |\n\
             +----------+---------------+-----------+------------+--------------+--------------+\n\
             | IP Pool  | 10.65.0.0/16  |     65536 |     5 (0%) |       0 (0%) | 65531 (100%) |\n\
             | Block    | 10.65.79.0/26 |        64 |     5 (8%) |       0 (0%) |     59 (92%) |\n\
             +----------+---------------+-----------+------------+--------------+--------------+\n"
        );
    }

    #[test]
    fn large_pools_and_orphans() {
        let pools = [
            pool("a", "10.0.0.0/12", 1 << 20, &[]),
            pool("b", "fd00::/64", 1 << 64, &[]),
            pool(ORPHANED_BLOCKS, "0.0.0.0/0", 0, &[("192.168.0.0/26", 1)]),
        ];
        let text = render(&pools, true);
        assert!(text.contains("| 1.0486e+06 |"), "{text}");
        assert!(text.contains("| 1.8447e+19 |"), "{text}");
        assert!(
            text.lines()
                .nth(5)
                .is_some_and(|line| line.starts_with("| Block    | 192.168.0.0/26 |")),
            "{text}"
        );
        assert!(!text.contains("0.0.0.0/0"), "{text}");
        assert!(!render(&pools, false).contains("Block"));
    }
}
