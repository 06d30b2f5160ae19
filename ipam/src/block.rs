//! The arithmetic of one block: who has which address. No I/O; the time comes in.
//!
//! `allocations` has one entry an address: an index into `attributes`, or free. `unallocated` is the queue of free
//! ordinals: taken from the front, given back at the end, so that an address rests as long as possible.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::IpAddr;

use api::Time;
use api::ipam_model::{AllocationAttribute, AllocationBlock};
use ipnet::IpNet;
use jiff::Timestamp;

use crate::error::{Error, Result};

/// The largest block, as host bits: a /20 or a /116.
const HOST_BITS_MAX: u8 = 12;
/// Addresses that are kept from use on Windows hosts have this handle and do not make a block used.
const WINDOWS_RESERVED_HANDLE: &str = "windows-reserved-ipam-handle";

/// How a stored block contradicts itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Defect {
    /// Its value names another range than its key.
    OtherCidr(IpNet),
    /// It has more addresses than any block may have.
    TooLarge,
    /// There is not one allocation an address.
    Length(usize),
    /// An allocation has no attribute.
    NoAttribute {
        /// Which address.
        ordinal: usize,
        /// The index that is too high.
        index: u32,
    },
    /// A free ordinal is not in the block, is in use or is listed twice.
    BadFree(u32),
    /// A free address is not in the queue.
    Lost(usize),
    /// An attribute is of no address.
    Unreferenced(usize),
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherCidr(cidr) => write!(f, "its value says {cidr}"),
            Self::TooLarge => write!(f, "it has more than 2^{HOST_BITS_MAX} addresses"),
            Self::Length(length) => write!(f, "allocations has {length} entries"),
            Self::NoAttribute { ordinal, index } => {
                write!(
                    f,
                    "allocation {ordinal} has attribute {index}, which is not there"
                )
            }
            Self::BadFree(ordinal) => write!(
                f,
                "unallocated ordinal {ordinal} is out of range, in use or listed twice"
            ),
            Self::Lost(ordinal) => write!(f, "ordinal {ordinal} is neither allocated nor unallocated"),
            Self::Unreferenced(index) => write!(f, "attribute {index} is not referenced"),
        }
    }
}

/// The number of addresses of a block.
pub fn size(cidr: &IpNet) -> usize {
    1usize
        .checked_shl(u32::from(cidr.max_prefix_len() - cidr.prefix_len()))
        .unwrap_or(usize::MAX)
}

/// The block of a pool that an address lies in.
pub fn containing(address: IpAddr, block_size: u8) -> Option<IpNet> {
    IpNet::new(address, block_size).ok().map(|net| net.trunc())
}

/// The position of an address in its block.
pub fn ordinal(cidr: &IpNet, address: IpAddr) -> Option<usize> {
    if !cidr.contains(&address) {
        return None;
    }
    let offset = match (cidr.network(), address) {
        (IpAddr::V4(base), IpAddr::V4(address)) => u128::from(u32::from(address) - u32::from(base)),
        (IpAddr::V6(base), IpAddr::V6(address)) => u128::from(address) - u128::from(base),
        _ => return None,
    };
    usize::try_from(offset).ok()
}

/// The address at a position of a block.
pub fn address(cidr: &IpNet, ordinal: usize) -> Option<IpAddr> {
    if ordinal >= size(cidr) {
        return None;
    }
    Some(match cidr.network() {
        IpAddr::V4(base) => IpAddr::V4((u32::from(base) + u32::try_from(ordinal).ok()?).into()),
        IpAddr::V6(base) => IpAddr::V6((u128::from(base) + u128::try_from(ordinal).ok()?).into()),
    })
}

/// A block of which nobody has an address. `affinity`: who claims it now.
pub fn new(cidr: IpNet, affinity: Option<String>, now: Timestamp) -> AllocationBlock {
    let size = size(&cidr).min(1 << HOST_BITS_MAX);
    AllocationBlock {
        cidr,
        affinity_claim_time: affinity.as_ref().map(|_| Time::new(now)),
        affinity,
        allocations: vec![None; size],
        unallocated: (0..).take(size).collect(),
        attributes: Vec::new(),
        sequence_number: u64::try_from(now.as_nanosecond()).unwrap_or_default(),
        sequence_number_for_allocation: BTreeMap::new(),
        deleted: false,
        host_affinity: None,
    }
}

