//! What is read of a packet.

use aya_ebpf::programs::TcContext;
use ebpf_common::conntrack::{FlowKey, ICMP, ICMPV6, TCP, UDP, UDP_LITE};
use ebpf_common::event::Reason;
use ebpf_common::{Address, V4_MAPPED, conntrack};

/// Bytes of an Ethernet header.
pub const ETHERNET: usize = 14;
/// IPv6 extension headers that are followed.
const EXTENSION_HEADERS_MAX: usize = 6;

const DCCP: u8 = 33;
const SCTP: u8 = 132;

/// TCP flags.
pub const TCP_FIN: u8 = 0x01;
/// See [`TCP_FIN`].
pub const TCP_SYN: u8 = 0x02;
/// See [`TCP_FIN`].
pub const TCP_RST: u8 = 0x04;
/// See [`TCP_FIN`].
pub const TCP_ACK: u8 = 0x10;

/// What policy is asked about.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Tuple {
    pub source: Address,
    pub destination: Address,
    /// Host byte order; the identifier of an ICMP echo.
    pub source_port: u16,
    pub destination_port: u16,
    pub protocol: u8,
    /// 4 or 6.
    pub family: u8,
    pub icmp_type: u8,
    pub icmp_code: u8,
}

/// Not a fragment.
pub const WHOLE: u8 = 0;
/// The first fragment of a datagram.
pub const FIRST_FRAGMENT: u8 = 1;
/// Another: it has no ports.
pub const LATER_FRAGMENT: u8 = 2;

/// A parsed packet.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Packet {
    pub tuple: Tuple,
    /// Offset of the transport header.
    pub transport: u32,
    pub fragment_id: u32,
    /// [`WHOLE`], [`FIRST_FRAGMENT`], [`LATER_FRAGMENT`].
    pub fragment: u8,
    pub tcp_flags: u8,
    pub hop_limit: u8,
    pub padding: u8,
}

impl Packet {
    #[inline(always)]
    pub const fn new() -> Self {
        Self {
            tuple: Tuple {
                source: [0; 4],
                destination: [0; 4],
                source_port: 0,
                destination_port: 0,
                protocol: 0,
                family: 0,
                icmp_type: 0,
                icmp_code: 0,
            },
            transport: 0,
            fragment_id: 0,
            fragment: WHOLE,
            tcp_flags: 0,
            hop_limit: 0,
            padding: 0,
        }
    }

    /// A TCP packet that opens a connection.
    #[inline(always)]
    pub fn opens_tcp(&self) -> bool {
        self.tuple.protocol == TCP && self.tcp_flags & (TCP_SYN | TCP_ACK | TCP_RST) == TCP_SYN
    }
}

impl Tuple {
    #[inline(always)]
    pub fn is_icmp(&self) -> bool {
        self.family == 4 && self.protocol == ICMP || self.family == 6 && self.protocol == ICMPV6
    }

    #[inline(always)]
    pub fn is_echo_request(&self) -> bool {
        self.is_icmp() && self.icmp_type == if self.family == 4 { 8 } else { 128 }
    }

    #[inline(always)]
    pub fn is_echo_reply(&self) -> bool {
        self.is_icmp() && self.icmp_type == if self.family == 4 { 0 } else { 129 }
    }

    /// An ICMP message about another packet.
    #[inline(always)]
    pub fn is_icmp_error(&self) -> bool {
        self.is_icmp()
            && if self.family == 4 {
                matches!(self.icmp_type, 3 | 4 | 11 | 12)
            } else {
                matches!(self.icmp_type, 1..=4)
            }
    }

    /// The other direction, as a packet that opens it would look.
    #[inline(always)]
    pub fn reverse(&mut self) {
        core::mem::swap(&mut self.source, &mut self.destination);
        if self.is_icmp() {
            self.icmp_type = if self.family == 4 { 8 } else { 128 };
            self.icmp_code = 0;
        } else {
            core::mem::swap(&mut self.source_port, &mut self.destination_port);
        }
    }

