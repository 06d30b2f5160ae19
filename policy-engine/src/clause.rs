//! One bit of a program before it is compiled: a rule with everything that does not concern its address
//! family or direction taken out, selectors replaced by ids, and ports by number apart from ports by name.

use ipnet::IpNet;

use crate::output::Rule;

/// Protocols that have ports: TCP, UDP, SCTP. A port match never holds for others, a negated one always does.
pub(crate) const PROTOCOLS_WITH_PORTS: [u8; 3] = [6, 17, 132];

/// An interned selector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SelectorId(pub(crate) u32);

/// First and last port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PortRange {
    pub(crate) first: u16,
    pub(crate) last: u16,
}

/// ICMP type, and a code or any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Icmp {
    pub(crate) r#type: u8,
    pub(crate) code: Option<u8>,
}

/// A port name as one side of a rule means it: its members are the ports of this name and protocol on the
/// endpoints that match the selector.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct NamedPort {
    /// `None`: any endpoint.
    pub(crate) selector: Option<SelectorId>,
    /// `None`: any protocol.
    pub(crate) protocol: Option<u8>,
    pub(crate) name: String,
}

/// What a clause asks of one side of a packet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Side {
    pub(crate) selector: Option<SelectorId>,
    pub(crate) not_selector: Option<SelectorId>,
    pub(crate) nets: Option<Vec<IpNet>>,
    pub(crate) not_nets: Vec<IpNet>,
    pub(crate) ports: Option<Vec<PortRange>>,
    pub(crate) not_ports: Vec<PortRange>,
    pub(crate) named: Option<Vec<NamedPort>>,
    pub(crate) not_named: Vec<NamedPort>,
}

/// One bit of a program. All that is there must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Clause {
    pub(crate) rule: Rule,
    /// The family of the program that it is part of.
    pub(crate) v4: bool,
    pub(crate) protocol: Option<u8>,
    pub(crate) not_protocol: Option<u8>,
    pub(crate) icmp: Option<Icmp>,
    pub(crate) not_icmp: Option<Icmp>,
    pub(crate) source: Side,
    pub(crate) destination: Side,
}

impl Clause {
    /// Holds for every packet.
    pub(crate) fn unconditional(rule: Rule, v4: bool) -> Self {
        Self {
            rule,
            v4,
            protocol: None,
            not_protocol: None,
            icmp: None,
            not_icmp: None,
            source: Side::default(),
            destination: Side::default(),
        }
    }

    pub(crate) fn accepts_protocol(&self, protocol: u8) -> bool {
        self.protocol.is_none_or(|p| p == protocol) && self.not_protocol != Some(protocol)
    }

    /// The selectors that it names.
    pub(crate) fn selectors(&self) -> impl Iterator<Item = SelectorId> {
        self.sides().into_iter().flat_map(|side| {
            let named = side.named.iter().flatten().chain(&side.not_named);
            side.selector
                .into_iter()
                .chain(side.not_selector)
                .chain(named.filter_map(|n| n.selector))
        })
    }

    /// The port names that it uses.
    pub(crate) fn named_ports(&self) -> impl Iterator<Item = &NamedPort> {
        self.sides()
            .into_iter()
            .flat_map(|side| side.named.iter().flatten().chain(&side.not_named))
    }

    fn sides(&self) -> [&Side; 2] {
        [&self.source, &self.destination]
    }
}