/// What the functions of this module rely on; a stored block is used only if it holds.
pub fn usable(block: &AllocationBlock, key_cidr: &IpNet) -> Result<(), Defect> {
    if block.cidr.trunc() != *key_cidr {
        return Err(Defect::OtherCidr(block.cidr));
    }
    if key_cidr.max_prefix_len() - key_cidr.prefix_len() > HOST_BITS_MAX {
        return Err(Defect::TooLarge);
    }
    if block.allocations.len() != size(key_cidr) {
        return Err(Defect::Length(block.allocations.len()));
    }
    for (ordinal, index) in allocated(block) {
        if block.attributes.get(index).is_none() {
            return Err(Defect::NoAttribute {
                ordinal,
                index: u32::try_from(index).unwrap_or(u32::MAX),
            });
        }
    }
    let mut seen = vec![false; block.allocations.len()];
    for &free in &block.unallocated {
        let ordinal = usize::try_from(free).unwrap_or(usize::MAX);
        match (block.allocations.get(ordinal), seen.get_mut(ordinal)) {
            (Some(None), Some(seen)) if !*seen => *seen = true,
            _ => return Err(Defect::BadFree(free)),
        }
    }
    Ok(())
}

/// Whether the block is whole: [`usable`], and nothing is lost.
pub fn consistent(block: &AllocationBlock, key_cidr: &IpNet) -> Result<(), Defect> {
    usable(block, key_cidr)?;
    let mut free = vec![false; block.allocations.len()];
    for &ordinal in &block.unallocated {
        if let Some(free) = usize::try_from(ordinal).ok().and_then(|o| free.get_mut(o)) {
            *free = true;
        }
    }
    let lost = block
        .allocations
        .iter()
        .zip(&free)
        .position(|(allocation, free)| allocation.is_none() && !free);
    if let Some(ordinal) = lost {
        return Err(Defect::Lost(ordinal));
    }
    let referenced: std::collections::HashSet<usize> = allocated(block).map(|(_, index)| index).collect();
    match (0..block.attributes.len()).find(|index| !referenced.contains(index)) {
        Some(index) => Err(Defect::Unreferenced(index)),
        None => Ok(()),
    }
}

/// Ordinals in use (or cooling down) and the index of their attribute.
fn allocated(block: &AllocationBlock) -> impl Iterator<Item = (usize, usize)> + '_ {
    block
        .allocations
        .iter()
        .enumerate()
        .filter_map(|(ordinal, index)| Some((ordinal, usize::try_from((*index)?).unwrap_or(usize::MAX))))
}

/// The attribute of an ordinal, if it is in use or cooling down.
pub fn attribute(block: &AllocationBlock, ordinal: usize) -> Option<&AllocationAttribute> {
    let index = (*block.allocations.get(ordinal)?)?;
    block.attributes.get(usize::try_from(index).ok()?)
}

/// How many addresses nobody has.
pub fn free_count(block: &AllocationBlock) -> usize {
    block.unallocated.len()
}

/// Whether nobody has an address. One that cools down counts as had.
pub fn is_empty(block: &AllocationBlock) -> bool {
    allocated(block).all(|(_, index)| {
        block
            .attributes
            .get(index)
            .and_then(|a| a.handle_id.as_deref())
            .is_some_and(|handle| handle.eq_ignore_ascii_case(WINDOWS_RESERVED_HANDLE))
    })
}

/// Whether the block may give addresses to `affinity`, where borrowing is not allowed.
pub fn check_affinity(block: &AllocationBlock, affinity: &str) -> Result<()> {
    match &block.affinity {
        Some(held) if held == affinity => Ok(()),
        Some(held) => Err(Error::AffinityMismatch {
            held: held.clone(),
            wanted: affinity.to_owned(),
        }),
        None => Err(Error::NoAffinity(block.cidr)),
    }
}

/// Old data has handles with a carriage return and rubbish behind.
pub fn sanitise_handle(handle: &str) -> &str {
    handle.split('\r').next().unwrap_or_default()
}

fn handle_of(attribute: &AllocationAttribute) -> Option<&str> {
    attribute.handle_id.as_deref().map(sanitise_handle)
}

