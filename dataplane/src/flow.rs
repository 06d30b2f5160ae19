//! Flow events as user space sees them.

use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, SystemTime};

use aya::maps::{Map, MapData, PerCpuArray, RingBuf};
use ebpf_common::conntrack::{ICMP, ICMPV6};
pub use ebpf_common::event::Reason;
use ebpf_common::event::{DIRECTION_INGRESS, FlowRecord, VERDICT_ALLOW, VERDICT_LOG};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use policy_engine::output::{Direction, EndpointId, RuleId};

use crate::address::from_map;
use crate::kernel::{io, on};
use crate::names::Names;
use crate::{Error, sys};

/// What happened to a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It opened a flow, or the flow was judged again.
    Allow,
    /// It was dropped.
    Deny,
    /// A Log rule matched; the verdict is another event.
    Log,
}

/// A new flow, a denied packet or a rule's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowEvent {
    /// When.
    pub time: SystemTime,
    /// The side that opened the flow.
    pub source: IpAddr,
    /// The other side.
    pub destination: IpAddr,
    /// IP protocol number; 0 for frames that are not IP.
    pub protocol: u8,
    /// 0 where the protocol has none.
    pub source_port: u16,
    /// 0 where the protocol has none.
    pub destination_port: u16,
    /// Type and code of ICMP.
    pub icmp: Option<(u8, u8)>,
    /// What happened.
    pub verdict: Verdict,
    /// The policy leg, from the endpoint's view.
    pub direction: Direction,
    /// Why.
    pub reason: Reason,
    /// The rule that decided, where one did and its program is still known.
    pub rule: Option<RuleId>,
    /// Pass rules on the way, first to last.
    pub passes: Vec<RuleId>,
    /// The endpoint whose policy it was, if known.
    pub endpoint: Option<EndpointId>,
    /// Index of the workload's interface.
    pub interface: u32,
    /// Bytes of the packet.
    pub length: u32,
}

/// The reading end of the flow events. It may live on another thread than the [`Dataplane`](crate::Dataplane).
pub struct FlowEvents {
    ring: RingBuf<MapData>,
    counters: PerCpuArray<MapData, u64>,
    names: Names,
}

impl std::fmt::Debug for FlowEvents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FlowEvents").finish_non_exhaustive()
    }
}

impl FlowEvents {
    pub(crate) fn open(events: &Path, names: Names) -> Result<Self, Error> {
        let open = |path: &Path| MapData::from_pin(path).and_then(Map::from_map_data);
        let ring = open(events)
            .and_then(RingBuf::try_from)
            .map_err(on("EVENTS", "open"))?;
        let counters = open(&events.with_file_name("COUNTERS"))
            .and_then(PerCpuArray::try_from)
            .map_err(on("COUNTERS", "open"))?;
        Ok(Self {
            ring,
            counters,
            names,
        })
    }

    /// Waits for events, at most for `limit`, and gives up to `max` of them.
    pub fn next_batch(&mut self, max: usize, limit: Duration) -> Result<Vec<FlowEvent>, Error> {
        let mut events = Vec::new();
        self.read(max, &mut events);
        if events.is_empty() && !limit.is_zero() {
            let timeout = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
            let mut fds = [PollFd::new(self.ring.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, timeout) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(e) => return Err(io("wait for flow events")(e.into())),
            }
            self.read(max, &mut events);
        }
        Ok(events)
    }

    fn read(&mut self, max: usize, events: &mut Vec<FlowEvent>) {
        let clock = Clock::now();
        while events.len() < max {
            let Some(item) = self.ring.next() else { return };
            match sys::flow_record(&item) {
                Some(record) => events.push(event(&record, &clock, &self.names)),
                None => tracing::warn!(
                    bytes = item.len(),
                    "an entry of the event ring has an unknown size"
                ),
            }
        }
    }

    /// Events that found no room in the ring since the maps were made.
    pub fn lost(&self) -> Result<u64, Error> {
        let per_cpu = self
            .counters
            .get(&(Reason::EventLost as u32), 0)
            .map_err(on("COUNTERS", "read"))?;
        Ok(per_cpu.iter().sum())
    }
}

impl AsFd for FlowEvents {
    /// Readable when there are events.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

/// The kernel's monotonic clock and the time of day at one moment.
struct Clock {
    monotonic_ns: u64,
    time: SystemTime,
}

impl Clock {
    fn now() -> Self {
        Self {
            monotonic_ns: sys::monotonic_ns(libc::CLOCK_MONOTONIC),
            time: SystemTime::now(),
        }
    }

    fn at(&self, ns: u64) -> SystemTime {
        let ago = Duration::from_nanos(self.monotonic_ns.saturating_sub(ns));
        self.time.checked_sub(ago).unwrap_or(self.time)
    }
}

fn event(record: &FlowRecord, clock: &Clock, names: &Names) -> FlowEvent {
    let (rules, endpoint) = names.look_up(record.program, record.endpoint);
    let rule_of = |index: u16| {
        rules
            .as_ref()
            .and_then(|rules| rules.get(usize::from(index)))
            .cloned()
    };
    let passes = record
        .passes
        .iter()
        .take(record.pass_count.into())
        .filter_map(|&index| rule_of(index))
        .collect();
    let is_icmp = matches!((record.family, record.protocol), (4, ICMP) | (6, ICMPV6));
    let unspecified = std::net::Ipv4Addr::UNSPECIFIED.into();
    let address = |address| {
        if record.family == 0 {
            unspecified
        } else {
            from_map(address)
        }
    };
    FlowEvent {
        time: clock.at(record.time),
        source: address(record.source),
        destination: address(record.destination),
        protocol: record.protocol,
        source_port: record.source_port,
        destination_port: record.destination_port,
        icmp: is_icmp.then_some((record.icmp_type, record.icmp_code)),
        verdict: match record.verdict {
            VERDICT_ALLOW => Verdict::Allow,
            VERDICT_LOG => Verdict::Log,
            _ => Verdict::Deny,
        },
        direction: if record.direction == DIRECTION_INGRESS {
            Direction::Ingress
        } else {
            Direction::Egress
        },
        reason: Reason::from_number(record.reason).unwrap_or(Reason::PolicyDeny),
        rule: rule_of(record.rule),
        passes,
        endpoint,
        interface: record.ifindex,
        length: record.length,
    }
}
