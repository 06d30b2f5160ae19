//! Socket options that no safe crate offers.
#![expect(
    unsafe_code,
    reason = "socket options for TCP MD5 and TCP-AO keys, TTLs and ICMPv6 filters; a raw socket in the runtime"
)]

use std::io;
use std::mem::size_of;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use ipnet::IpNet;
use libc::{c_int, c_void, socklen_t};
use socket2::Socket;
use tokio::io::unix::AsyncFd;

use crate::config::{PASSWORD_MAX_BYTES, TcpAoKey};

/// `struct tcp_md5sig` of linux/tcp.h.
#[repr(C)]
struct TcpMd5Sig {
    address: [u8; size_of::<libc::sockaddr_storage>()],
    flags: u8,
    prefix_length: u8,
    key_length: u16,
    interface: c_int,
    key: [u8; PASSWORD_MAX_BYTES],
}

/// `TCP_MD5SIG_EXT` of linux/tcp.h.
const TCP_MD5SIG_EXT: c_int = 32;
/// `TCP_MD5SIG_FLAG_PREFIX` of linux/tcp.h.
const TCP_MD5SIG_FLAG_PREFIX: u8 = 1;

/// RFC 2385: sets the key for segments to and from `peers`; an empty one removes it. Of several that fit an
/// address, the kernel takes the one with the longest prefix. It does not look at the interface.
pub(super) fn set_md5_key(socket: BorrowedFd<'_>, peers: IpNet, key: &[u8]) -> io::Result<()> {
    let is_host = peers.prefix_len() == peers.max_prefix_len();
    let name = if is_host { libc::TCP_MD5SIG } else { TCP_MD5SIG_EXT };
    let mut option = TcpMd5Sig {
        address: socket_address(peers.addr()),
        flags: if is_host { 0 } else { TCP_MD5SIG_FLAG_PREFIX },
        prefix_length: if is_host { 0 } else { peers.prefix_len() },
        key_length: 0,
        interface: 0,
        key: [0; PASSWORD_MAX_BYTES],
    };
    let too_long = || {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            "the password is longer than 80 bytes",
        )
    };
    option
        .key
        .get_mut(..key.len())
        .ok_or_else(too_long)?
        .copy_from_slice(key);
    option.key_length = u16::try_from(key.len()).map_err(|_| too_long())?;
    set_option(socket, libc::IPPROTO_TCP, name, &option)
}

/// `struct sockaddr_in` or `struct sockaddr_in6` with port 0, in a `sockaddr_storage`.
fn socket_address(address: IpAddr) -> [u8; size_of::<libc::sockaddr_storage>()] {
    let mut storage = [0; size_of::<libc::sockaddr_storage>()];
    let (family, octets, offset) = match address {
        IpAddr::V4(address) => (libc::AF_INET, address.octets().to_vec(), 4),
        IpAddr::V6(address) => (libc::AF_INET6, address.octets().to_vec(), 8),
    };
    let family = (family as libc::sa_family_t).to_ne_bytes();
    for (field, octet) in storage.iter_mut().zip(family) {
        *field = octet;
    }
    for (field, octet) in storage.iter_mut().skip(offset).zip(octets) {
        *field = octet;
    }
    storage
}

/// RFC 5082: drops segments that arrive with a lower TTL or hop limit.
pub(super) fn set_minimum_ttl(socket: BorrowedFd<'_>, peer: IpAddr, ttl: u8) -> io::Result<()> {
    let (level, name) = match peer {
        IpAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_MINTTL),
        IpAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_MINHOPCOUNT),
    };
    set_option(socket, level, name, &c_int::from(ttl))
}

/// Has a listener keep the headers that begin each connection, for [`syn_ttl`].
pub(super) fn save_syn(socket: BorrowedFd<'_>) -> io::Result<()> {
    set_option(socket, libc::IPPROTO_TCP, libc::TCP_SAVE_SYN, &1_i32)
}