/// The index of an attribute that is equal, or of a new one.
fn attribute_index(block: &mut AllocationBlock, attribute: AllocationAttribute) -> u32 {
    let index = block
        .attributes
        .iter()
        .position(|known| *known == attribute)
        .unwrap_or_else(|| {
            block.attributes.push(attribute);
            block.attributes.len() - 1
        });
    u32::try_from(index).unwrap_or(u32::MAX)
}

fn allocate(block: &mut AllocationBlock, ordinal: usize, index: u32) {
    if let Some(slot) = block.allocations.get_mut(ordinal) {
        *slot = Some(index);
        block
            .sequence_number_for_allocation
            .insert(ordinal.to_string(), block.sequence_number);
    }
}

/// Gives up to `wanted` free addresses to an owner, those that rested longest first; `usable_address` says which may be
/// given automatically. The answer has the block's prefix length.
pub fn auto_assign(
    block: &mut AllocationBlock,
    wanted: usize,
    handle: Option<&str>,
    attributes: &BTreeMap<String, String>,
    usable_address: impl Fn(IpAddr) -> bool,
) -> Vec<IpNet> {
    let cidr = block.cidr;
    let mut taken = Vec::new();
    block.unallocated.retain(|&free| {
        let ordinal = usize::try_from(free).unwrap_or(usize::MAX);
        match address(&cidr, ordinal) {
            Some(address) if taken.len() < wanted && usable_address(address) => {
                taken.push((ordinal, address));
                false
            }
            _ => true,
        }
    });
    if taken.is_empty() {
        return Vec::new();
    }
    let index = attribute_index(block, owner(handle, attributes));
    let mut nets = Vec::with_capacity(taken.len());
    for (ordinal, address) in taken {
        allocate(block, ordinal, index);
        nets.extend(IpNet::new(address, cidr.prefix_len()).ok());
    }
    nets
}

fn owner(handle: Option<&str>, attributes: &BTreeMap<String, String>) -> AllocationAttribute {
    AllocationAttribute {
        handle_id: handle.map(str::to_owned),
        secondary: attributes.clone(),
        ..AllocationAttribute::default()
    }
}

/// Gives this address to an owner.
pub fn assign(
    block: &mut AllocationBlock,
    wanted: IpAddr,
    handle: Option<&str>,
    attributes: &BTreeMap<String, String>,
) -> Result<()> {
    let ordinal = ordinal(&block.cidr, wanted).ok_or(Error::NotInBlock {
        address: wanted,
        block: block.cidr,
    })?;
    let before = block.unallocated.len();
    block
        .unallocated
        .retain(|&free| usize::try_from(free).ok() != Some(ordinal));
    if block.unallocated.len() == before {
        return Err(Error::AlreadyAssigned(wanted));
    }
    let index = attribute_index(block, owner(handle, attributes));
    allocate(block, ordinal, index);
    Ok(())
}

/// One address to release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// Which.
    pub address: IpAddr,
    /// Only if it has this handle.
    pub handle: Option<String>,
    /// Only if it was assigned at this sequence number.
    pub sequence_number: Option<u64>,
}

/// What [`release`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Released {
    /// Those that nobody had, or that cool down already.
    pub unallocated: Vec<IpAddr>,
    /// Those that were released.
    pub released: Vec<IpAddr>,
    /// How many of them by handle.
    pub by_handle: BTreeMap<String, u32>,
}

/// Takes addresses from their owners. All or nothing: a handle or sequence number that does not agree fails the whole.
/// [`normalise`] must follow, which frees what need not cool down.
pub fn release(block: &mut AllocationBlock, requests: &[Release], now: Timestamp) -> Result<Released> {
    let mut outcome = Released::default();
    let mut ordinals = Vec::new();
    for request in requests {
        let address = request.address;
        let ordinal = ordinal(&block.cidr, address).ok_or(Error::NotInBlock {
            address,
            block: block.cidr,
        })?;
        if ordinals.contains(&ordinal) {
            continue;
        }
        if let Some(given) = request.sequence_number {
            let held = block
                .sequence_number_for_allocation
                .get(&ordinal.to_string())
                .copied()
                .unwrap_or(0);
            if held != given {
                return Err(Error::BadSequenceNumber { address, held, given });
            }
        }
        let Some(attribute) = attribute(block, ordinal).filter(|a| a.released_at.is_none()) else {
            outcome.unallocated.push(address);
            continue;
        };
        let held = handle_of(attribute);
        if let Some(given) = &request.handle
            && held != Some(sanitise_handle(given))
        {
            let held = held.unwrap_or_default().to_owned();
            return Err(Error::BadHandle {
                address,
                held,
                given: given.clone(),
            });
        }
        if let Some(held) = held {
            *outcome.by_handle.entry(held.to_owned()).or_default() += 1;
        }
        ordinals.push(ordinal);
        outcome.released.push(address);
    }
    cool_down(block, &ordinals, now);
    Ok(outcome)
}