    /// Fills in the conntrack key; true if the source is its `a`.
    #[inline(always)]
    pub fn key(&self, key: &mut FlowKey) -> bool {
        let forward = self.source_is_a();
        let (mut source_port, mut destination_port) = (self.source_port, self.destination_port);
        key.echo = 0;
        if self.is_icmp() {
            destination_port = source_port;
            key.echo = if self.is_echo_request() == forward {
                conntrack::ECHO_A
            } else {
                conntrack::ECHO_B
            };
        }
        if forward {
            key.a = self.source;
            key.b = self.destination;
        } else {
            key.a = self.destination;
            key.b = self.source;
            core::mem::swap(&mut source_port, &mut destination_port);
        }
        key.port_a = source_port;
        key.port_b = destination_port;
        key.protocol = self.protocol;
        key.padding = [0; 2];
        forward
    }

    #[inline(always)]
    fn source_is_a(&self) -> bool {
        // Any order will do, as long as both directions agree.
        let (s, d) = (&self.source, &self.destination);
        if s[3] != d[3] {
            s[3] < d[3]
        } else if s[2] != d[2] {
            s[2] < d[2]
        } else if s[1] != d[1] {
            s[1] < d[1]
        } else if s[0] != d[0] {
            s[0] < d[0]
        } else {
            self.source_port <= self.destination_port
        }
    }
}

#[inline(always)]
fn be16(high: u8, low: u8) -> u16 {
    (high as u16) << 8 | low as u16
}

#[inline(always)]
fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Reads the IP packet at `offset`. `quoted` packets, inside an ICMP error, may be cut after 8 bytes of the transport
/// header. Returns 0 or a [`Reason`].
#[inline(never)]
pub fn parse(ctx: &TcContext, offset: u32, quoted: u32, packet: &mut Packet) -> u32 {
    // All of an IPv4 header, or half of an IPv6 one.
    let Ok(header) = ctx.load::<[u8; 20]>(offset as usize) else {
        return Reason::Malformed as u32;
    };
    let code = match header[0] >> 4 {
        4 => parse_v4(&header, offset as usize, quoted != 0, packet),
        6 => parse_v6(ctx, &header, offset as usize, packet),
        _ => Reason::Malformed as u32,
    };
    if code != 0 {
        return code;
    }
    if packet.fragment == LATER_FRAGMENT {
        return 0;
    }
    parse_transport(ctx, quoted != 0, packet)
}

#[inline(always)]
fn parse_v4(header: &[u8; 20], offset: usize, quoted: bool, packet: &mut Packet) -> u32 {
    let length = (header[0] & 0xf) as usize * 4;
    if length < 20 {
        return Reason::Malformed as u32;
    }
    if length > 20 && !quoted {
        return Reason::IpOptions as u32;
    }
    let tuple = &mut packet.tuple;
    tuple.family = 4;
    tuple.protocol = header[9];
    tuple.source = [0, 0, V4_MAPPED, word(header, 12)];
    tuple.destination = [0, 0, V4_MAPPED, word(header, 16)];
    packet.hop_limit = header[8];
    packet.transport = (offset + length) as u32;
    packet.fragment_id = be16(header[4], header[5]) as u32;
    let fragment = be16(header[6], header[7]);
    fragmented(packet, fragment & 0x1fff, fragment & 0x2000 != 0)
}