/// The TTL or hop limit with which the first segment of an accepted connection came. None where the kernel has not kept
/// it: while it sends SYN cookies, or when it was asked before.
pub(super) fn syn_ttl(socket: BorrowedFd<'_>) -> io::Result<Option<u8>> {
    /// Longest headers of IP and TCP, in bytes; the kernel keeps no options of IPv6.
    const HEADERS_MAX: usize = 256;
    let mut headers = [0_u8; HEADERS_MAX];
    let mut length = HEADERS_MAX as socklen_t;
    // SAFETY: the kernel writes at most `length` bytes into `headers`, which live through the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_SAVED_SYN,
            headers.as_mut_ptr().cast::<c_void>(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    let headers = headers.get(..length as usize).unwrap_or_default();
    // RFC 791 section 3.1, RFC 8200 section 3: the version comes first.
    Ok(match headers.first().map(|first| first >> 4) {
        Some(4) => headers.get(8).copied(),
        Some(6) => headers.get(7).copied(),
        _ => None,
    })
}

/// RFC 3542 section 3.2: takes in ICMPv6 messages of these types alone.
pub(super) fn pass_only_icmpv6(socket: BorrowedFd<'_>, types: &[u8]) -> io::Result<()> {
    /// `ICMPV6_FILTER` of linux/icmpv6.h.
    const ICMPV6_FILTER: c_int = 1;
    // A bit a type; those that are set are kept out.
    let mut filter = [u32::MAX; 8];
    for message in types {
        if let Some(word) = filter.get_mut(usize::from(message / 32)) {
            *word &= !(1 << (message % 32));
        }
    }
    // `struct icmp6_filter`.
    set_option(socket, libc::IPPROTO_ICMPV6, ICMPV6_FILTER, &filter)
}

/// Has the runtime watch a socket.
pub(super) fn watch(socket: Socket) -> io::Result<AsyncFd<Socket>> {
    // SAFETY: a `Socket` owns its descriptor and gives the same one each time it is asked, as long as it lives; the
    // result owns the socket.
    unsafe { AsyncFd::register(socket) }.map_err(Into::into)
}

/// `TCP_AO_ADD_KEY` of linux/tcp.h.
const TCP_AO_ADD_KEY: c_int = 38;
/// `TCP_AO_DEL_KEY` of linux/tcp.h.
const TCP_AO_DEL_KEY: c_int = 39;
/// The bit fields `set_current` and `set_rnext`, which come first.
const TCP_AO_SET_BOTH: u32 = if cfg!(target_endian = "little") {
    0b11
} else {
    0b11 << 30
};
/// RFC 5926 section 3.2: 96 bits of either algorithm.
const TCP_AO_MAC_BYTES: u8 = 12;
const TCP_AO_NAME_BYTES: usize = 64;

/// `struct tcp_ao_add` of linux/tcp.h.
#[repr(C, align(8))]
struct TcpAoAdd {
    address: [u8; size_of::<libc::sockaddr_storage>()],
    algorithm: [u8; TCP_AO_NAME_BYTES],
    interface: i32,
    set: u32,
    reserved: u16,
    prefix_length: u8,
    send_id: u8,
    receive_id: u8,
    mac_length: u8,
    flags: u8,
    key_length: u8,
    key: [u8; PASSWORD_MAX_BYTES],
}

/// `struct tcp_ao_del` of linux/tcp.h.
#[repr(C, align(8))]
struct TcpAoDel {
    address: [u8; size_of::<libc::sockaddr_storage>()],
    interface: i32,
    set: u32,
    reserved: u16,
    prefix_length: u8,
    send_id: u8,
    receive_id: u8,
    current_key: u8,
    next: u8,
    flags: u8,
}

/// RFC 5925: adds a key for segments to and from `peers`. With `use_now`, it is what we send with, and what the other
/// end is asked to.
pub(super) fn add_ao_key(
    socket: BorrowedFd<'_>,
    peers: IpNet,
    key: &TcpAoKey,
    use_now: bool,
) -> io::Result<()> {
    let mut option = TcpAoAdd {
        address: socket_address(peers.addr()),
        algorithm: [0; TCP_AO_NAME_BYTES],
        interface: 0,
        set: if use_now { TCP_AO_SET_BOTH } else { 0 },
        reserved: 0,
        prefix_length: peers.prefix_len(),
        send_id: key.send_id,
        receive_id: key.receive_id,
        mac_length: TCP_AO_MAC_BYTES,
        flags: 0,
        key_length: u8::try_from(key.key.len()).unwrap_or(u8::MAX),
        key: [0; PASSWORD_MAX_BYTES],
    };
    let name = key.algorithm.kernel_name().bytes();
    option
        .algorithm
        .iter_mut()
        .zip(name)
        .for_each(|(place, octet)| *place = octet);
    option
        .key
        .iter_mut()
        .zip(key.key.bytes())
        .for_each(|(place, octet)| *place = octet);
    set_option(socket, libc::IPPROTO_TCP, TCP_AO_ADD_KEY, &option)
}

/// RFC 5925: removes a key that is not what is sent with.
pub(super) fn delete_ao_key(socket: BorrowedFd<'_>, peers: IpNet, key: &TcpAoKey) -> io::Result<()> {
    let option = TcpAoDel {
        address: socket_address(peers.addr()),
        interface: 0,
        set: 0,
        reserved: 0,
        prefix_length: peers.prefix_len(),
        send_id: key.send_id,
        receive_id: key.receive_id,
        current_key: 0,
        next: 0,
        flags: 0,
    };
    set_option(socket, libc::IPPROTO_TCP, TCP_AO_DEL_KEY, &option)
}

/// Sets an option to a value that is laid out as the kernel reads it: integers, or a `repr(C)` structure of such.
fn set_option<T>(socket: BorrowedFd<'_>, level: c_int, name: c_int, value: &T) -> io::Result<()> {
    // SAFETY: `value` lives through the call and its size is passed along; the callers, all in this module, give what
    // the option takes, and the kernel only reads it.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast::<c_void>(),
            size_of::<T>() as socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a C compiler lays out the structures of linux/tcp.h.
    #[test]
    fn structures_have_the_size_that_the_kernel_asks_for() {
        assert_eq!(size_of::<TcpAoAdd>(), 288);
        assert_eq!(size_of::<TcpAoDel>(), 144);
        assert_eq!(size_of::<TcpMd5Sig>(), 216);
    }
}
