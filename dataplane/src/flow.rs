//! Flow events as user space sees them.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use crate::Error;
pub use ebpf_common::event::Reason;
use policy_engine::output::{Direction, EndpointId, RuleId};

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
#[derive(Debug)]
pub struct FlowEvents {}

impl FlowEvents {
    /// Waits for events, at most for `limit`, and gives up to `max` of them.
    pub fn next_batch(&mut self, _max: usize, _limit: Duration) -> Result<Vec<FlowEvent>, Error> {
        Ok(Vec::new())
    }

    /// Events that found no room in the ring since the maps were made.
    pub fn lost(&self) -> Result<u64, Error> {
        Ok(0)
    }
}
