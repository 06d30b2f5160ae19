//! What the engine tells the dataplane: identities, compiled programs and endpoints, as deltas.
//!
//! A program is the ordered rule list of one endpoint, direction and address family, all tiers laid one
//! after the other and the profiles last, compiled to bit vectors (DESIGN D5). Rule `i` is bit `i`. For each
//! dimension a lookup of the packet's value gives the index of a vector, whose bit `i` says whether rule `i`
//! accepts that value; the first bit set in the AND of all dimensions' vectors is the rule that decides.
//! A value that a dimension's table does not hold takes that dimension's default vector.
//!
//! A rule that names ports both by number and by name is two adjacent bits with the same [`RuleId`].

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

/// The most rules (bits) that a program may have.
pub const PROGRAM_RULES_MAX: usize = 4096;

/// A class of addresses that every selector treats alike. 0 is "no known endpoint or network set".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IdentityId(pub u32);

impl IdentityId {
    /// The identity of addresses that belong to no endpoint and no network set.
    pub const UNKNOWN: Self = Self(0);
}

/// Names one content of a program, apart from the identities that it is taught. Never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProgramKey(pub u64);

/// Seen from the endpoint: ingress is towards it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// Towards the endpoint.
    Ingress,
    /// From the endpoint.
    Egress,
}

/// Address family of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// `<orchestrator>/<workload>/<endpoint>` as Felix's v1 key has it; workload is `<namespace>/<name>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointId {
    /// `k8s`, `cni`, ...
    pub orchestrator: String,
    /// `<namespace>/<pod or container id>`.
    pub workload: String,
    /// `eth0`, ...
    pub endpoint: String,
}

/// Who a verdict is ascribed to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RuleId {
    /// Rule `index` of a policy's list for the program's direction.
    Policy {
        /// Tier name.
        tier: String,
        /// `NetworkPolicy`, `GlobalNetworkPolicy`, ...
        kind: String,
        /// Empty for a global kind.
        namespace: String,
        /// Policy name.
        name: String,
        /// Index in the policy's ingress or egress list.
        index: u32,
    },
    /// No rule of the tier matched; its default action applies.
    EndOfTier {
        /// Tier name.
        tier: String,
    },
    /// Rule `index` of a profile.
    Profile {
        /// Profile name.
        name: String,
        /// Index in the profile's list for the direction.
        index: u32,
    },
    /// No profile rule matched, or there is no profile: drop.
    EndOfProfiles,
}

/// What a matching rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// The packet passes this leg.
    Allow,
    /// The packet is dropped.
    Deny,
    /// Evaluation goes on at bit `next`: the first rule of the next tier or of the profiles.
    Pass {
        /// The first bit of what follows the tier.
        next: u16,
    },
    /// The packet is recorded and evaluation goes on with the next rule.
    Log,
}

/// One bit of a program.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rule {
    /// What it does.
    pub action: Action,
    /// Who it is ascribed to.
    pub id: RuleId,
}

/// A bit vector over the rules of a program; bit `i % 64` of word `i / 64` is rule `i`.
pub type BitVector = Arc<[u64]>;

/// Index into [`Program::vectors`].
pub type VectorIndex = u16;

/// A lookup by key with a default for keys that it does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table<K> {
    /// Sorted by key. For prefixes (nets, ports) the longest match decides, and each entry's vector already
    /// holds what its covering entries would give.
    pub entries: Vec<(K, VectorIndex)>,
    /// The vector of everything else.
    pub default: VectorIndex,
}

/// A protocol and a prefix of a port: `bits` leading bits of `port` count.
/// `bits` 0 stands for every port of the protocol, and for protocols without ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortPrefix {
    /// IP protocol number.
    pub protocol: u8,
    /// Host byte order; the bits beyond `bits` are 0.
    pub port: u16,
    /// 0..=16.
    pub bits: u8,
}

/// An ICMP type, and a code or any code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IcmpKey {
    /// ICMP or ICMPv6 type.
    pub r#type: u8,
    /// `None`: every code that has no entry of its own.
    pub code: Option<u8>,
}

/// An exact (address, protocol, port): members of named ports and of services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TupleKey {
    /// Address of the side that the port belongs to.
    pub address: IpAddr,
    /// IP protocol number.
    pub protocol: u8,
    /// Host byte order.
    pub port: u16,
}

/// A compiled rule list. A dimension that is `None` constrains no rule and is not looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// At most [`PROGRAM_RULES_MAX`]. The last one is always unconditional, so a verdict always has a name.
    pub rules: Vec<Rule>,
    /// Each of `rules.len().div_ceil(64)` words; equal vectors are shared.
    pub vectors: Vec<BitVector>,
    /// Rules that hold for the source's identity (selectors).
    pub source_identity: Option<Table<IdentityId>>,
    /// Rules that hold for the destination's identity.
    pub destination_identity: Option<Table<IdentityId>>,
    /// Rules that hold for the source address (nets); longest match.
    pub source_net: Option<Table<IpNet>>,
    /// Rules that hold for the destination address; longest match.
    pub destination_net: Option<Table<IpNet>>,
    /// Rules that hold for protocol and destination port; longest match within the protocol.
    pub destination_port: Option<Table<PortPrefix>>,
    /// Rules that hold for protocol and source port.
    pub source_port: Option<Table<PortPrefix>>,
    /// Rules that hold for the ICMP type and code; the default is for packets that are not ICMP. An ICMP packet
    /// without an entry takes `icmp_other`.
    pub icmp: Option<Table<IcmpKey>>,
    /// The vector of ICMP packets whose type has no entry. Meaningful only when `icmp` is there.
    pub icmp_other: VectorIndex,
    /// Rules that hold for (source address, protocol, source port).
    pub source_tuple: Option<Table<TupleKey>>,
    /// Rules that hold for (destination address, protocol, destination port).
    pub destination_tuple: Option<Table<TupleKey>>,
}