#[inline(always)]
fn parse_v6(ctx: &TcContext, header: &[u8; 20], offset: usize, packet: &mut Packet) -> u32 {
    let Ok(rest) = ctx.load::<[u8; 20]>(offset + 20) else {
        return Reason::Malformed as u32;
    };
    let source = [
        word(header, 8),
        word(header, 12),
        word(header, 16),
        word(&rest, 0),
    ];
    let destination = [word(&rest, 4), word(&rest, 8), word(&rest, 12), word(&rest, 16)];
    if is_mapped(&source) || is_mapped(&destination) {
        return Reason::Malformed as u32;
    }
    packet.tuple.family = 6;
    packet.tuple.source = source;
    packet.tuple.destination = destination;
    packet.hop_limit = header[7];
    let mut next = header[6];
    let mut at = offset + 40;
    let mut is_fragment = false;
    for _ in 0..EXTENSION_HEADERS_MAX {
        match next {
            // Hop-by-hop and destination options.
            0 | 60 => {
                let Ok([following, length]) = ctx.load::<[u8; 2]>(at) else {
                    return Reason::Malformed as u32;
                };
                next = following;
                at += (length as usize + 1) * 8;
            }
            // Authentication.
            51 => {
                let Ok([following, length]) = ctx.load::<[u8; 2]>(at) else {
                    return Reason::Malformed as u32;
                };
                next = following;
                at += (length as usize + 2) * 4;
            }
            // Fragment.
            44 => {
                if is_fragment {
                    return Reason::ExtensionHeaders as u32;
                }
                let Ok(fragment) = ctx.load::<[u8; 8]>(at) else {
                    return Reason::Malformed as u32;
                };
                is_fragment = true;
                next = fragment[0];
                at += 8;
                packet.fragment_id = word(&fragment, 4);
                let field = be16(fragment[2], fragment[3]);
                let code = fragmented(packet, field >> 3, field & 1 != 0);
                if code != 0 {
                    return code;
                }
                if packet.fragment == LATER_FRAGMENT {
                    break;
                }
            }
            _ => break,
        }
    }
    if packet.fragment != LATER_FRAGMENT && matches!(next, 0 | 43 | 44 | 51 | 60) {
        return Reason::ExtensionHeaders as u32;
    }
    packet.tuple.protocol = next;
    packet.transport = at as u32;
    0
}

#[inline(always)]
fn is_mapped(address: &Address) -> bool {
    address[0] == 0 && address[1] == 0 && address[2] == V4_MAPPED
}

/// `offset` in units of 8 bytes.
#[inline(always)]
fn fragmented(packet: &mut Packet, offset: u16, more: bool) -> u32 {
    packet.fragment = if offset != 0 {
        LATER_FRAGMENT
    } else if more {
        FIRST_FRAGMENT
    } else {
        WHOLE
    };
    // It would overwrite the flags of the TCP header that was judged (RFC 1858 section 3).
    if offset == 1 { Reason::Malformed as u32 } else { 0 }
}

#[inline(always)]
fn parse_transport(ctx: &TcContext, quoted: bool, packet: &mut Packet) -> u32 {
    let at = packet.transport as usize;
    let tuple = &mut packet.tuple;
    if tuple.is_icmp() {
        let Ok(header) = ctx.load::<[u8; 8]>(at) else {
            return Reason::Malformed as u32;
        };
        tuple.icmp_type = header[0];
        tuple.icmp_code = header[1];
        if tuple.is_echo_request() || tuple.is_echo_reply() {
            tuple.source_port = be16(header[4], header[5]);
        }
        return 0;
    }
    if tuple.protocol == TCP && !quoted {
        // A whole header: the kernel refuses shorter ones too.
        let Ok(header) = ctx.load::<[u8; 20]>(at) else {
            return Reason::Malformed as u32;
        };
        tuple.source_port = be16(header[0], header[1]);
        tuple.destination_port = be16(header[2], header[3]);
        packet.tcp_flags = header[13];
        return 0;
    }
    match tuple.protocol {
        TCP | UDP | UDP_LITE | SCTP | DCCP => {
            let Ok(header) = ctx.load::<[u8; 8]>(at) else {
                return Reason::Malformed as u32;
            };
            tuple.source_port = be16(header[0], header[1]);
            tuple.destination_port = be16(header[2], header[3]);
        }
        _ => {}
    }
    0
}