/// Takes all addresses that a handle has; gives their number.
pub fn release_by_handle(block: &mut AllocationBlock, handle: &str, now: Timestamp) -> u32 {
    let handle = sanitise_handle(handle);
    let ordinals: Vec<usize> = allocated(block)
        .filter(|(_, index)| {
            block
                .attributes
                .get(*index)
                .is_some_and(|a| handle_of(a) == Some(handle))
        })
        .map(|(ordinal, _)| ordinal)
        .collect();
    cool_down(block, &ordinals, now);
    u32::try_from(ordinals.len()).unwrap_or(u32::MAX)
}

/// The addresses that a handle has.
pub fn addresses_of_handle(block: &AllocationBlock, handle: &str) -> Vec<IpAddr> {
    let handle = sanitise_handle(handle);
    allocated(block)
        .filter(|(_, index)| {
            block
                .attributes
                .get(*index)
                .is_some_and(|a| handle_of(a) == Some(handle))
        })
        .filter_map(|(ordinal, _)| address(&block.cidr, ordinal))
        .collect()
}

/// Points ordinals at a marker that says when they were released.
fn cool_down(block: &mut AllocationBlock, ordinals: &[usize], now: Timestamp) {
    if ordinals.is_empty() {
        return;
    }
    let marker = AllocationAttribute {
        released_at: Some(Time::new(now)),
        ..AllocationAttribute::default()
    };
    let index = attribute_index(block, marker);
    for &ordinal in ordinals {
        allocate(block, ordinal, index);
    }
}

/// Frees the addresses that have cooled down and drops attributes that no address has. Runs after every read before
/// use, and after every release. Without a cool-down a released address is free at once, at the end of the queue.
pub fn normalise(block: &mut AllocationBlock, cooldown_seconds: u32, now: Timestamp) {
    let limit = now.as_second().saturating_sub(i64::from(cooldown_seconds));
    let cooled: Vec<usize> = allocated(block)
        .filter(|(_, index)| {
            let released = block.attributes.get(*index).and_then(|a| a.released_at);
            released.is_some_and(|at| cooldown_seconds == 0 || at.as_second() < limit)
        })
        .map(|(ordinal, _)| ordinal)
        .collect();
    for ordinal in cooled {
        if let Some(slot) = block.allocations.get_mut(ordinal) {
            *slot = None;
        }
        block.unallocated.extend(u32::try_from(ordinal));
        block.sequence_number_for_allocation.remove(&ordinal.to_string());
    }
    drop_unreferenced(block);
}

fn drop_unreferenced(block: &mut AllocationBlock) {
    let mut referenced = vec![false; block.attributes.len()];
    for (_, index) in allocated(block) {
        if let Some(flag) = referenced.get_mut(index) {
            *flag = true;
        }
    }
    if referenced.iter().all(|&flag| flag) {
        return;
    }
    let mut renumbered: HashMap<u32, u32> = HashMap::new();
    let mut kept = Vec::new();
    for (index, attribute) in std::mem::take(&mut block.attributes).into_iter().enumerate() {
        if referenced.get(index) == Some(&true) {
            if let (Ok(old), Ok(new)) = (u32::try_from(index), u32::try_from(kept.len())) {
                renumbered.insert(old, new);
            }
            kept.push(attribute);
        }
    }
    block.attributes = kept;
    for index in block.allocations.iter_mut().flatten() {
        if let Some(new) = renumbered.get(index) {
            *index = *new;
        }
    }
}
