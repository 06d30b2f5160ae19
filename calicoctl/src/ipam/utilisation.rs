//! How full pools and blocks are.

use api::IpPool;
use api::ipam_model::AllocationBlock;
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

/// Addresses of a pool or block, as floats: an IPv6 pool has more than 64 bits count.
struct Use {
    total: f64,
    used: f64,
}

pub(super) fn render(pools: &[IpPool], blocks: &[AllocationBlock], show_blocks: bool) -> String {
    let mut rows = Vec::new();
    let mut shown = vec![false; blocks.len()];
    for pool in pools {
        let Ok(cidr) = pool.spec.cidr.parse::<IpNet>() else {
            continue;
        };
        let mut block_rows = Vec::new();
        let mut used = 0.0;
        // A block counts for the first pool that it overlaps with.
        for (block, shown) in blocks.iter().zip(&mut shown).filter(|(_, shown)| !**shown) {
            if cidr.contains(&block.cidr) || block.cidr.contains(&cidr) {
                *shown = true;
                let of_block = block_use(block);
                used += of_block.used;
                block_rows.push(row("Block", &block.cidr, &of_block));
            }
        }
        rows.push(row(
            "IP Pool",
            &cidr,
            &Use {
                total: capacity(&cidr),
                used,
            },
        ));
        if show_blocks {
            rows.extend(block_rows);
        }
    }
    if show_blocks {
        let orphans = blocks.iter().zip(&shown).filter(|(_, shown)| !**shown);
        rows.extend(orphans.map(|(block, _)| row("Block", &block.cidr, &block_use(block))));
    }
    boxes::table(&HEADINGS, &rows, &[2, 3, 4, 5])
}

fn capacity(cidr: &IpNet) -> f64 {
    f64::from(cidr.max_prefix_len() - cidr.prefix_len()).exp2()
}

/// What is not free is in use: also addresses that cool down.
#[expect(clippy::cast_precision_loss, reason = "a block has at most 4096 addresses")]
fn block_use(block: &AllocationBlock) -> Use {
    let total = capacity(&block.cidr);
    Use {
        total,
        used: (total - block.unallocated.len() as f64).max(0.0),
    }
}

fn row(grouping: &str, cidr: &IpNet, of: &Use) -> Vec<String> {
    let count = |n: f64| float_with_digits(n, COUNT_DIGITS);
    let share = |n: f64| format!("{} ({}%)", count(n), percent(n, of.total));
    vec![
        grouping.to_owned(),
        cidr.to_string(),
        count(of.total),
        share(of.used),
        share(0.0),
        share((of.total - of.used).max(0.0)),
    ]
}

#[cfg(test)]
mod tests {
    use api::ObjectMeta;

    use super::*;

    fn pool(cidr: &str) -> IpPool {
        let mut pool = IpPool {
            metadata: ObjectMeta::named("p"),
            ..IpPool::default()
        };
        pool.spec.cidr = cidr.to_owned();
        pool
    }

    fn block(cidr: &str, used: usize) -> AllocationBlock {
        let mut block = super::super::sample::block();
        block.cidr = cidr.parse().unwrap();
        let size = 1_u32 << (block.cidr.max_prefix_len() - block.cidr.prefix_len());
        block.unallocated = (0..size).skip(used).collect();
        block
    }

    #[test]
    fn as_the_reference_prints_it() {
        assert_eq!(
            render(&[pool("10.65.0.0/16")], &[block("10.65.79.0/26", 5)], true),
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
        let text = render(
            &[pool("10.0.0.0/12"), pool("fd00::/64")],
            &[block("192.168.0.0/26", 1)],
            true,
        );
        assert!(text.contains("| 1.0486e+06 |"), "{text}");
        assert!(text.contains("| 1.8447e+19 |"), "{text}");
        assert!(
            text.lines()
                .nth(5)
                .is_some_and(|line| line.starts_with("| Block    | 192.168.0.0/26 |")),
            "{text}"
        );
        let narrow = render(&[pool("10.0.0.0/12")], &[block("192.168.0.0/26", 1)], false);
        assert!(!narrow.contains("Block"), "{narrow}");
    }
}
