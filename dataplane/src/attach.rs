//! Programs at interfaces: pinned TCX links, or clsact filters with a handle and a priority of our own. Either outlives
//! the process and is replaced in place by the next one.

use std::fs;
use std::path::PathBuf;

use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle, qdisc_add_clsact};
use aya::programs::{LinkOrder, ProgramError, SchedClassifier, TcAttachType};
use nix::errno::Errno;

use crate::config::Attach;
use crate::kernel::{Hook, Kernel, Maps, io};
use crate::{Error, tc};

/// Our filters' priority: before those that leave the choice to the kernel (49152).
const FILTER_PRIORITY: u16 = 100;
/// Our filters' handle.
const FILTER_HANDLE: u16 = 0x4d67;
/// TCX came with Linux 6.6.
const TCX_KERNEL: (u32, u32) = (6, 6);

/// What is used on this kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Tcx,
    Clsact,
}

impl Method {
    /// What the configuration means here.
    pub(crate) fn choose(attach: Attach) -> Result<Self, Error> {
        match attach {
            Attach::Tcx => Ok(Method::Tcx),
            Attach::Clsact => Ok(Method::Clsact),
            Attach::Auto => {
                let name =
                    nix::sys::utsname::uname().map_err(|e| io("read the kernel's version")(e.into()))?;
                let version = kernel_version(&name.release().to_string_lossy());
                Ok(if version >= TCX_KERNEL {
                    Method::Tcx
                } else {
                    Method::Clsact
                })
            }
        }
    }
}