impl Program {
    /// Applies a change of identities, for holders of whole programs.
    pub fn apply(&mut self, change: &IdentityChange) {
        self.vectors.extend(change.vectors.iter().cloned());
        for (table, added) in [
            (&mut self.source_identity, &change.source),
            (&mut self.destination_identity, &change.destination),
        ] {
            if let Some(table) = table {
                table.entries.retain(|(id, _)| !change.removed.contains(id));
                table.entries.extend(added.iter().copied());
                table.entries.sort_unstable_by_key(|&(id, _)| id);
            }
        }
    }
}

/// Entries to add to or take from a program's identity tables **in place**, under the program id in use: when the delta comes, no
/// address has an added identity yet and none has a removed one any more, so that no packet's verdict changes
/// and no approved flow needs to be judged again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdentityChange {
    /// To be appended to [`Program::vectors`]; the entries below may refer to them.
    pub vectors: Vec<BitVector>,
    /// Identities that [`Program::source_identity`] does not hold yet.
    pub source: Vec<(IdentityId, VectorIndex)>,
    /// Identities that [`Program::destination_identity`] does not hold yet.
    pub destination: Vec<(IdentityId, VectorIndex)>,
    /// Identities that no address has any more: taken from both tables where they are.
    pub removed: Vec<IdentityId>,
}

/// The programs of one endpoint, both directions and families.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndpointPrograms {
    /// IPv4 towards the endpoint.
    pub ingress_v4: ProgramKey,
    /// IPv4 from the endpoint.
    pub egress_v4: ProgramKey,
    /// IPv6 towards the endpoint.
    pub ingress_v6: ProgramKey,
    /// IPv6 from the endpoint.
    pub egress_v6: ProgramKey,
}

impl EndpointPrograms {
    /// The program of a direction and family.
    pub fn key(&self, direction: Direction, family: Family) -> ProgramKey {
        match (direction, family) {
            (Direction::Ingress, Family::V4) => self.ingress_v4,
            (Direction::Egress, Family::V4) => self.egress_v4,
            (Direction::Ingress, Family::V6) => self.ingress_v6,
            (Direction::Egress, Family::V6) => self.egress_v6,
        }
    }

    /// All four.
    pub fn keys(&self) -> [ProgramKey; 4] {
        [self.ingress_v4, self.egress_v4, self.ingress_v6, self.egress_v6]
    }
}

/// A local workload endpoint as the dataplane needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Who it is.
    pub id: EndpointId,
    /// Host-side interface name.
    pub interface: String,
    /// Its own addresses; anything else as a source is spoofed.
    pub addresses: Vec<IpAddr>,
    /// Further sources that it may use (`allowSpoofedSourcePrefixes`).
    pub allowed_sources: Vec<IpNet>,
    /// MAC of the workload's end, if known.
    pub mac: Option<[u8; 6]>,
    /// What to enforce.
    pub programs: EndpointPrograms,
}

/// A change of the desired state. A batch is applied **in its order**, each item in force before the next one:
/// first [`Delta::ProgramIdentities`] teaches the running programs the new identities, then addresses change
/// identity, then new programs are added, then endpoints move to them, then what is unused goes.
/// So a packet is judged by its endpoint's old programs or by its new ones, with old or new membership, never by
/// rules that were meant for another endpoint, nor by a program that does not know an address's identity.
/// An identity id is never used again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delta {
    /// Addresses in `net` now have this identity; [`IdentityId::UNKNOWN`] removes the entry. The longest net
    /// decides, and already stands for what its covering nets would give.
    Identity {
        /// A single address or a prefix.
        net: IpNet,
        /// Its class.
        identity: IdentityId,
    },
    /// A new program. Its rules never change: new content comes under a new key.
    ProgramAdd {
        /// Its name.
        key: ProgramKey,
        /// Its content.
        program: Arc<Program>,
    },
    /// New or dead identities of a program that is otherwise unchanged.
    ProgramIdentities {
        /// A program added before.
        key: ProgramKey,
        /// What to add and take.
        change: Arc<IdentityChange>,
    },
    /// No endpoint uses this program any more.
    ProgramRemove {
        /// Its name.
        key: ProgramKey,
    },
    /// A new or changed local endpoint.
    EndpointUpdate(Box<Endpoint>),
    /// The endpoint is gone.
    EndpointRemove(EndpointId),
}
