//! The maps. User space chooses the sizes when it creates them; these are for a bare load.

use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf};
use ebpf_common::Address;
use ebpf_common::conntrack::{Flow, FlowKey, FragmentKey, FragmentPorts, Settings};
use ebpf_common::endpoint::{Generation, Publication, SourceKey};
use ebpf_common::event;
use ebpf_common::program::{
    ClassKey, Hits, Identity, IdentityNetKey, NetKey, PortKey, Program, Rule, TupleKey, Vector,
};

use crate::classify::Verdict;
use crate::hook::Hook;
use crate::packet::{Packet, Tuple};

/// Interface index → what is enforced there.
#[map]
pub static INTERFACES: HashMap<u32, Publication> = HashMap::with_max_entries(4096, BPF_F_NO_PREALLOC);

/// Generation → program ids and addresses of an endpoint.
#[map]
pub static GENERATIONS: HashMap<u32, Generation> = HashMap::with_max_entries(16384, BPF_F_NO_PREALLOC);

/// Further sources of endpoints.
#[map]
pub static SOURCES: LpmTrie<SourceKey, u32> = LpmTrie::with_max_entries(65536, 0);

/// Program id → where its vectors and rules are.
#[map]
pub static PROGRAMS: HashMap<u32, Program> = HashMap::with_max_entries(16384, BPF_F_NO_PREALLOC);

/// Bit vectors, shared by all programs that have equal ones.
#[map]
pub static VECTORS: Array<Vector> = Array::with_max_entries(64, 0);

/// Actions of rules.
#[map]
pub static RULES: Array<Rule> = Array::with_max_entries(64, 0);

/// Hits of rules.
#[map]
pub static RULE_HITS: PerCpuArray<Hits> = PerCpuArray::with_max_entries(64, 0);

/// Address → identity.
#[map]
pub static IDENTITIES: HashMap<Address, Identity> = HashMap::with_max_entries(1024, BPF_F_NO_PREALLOC);

/// Prefix → identity, for addresses that are not in `IDENTITIES`.
#[map]
pub static IDENTITY_NETS: LpmTrie<IdentityNetKey, Identity> = LpmTrie::with_max_entries(1024, 0);

/// (Program, identity or ICMP type) → vector.
#[map]
pub static CLASSES: HashMap<ClassKey, u32> = HashMap::with_max_entries(1024, BPF_F_NO_PREALLOC);

/// (Program, prefix) → vector.
#[map]
pub static NETS: LpmTrie<NetKey, u32> = LpmTrie::with_max_entries(1024, 0);

/// (Program, protocol, port prefix) → vector.
#[map]
pub static PORTS: LpmTrie<PortKey, u32> = LpmTrie::with_max_entries(1024, 0);

/// (Program, address, protocol, port) → vector.
#[map]
pub static TUPLES: HashMap<TupleKey, u32> = HashMap::with_max_entries(1024, BPF_F_NO_PREALLOC);

/// Established flows.
#[map]
pub static FLOWS: HashMap<FlowKey, Flow> = HashMap::with_max_entries(1024, BPF_F_NO_PREALLOC);

/// Half-open flows; a flood of them cannot drive out an established one.
#[map]
pub static NEW_FLOWS: LruHashMap<FlowKey, Flow> = LruHashMap::with_max_entries(1024, 0);

/// Ports of datagrams whose first fragment passed.
#[map]
pub static FRAGMENTS: LruHashMap<FragmentKey, FragmentPorts> = LruHashMap::with_max_entries(8192, 0);

/// Lifetimes and switches.
#[map]
pub static SETTINGS: Array<Settings> = Array::with_max_entries(1, 0);

/// Packets by reason.
#[map]
pub static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(event::COUNTERS, 0);

/// What a run of a program works on: more than fits on its stack, and contents that the verifier need not follow. A CPU
/// runs one of these programs at a time.
#[map]
pub static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// See [`SCRATCH`].
#[repr(C)]
pub struct Scratch {
    pub hook: Hook,
    pub packet: Packet,
    /// The packet that an ICMP error quotes.
    pub quoted: Packet,
    /// The other direction of a packet in the middle of a connection.
    pub other: Tuple,
    pub verdict: Verdict,
    /// The verdict on `other`.
    pub second: Verdict,
    pub key: FlowKey,
    /// An entry to be made.
    pub flow: Flow,
}

/// Flow events to user space.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(4096 * 16, 0);