fn kernel_version(release: &str) -> (u32, u32) {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn direction(hook: Hook) -> TcAttachType {
    match hook {
        Hook::FromWorkload => TcAttachType::Ingress,
        Hook::ToWorkload => TcAttachType::Egress,
    }
}

fn pin_path(kernel: &Kernel, ifindex: u32, hook: Hook) -> PathBuf {
    kernel.links_dir.join(format!("{ifindex}_{}", hook.program()))
}

fn failed(interface: &str, hook: Hook, error: &dyn std::error::Error) -> Error {
    Error::Attach {
        interface: interface.to_owned(),
        hook: hook.program(),
        reason: chain(error),
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Attaches both programs, in the place of an earlier process's.
pub(crate) fn attach(
    kernel: &mut Kernel,
    maps: &Maps,
    method: Method,
    interface: &str,
    ifindex: u32,
) -> Result<(), Error> {
    // The library attaches by name, and the name may be another interface's by now.
    if nix::net::if_::if_nametoindex(interface) != Ok(ifindex) {
        let reason = format!("it is not interface {ifindex} any more");
        return Err(Error::Attach {
            interface: interface.to_owned(),
            hook: Hook::FromWorkload.program(),
            reason,
        });
    }
    for hook in Hook::BOTH {
        match method {
            Method::Tcx => {
                attach_tcx(kernel, interface, ifindex, hook)?;
                remove_filter(interface, ifindex, hook)?;
            }
            Method::Clsact => {
                attach_clsact(kernel, maps, interface, ifindex, hook)?;
                unpin(kernel, ifindex, hook)?;
            }
        }
    }
    Ok(())
}

/// Whether both programs are at the interface.
pub(crate) fn is_attached(
    kernel: &mut Kernel,
    method: Method,
    interface: &str,
    ifindex: u32,
) -> Result<bool, Error> {
    for hook in Hook::BOTH {
        let program = kernel.program(hook)?;
        let info = program.info().map_err(|e| failed(interface, hook, &e))?;
        let attached = match method {
            Method::Tcx => {
                let (_, programs) = SchedClassifier::query_tcx(interface, direction(hook))
                    .map_err(|e| failed(interface, hook, &e))?;
                programs.iter().any(|other| other.id() == info.id())
            }
            Method::Clsact => tc::filters(ifindex, hook)?.iter().any(|filter| {
                is_ours(filter) && filter.program.is_some() && filter.tag == Some(info.tag().to_ne_bytes())
            }),
        };
        if !attached {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Forgets an interface that is gone; its links are dead.
pub(crate) fn forget(kernel: &Kernel, ifindex: u32) -> Result<(), Error> {
    Hook::BOTH
        .iter()
        .try_for_each(|&hook| unpin(kernel, ifindex, hook))
}

/// Removes pins of interfaces that are not among `present`.
pub(crate) fn remove_dead_pins(kernel: &Kernel, present: &[u32]) -> Result<(), Error> {
    let dir = &kernel.links_dir;
    let failed = || io(format!("read {}", dir.display()));
    for entry in fs::read_dir(dir).map_err(failed())?.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let ifindex = name.split('_').next().and_then(|index| index.parse::<u32>().ok());
        if ifindex.is_none_or(|index| !present.contains(&index)) {
            fs::remove_file(entry.path()).map_err(io(format!("remove {}", entry.path().display())))?;
        }
    }
    Ok(())
}

fn unpin(kernel: &Kernel, ifindex: u32, hook: Hook) -> Result<(), Error> {
    let path = pin_path(kernel, ifindex, hook);
    match fs::remove_file(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(io(format!("remove {}", path.display()))(e))
        }
        _ => Ok(()),
    }
}

fn attach_tcx(kernel: &mut Kernel, interface: &str, ifindex: u32, hook: Hook) -> Result<(), Error> {
    let path = pin_path(kernel, ifindex, hook);
    if path.exists() {
        let program = kernel.program(hook)?;
        if let Some(link) = PinnedLink::from_pin(&path)
            .ok()
            .and_then(|pinned| FdLink::from(pinned).try_into().ok())
            && let Ok(id) = program.attach_to_link(link)
        {
            // Our descriptor goes, the pin stays. The index may have been another interface's.
            drop(program.take_link(id).map_err(|e| failed(interface, hook, &e))?);
            if is_at(program, interface, hook)? {
                return Ok(());
            }
        }
        fs::remove_file(&path).map_err(io(format!("remove {}", path.display())))?;
    }
    let program = kernel.program(hook)?;
    let order = TcAttachOptions::TcxOrder(LinkOrder::first());
    let id = program
        .attach_with_options(interface, direction(hook), order)
        .map_err(|e| failed(interface, hook, &e))?;
    let link: FdLink = program
        .take_link(id)
        .map_err(|e| failed(interface, hook, &e))?
        .try_into()
        .map_err(|e: aya::programs::links::LinkError| failed(interface, hook, &e))?;
    link.pin(&path).map_err(|e| failed(interface, hook, &e))?;
    Ok(())
}

fn is_at(program: &SchedClassifier, interface: &str, hook: Hook) -> Result<bool, Error> {
    let info = program.info().map_err(|e| failed(interface, hook, &e))?;
    let (_, programs) =
        SchedClassifier::query_tcx(interface, direction(hook)).map_err(|e| failed(interface, hook, &e))?;
    Ok(programs.iter().any(|other| other.id() == info.id()))
}

fn is_ours(filter: &tc::Filter) -> bool {
    filter.priority == FILTER_PRIORITY && filter.handle == u32::from(FILTER_HANDLE) && filter.kind == "bpf"
}

fn attach_clsact(
    kernel: &mut Kernel,
    maps: &Maps,
    interface: &str,
    ifindex: u32,
    hook: Hook,
) -> Result<(), Error> {
    let there = tc::filters(ifindex, hook)?;
    let program = kernel.program(hook)?;
    let info = program.info().map_err(|e| failed(interface, hook, &e))?;
    let handle = TcHandle::new(0, FILTER_HANDLE);
    let id = match there.iter().find(|filter| filter.priority == FILTER_PRIORITY) {
        // The same code on the same maps: adopted as it is.
        Some(filter)
            if is_ours(filter)
                && filter.tag == Some(info.tag().to_ne_bytes())
                && filter.program.is_some_and(|id| maps.are_used_by(id)) =>
        {
            return Ok(());
        }
        Some(filter) if is_ours(filter) && filter.name.as_deref() == Some(hook.program()) => {
            let link =
                SchedClassifierLink::attached(interface, direction(hook), FILTER_PRIORITY, handle, None)
                    .map_err(|e| failed(interface, hook, &e))?;
            program
                .attach_to_link(link)
                .map_err(|e| failed(interface, hook, &e))?
        }
        Some(filter) => {
            let reason = format!(
                "priority {FILTER_PRIORITY} is taken by a {} filter {}; remove it (tc filter del)",
                filter.kind,
                filter.name.as_deref().unwrap_or("without a name"),
            );
            return Err(Error::Attach {
                interface: interface.to_owned(),
                hook: hook.program(),
                reason,
            });
        }
        None => {
            if let Err(error) = qdisc_add_clsact(interface)
                && !chain(&error).contains(Errno::EEXIST.desc())
            {
                return Err(failed(interface, hook, &error));
            }
            let options = TcAttachOptions::Netlink(NlOptions {
                priority: FILTER_PRIORITY,
                handle,
                ..NlOptions::default()
            });
            program
                .attach_with_options(interface, direction(hook), options)
                .map_err(|e| failed(interface, hook, &e))?
        }
    };
    // A link that is dropped detaches.
    std::mem::forget(program.take_link(id).map_err(|e| failed(interface, hook, &e))?);
    Ok(())
}

/// Removes a filter that was attached before the method changed.
fn remove_filter(interface: &str, ifindex: u32, hook: Hook) -> Result<(), Error> {
    let there = tc::filters(ifindex, hook)?;
    if !there
        .iter()
        .any(|f| is_ours(f) && f.name.as_deref() == Some(hook.program()))
    {
        return Ok(());
    }
    let handle = TcHandle::new(0, FILTER_HANDLE);
    let link = SchedClassifierLink::attached(interface, direction(hook), FILTER_PRIORITY, handle, None)
        .map_err(|e| failed(interface, hook, &e))?;
    aya::programs::Link::detach(link).map_err(|e: ProgramError| failed(interface, hook, &e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        assert_eq!(kernel_version("6.18.44-fc-v669"), (6, 18));
        assert_eq!(kernel_version("5.10.0-28-amd64"), (5, 10));
        assert!(kernel_version("6.6.0") >= TCX_KERNEL);
        assert!(kernel_version("6.1.0-18-amd64") < TCX_KERNEL);
        assert_eq!(kernel_version(""), (0, 0));
    }
}
