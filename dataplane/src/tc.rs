//! Reading the filters of the clsact qdisc; aya can make and replace them, but not show them.

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::errno::Errno;

use crate::Error;
use crate::kernel::{Hook, io};

const RTM_GETTFILTER: u16 = 46;
const RTM_NEWTFILTER: u16 = 44;
const NLM_F_REQUEST_DUMP: u16 = 0x301;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_TAG: u16 = 10;
const TCA_BPF_ID: u16 = 11;
const PARENT_INGRESS: u32 = 0xffff_fff2;
const PARENT_EGRESS: u32 = 0xffff_fff3;
/// A dump of the filters of one hook is read in as many pieces at most.
const DATAGRAMS_MAX: usize = 256;

/// A filter at a hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Filter {
    pub(crate) priority: u16,
    pub(crate) handle: u32,
    pub(crate) kind: String,
    /// Name of a bpf filter.
    pub(crate) name: Option<String>,
    /// Tag and id of a bpf filter's program.
    pub(crate) tag: Option<[u8; 8]>,
    pub(crate) program: Option<u32>,
}

/// The filters at a hook of an interface; none if it has no clsact qdisc.
pub(crate) fn filters(ifindex: u32, hook: Hook) -> Result<Vec<Filter>, Error> {
    let failed = || io(format!("list the filters of interface {ifindex}"));
    let parent = match hook {
        Hook::FromWorkload => PARENT_INGRESS,
        Hook::ToWorkload => PARENT_EGRESS,
    };
    let mut socket = Socket::new(NETLINK_ROUTE).map_err(failed())?;
    socket.bind_auto().map_err(failed())?;
    socket.connect(&SocketAddr::new(0, 0)).map_err(failed())?;

    let mut request = Vec::with_capacity(36);
    request.extend(36u32.to_ne_bytes());
    request.extend(RTM_GETTFILTER.to_ne_bytes());
    request.extend(NLM_F_REQUEST_DUMP.to_ne_bytes());
    request.extend([0; 8]); // sequence and port
    request.extend([0; 4]); // family
    request.extend(ifindex.to_ne_bytes());
    request.extend(0u32.to_ne_bytes()); // handle
    request.extend(parent.to_ne_bytes());
    request.extend(0u32.to_ne_bytes()); // info
    socket.send(&request, 0).map_err(failed())?;

    let mut filters = Vec::new();
    for _ in 0..DATAGRAMS_MAX {
        let (datagram, _) = socket.recv_from_full().map_err(failed())?;
        let mut rest = datagram.as_slice();
        while let Some((length, kind)) = header(rest) {
            let Some(message) = rest.get(16..length) else {
                break;
            };
            match kind {
                NLMSG_DONE => return Ok(filters),
                NLMSG_ERROR => {
                    let code = u32_at(message, 0).map_or(0, |code| (code as i32).wrapping_neg());
                    // There is no qdisc, or the interface has just gone.
                    if code == 0
                        || matches!(
                            Errno::from_raw(code),
                            Errno::EINVAL | Errno::ENOENT | Errno::ENODEV
                        )
                    {
                        return Ok(filters);
                    }
                    return Err(failed()(std::io::Error::from_raw_os_error(code)));
                }
                RTM_NEWTFILTER => filters.extend(parse(message)),
                _ => {}
            }
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }
    Ok(filters)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

/// Length and type of the next message.
fn header(bytes: &[u8]) -> Option<(usize, u16)> {
    let length = u32_at(bytes, 0)? as usize;
    (length >= 16 && length <= bytes.len()).then_some((length, u16_at(bytes, 4)?))
}

/// Type and payload of each attribute.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & 0x3fff;
        let payload = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, payload))
    })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned()
}

fn parse(message: &[u8]) -> Option<Filter> {
    let handle = u32_at(message, 8)?;
    let priority = (u32_at(message, 16)? >> 16) as u16;
    let mut filter = Filter {
        priority,
        handle,
        kind: String::new(),
        name: None,
        tag: None,
        program: None,
    };
    for (kind, payload) in attributes(message.get(20..)?) {
        match kind {
            TCA_KIND => filter.kind = text(payload),
            TCA_OPTIONS => {
                for (kind, payload) in attributes(payload) {
                    match kind {
                        TCA_BPF_NAME => filter.name = Some(text(payload)),
                        TCA_BPF_TAG => filter.tag = payload.try_into().ok(),
                        TCA_BPF_ID => filter.program = u32_at(payload, 0),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    // The priority's own entry has no handle.
    (handle != 0).then_some(filter)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = header(&bytes);
            let _ = parse(&bytes);
        }
    }
}
