//! BFD of a neighbour: opened with its task, kept over resets of the session.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::mpsc::WeakUnboundedSender;

use super::neighbor::Command;
use crate::bfd::{Bfd, Handle, Hops, Path, Settings, Status};
use crate::config::{Config, Neighbor};
use crate::fib::Fib;
use crate::rib::Gateway;

/// Least TTL of a packet that came over so many hops, when it was sent with 255 (RFC 5082).
const fn minimum_ttl(hops: u8) -> u8 {
    u8::MAX - hops.saturating_sub(1)
}

/// What a neighbour's BFD is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BfdPlan {
    path: Path,
    settings: Settings,
}

impl BfdPlan {
    /// None if there is to be no BFD.
    pub(super) fn new(neighbor: &Neighbor, config: &Config) -> Option<Self> {
        let bfd = neighbor.bfd.as_ref().filter(|_| neighbor.enabled)?;
        let hops = if bfd.is_multihop(neighbor, config) {
            Hops::Multi {
                minimum_ttl: neighbor.ttl_security_hops.map(minimum_ttl),
            }
        } else {
            Hops::Single
        };
        Some(Self {
            path: Path {
                remote: neighbor.address,
                // A neighbour on a link is looked for there.
                interface: None,
                local: neighbor.source,
                hops,
            },
            settings: Settings {
                desired_min_tx: bfd.interval,
                required_min_rx: bfd.interval,
                required_min_echo_rx: bfd.echo_receive.map_or(Duration::ZERO, |interval| {
                    echo_interval(neighbor.address, interval)
                }),
                detect_multiplier: bfd.multiplier,
                passive: bfd.passive,
                authentication: bfd.authentication.clone(),
            },
        })
    }
}

impl BfdPlan {
    /// The same where the neighbour is now, on a link.
    pub(super) fn at(&self, remote: SocketAddr, interface: Option<u32>) -> Option<Self> {
        Some(Self {
            path: Path {
                remote: remote.ip(),
                interface: Some(interface?),
                ..self.path
            },
            settings: self.settings.clone(),
        })
    }

    /// The next hop that is lost with the path: over several hops, none is known to be.
    fn gateway(&self) -> Option<Gateway> {
        matches!(self.path.hops, Hops::Single).then_some(Gateway {
            address: self.path.remote,
            interface: self.path.interface,
        })
    }
}

/// RFC 5880 section 6.8.9: Echo packets are looped back by forwarding, which here is the kernel's. Where it
/// does not forward, none are asked for.
fn echo_interval(neighbor: IpAddr, interval: Duration) -> Duration {
    let setting = match neighbor {
        IpAddr::V4(_) => "/proc/sys/net/ipv4/ip_forward",
        IpAddr::V6(_) => "/proc/sys/net/ipv6/conf/all/forwarding",
    };
    let forwards = std::fs::read_to_string(setting).is_ok_and(|value| value.trim() != "0");
    if !forwards {
        tracing::warn!(%neighbor, setting, "the kernel does not forward: BFD accepts no Echo packets");
        return Duration::ZERO;
    }
    interval
}

/// BFD of a neighbour's task.
pub(super) struct NeighborBfd {
    bfd: Bfd,
    fib: Weak<Fib>,
    /// To the task itself.
    commands: WeakUnboundedSender<Command>,
    open: Option<(BfdPlan, Handle)>,
}

impl NeighborBfd {
    pub(super) fn new(bfd: Bfd, fib: Weak<Fib>, commands: WeakUnboundedSender<Command>) -> Self {
        Self {
            bfd,
            fib,
            commands,
            open: None,
        }
    }

    /// Follows the configuration; the session stays up if there still is to be one on the same path.
    pub(super) fn follow(&mut self, plan: Option<BfdPlan>) {
        let Some(plan) = plan else {
            self.trust_path();
            self.open = None;
            return;
        };
        match &mut self.open {
            Some((current, handle)) if current.path == plan.path => {
                if current.settings != plan.settings {
                    handle.configure(plan.settings.clone());
                }
                *current = plan;
            }
            _ => {
                self.trust_path();
                let commands = self.commands.clone();
                let (fib, gateway) = (self.fib.clone(), plan.gateway());
                let notify = move |change: crate::bfd::StateChange| {
                    if let (Some(fib), Some(gateway)) = (fib.upgrade(), gateway) {
                        // Long before the routes that go with the session have been gone through.
                        if change.is_failure() {
                            fib.suspend(gateway);
                        } else if change.to == crate::bfd::State::Up {
                            fib.resume(gateway);
                        }
                    }
                    let is_up = change.to == crate::bfd::State::Up;
                    if let Some(commands) = commands
                        .upgrade()
                        .filter(|_| is_up != (change.from == crate::bfd::State::Up))
                    {
                        let _ = commands.send(Command::PathState { is_up });
                    }
                    if let Some(commands) = commands.upgrade().filter(|_| change.is_failure()) {
                        // A task that has ended has no session to end.
                        let _ = commands.send(Command::PathFailed {
                            is_control_plane_independent: change.is_remote_control_plane_independent,
                        });
                    }
                };
                let handle = self.bfd.open(plan.path, plan.settings.clone(), Box::new(notify));
                self.open = Some((plan, handle));
            }
        }
    }

    /// The BGP session is up, whatever BFD says: its routes are used.
    pub(super) fn trust_path(&self) {
        let gateway = self.open.as_ref().and_then(|(plan, _)| plan.gateway());
        if let (Some(fib), Some(gateway)) = (self.fib.upgrade(), gateway) {
            fib.resume(gateway);
        }
    }

    /// Whether the path is there.
    pub(super) fn is_up(&self) -> bool {
        let status = self.status();
        status.is_some_and(|status| {
            let status = status.lock().unwrap_or_else(PoisonError::into_inner);
            status.state == crate::bfd::State::Up
        })
    }

    /// Where the session stands, if there is one.
    pub(super) fn status(&self) -> Option<Arc<Mutex<Status>>> {
        self.open.as_ref().map(|(_, handle)| handle.status())
    }
}
