//! What can go wrong, with Calico's texts where it has one.

use std::net::IpAddr;

use api::v3::ip_pool::AllowedUse;
use ipnet::IpNet;

use crate::block::Defect;

/// The outcome of an IPAM call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of IPAM.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store.
    #[error(transparent)]
    Datastore(#[from] datastore::Error),
    /// Every try met another writer.
    #[error("Max retries hit - excessive concurrent IPAM requests")]
    RetriesExhausted,
    /// There is no enabled pool of the family.
    #[error("cannot find a qualified ippool")]
    NoQualifiedPool,
    /// A pool was asked for that is not there.
    #[error("the given pool ({0}) does not exist, or is not enabled")]
    PoolNotEnabled(IpNet),
    /// A pool of the other family was asked for.
    #[error("the given pool ({pool}) is not {family}")]
    PoolFamily {
        /// The pool.
        pool: IpNet,
        /// What was asked for.
        family: datastore::key::Family,
    },
    /// No pool selects the node.
    #[error("no configured Calico pools for node {0}")]
    NoPoolsForNode(String),
    /// No pool allows the use.
    #[error("cannot find a qualified ippool, no pools match the required use ({use_})", use_ = .0.as_str())]
    NoPoolForUse(AllowedUse),
    /// A pool's selector is malformed.
    #[error("IPPool({pool}) has a bad {field} '{selector}': {reason}; correct it with calicoctl")]
    BadSelector {
        /// The pool.
        pool: String,
        /// `nodeSelector` or `namespaceSelector`.
        field: &'static str,
        /// Its text.
        selector: String,
        /// What the parser said.
        reason: String,
    },
    /// The block limit of the host is reached.
    #[error("cannot allocate new block due to per host block limit")]
    BlockLimit,
    /// The pools have no block left.
    #[error("No Free Blocks")]
    NoFreeBlocks,
    /// All blocks of the host are full and none may be claimed.
    #[error("failed to find or claim a block")]
    NoBlockClaimed,
    /// Another host has the block.
    #[error("block {0} is claimed by another host")]
    ClaimConflict(IpNet),
    /// The affinity said that the block is ours, the block does not.
    #[error("the affinity of block {0} was stale and has been removed")]
    StaleAffinity(IpNet),
    /// The block has addresses that are in use.
    #[error("block '{0}' is not empty")]
    BlockNotEmpty(IpNet),
    /// The block was changed since it was listed.
    #[error("block '{0}' has changed since it was read")]
    BlockChanged(IpNet),
    /// The address lies in no enabled pool.
    #[error("The provided IP address {0} is not in a configured pool")]
    NotInPool(IpAddr),
    /// The range lies in no pool, or is smaller than a block.
    #[error("The requested CIDR ({0}) is not within any configured pools, or smaller than a block.")]
    NotAClaimableRange(IpNet),
    /// The pool is not meant for this.
    #[error("IP address {address} is in IP pool \"{pool}\", which is not allowed for use {use_}", use_ = .wanted.as_str())]
    UseNotAllowed {
        /// The address.
        address: IpAddr,
        /// The pool.
        pool: String,
        /// The use.
        wanted: AllowedUse,
    },
    /// Somebody has the address, or it cools down.
    #[error("resource already exists: {0} with error: Address already assigned in block")]
    AlreadyAssigned(IpAddr),
    /// Strict affinity: the block is another host's.
    #[error("Block affinity ({held}) does not match provided ({wanted})")]
    AffinityMismatch {
        /// Who has it.
        held: String,
        /// Who asked.
        wanted: String,
    },
    /// Strict affinity: the block is nobody's.
    #[error("Attempt to assign from block {0} with no affinity")]
    NoAffinity(IpNet),
    /// The address has another handle than the one given.
    #[error("update conflict: {address} has handle '{held}', not '{given}'")]
    BadHandle {
        /// The address.
        address: IpAddr,
        /// Its handle.
        held: String,
        /// The one given.
        given: String,
    },
    /// The address was assigned anew since the caller saw it.
    #[error("update conflict: {address} has sequence number {held}, not {given}")]
    BadSequenceNumber {
        /// The address.
        address: IpAddr,
        /// Its number.
        held: u64,
        /// The one given.
        given: u64,
    },
    /// The address is not in the block.
    #[error("address {address} is not in block {block}")]
    NotInBlock {
        /// The address.
        address: IpAddr,
        /// The block.
        block: IpNet,
    },
    /// The stored block contradicts itself.
    #[error(
        "block {block} is malformed: {defect}; correct or delete its key before addresses of it can be assigned or released"
    )]
    Malformed {
        /// The block.
        block: IpNet,
        /// How.
        defect: Defect,
    },
    /// A handle has fewer addresses than are to be taken off.
    #[error("Tried to decrement handle '{handle}' for block {block} by {by}, but it has {count}")]
    HandleUnderflow {
        /// The handle.
        handle: String,
        /// The block.
        block: IpNet,
        /// By how many.
        by: u32,
        /// What it has.
        count: u32,
    },
    /// Addresses would be unusable.
    #[error("Cannot disable 'StrictAffinity' and 'AutoAllocateBlocks' at the same time")]
    NeitherStrictNorAuto,
    /// The limit has no effect otherwise.
    #[error("MaxBlocksPerHost requires StrictAffinity to be enabled")]
    LimitNeedsStrict,
}

impl Error {
    /// Another writer was faster.
    pub(crate) fn is_conflict(&self) -> bool {
        matches!(self, Self::Datastore(e) if e.is_conflict() || e.is_already_exists())
    }

    /// The key is not there.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Datastore(e) if e.is_does_not_exist())
    }
}
