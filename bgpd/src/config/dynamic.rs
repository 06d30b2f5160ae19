//! Neighbours that are not configured one by one: whoever connects from a range of addresses.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{BGP_PORT, Config, ConfigError, InterfaceName, Neighbor, NeighborKey, TcpAuthentication};
use crate::wire::Prefix;

/// Sessions of a range where nothing is set.
pub const DYNAMIC_LIMIT_DEFAULT: usize = 100;
/// Most sessions of a range that can be set.
pub const DYNAMIC_LIMIT_MAX: usize = 10_000;

/// Whoever connects from a range of addresses is a neighbour, as long as its session lasts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DynamicNeighbors {
    /// The range, its host bits zero. Of several that fit an address, the longest one counts.
    pub prefix: Prefix,
    /// Only on this interface: for link-local ranges.
    pub interface: Option<InterfaceName>,
    /// Most neighbours at a time.
    pub limit: usize,
    /// The settings of each; its address is put in when it connects, and it is passive.
    pub template: Neighbor,
}

/// A range and its interface, as it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RangeName {
    /// The range.
    pub prefix: Prefix,
    /// Its interface.
    pub interface: Option<InterfaceName>,
}

impl fmt::Display for RangeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.interface {
            Some(interface) => write!(f, "{}%{interface}", self.prefix),
            None => self.prefix.fmt(f),
        }
    }
}

impl DynamicNeighbors {
    /// What tells it from the others.
    pub const fn name(&self) -> RangeName {
        RangeName {
            prefix: self.prefix,
            interface: self.interface,
        }
    }

    /// Whether a neighbour may come from there; a link-local address comes with its interface.
    pub fn contains(&self, address: IpAddr, interface: Option<InterfaceName>) -> bool {
        self.prefix.contains(&address) && (self.interface.is_none() || self.interface == interface)
    }

    /// The neighbour that has connected from an address.
    pub fn neighbor(&self, address: IpAddr, interface: Option<InterfaceName>) -> Neighbor {
        Neighbor {
            address,
            interface,
            port: BGP_PORT,
            passive: true,
            ..self.template.clone()
        }
    }

    pub(super) fn validate(&self, config: &Config) -> Result<(), ConfigError> {
        let error = |field: &'static str, reason: String| ConfigError::Dynamic {
            range: self.name(),
            field,
            reason,
        };
        if self.prefix.trunc() != self.prefix {
            return Err(error(
                "prefix",
                format!("has host bits set: write {}", self.prefix.trunc()),
            ));
        }
        if !(1..=DYNAMIC_LIMIT_MAX).contains(&self.limit) {
            return Err(error("limit", format!("must be 1..{DYNAMIC_LIMIT_MAX}")));
        }
        let sample = self.sample();
        let is_link_local = matches!(sample.address, IpAddr::V6(address) if address.is_unicast_link_local());
        if self.interface.is_some() && !is_link_local {
            let reason = "is for link-local ranges: leave the key out".to_owned();
            return Err(error("interface", reason));
        }
        sample.validate(config).map_err(|found| match found {
            ConfigError::Neighbor { field, reason, .. } => error(field, reason),
            other => other,
        })
    }

    /// A neighbour that might connect.
    fn sample(&self) -> Neighbor {
        let address = match self.prefix.addr() {
            IpAddr::V4(address) => IpAddr::V4((address.to_bits() | 1).into()),
            IpAddr::V6(address) => IpAddr::V6((address.to_bits() | 1).into()),
        };
        let mut sample = self.neighbor(address, None);
        if matches!(address, IpAddr::V6(address) if address.is_unicast_link_local()) {
            sample.interface = self.interface.or_else(|| "any".parse().ok());
        }
        sample
    }
}

impl Config {
    /// The range that a neighbour may connect from.
    pub fn dynamic(&self, address: IpAddr, interface: Option<InterfaceName>) -> Option<&DynamicNeighbors> {
        let fitting = self.dynamic_neighbors.iter();
        let fitting = fitting.filter(|range| range.contains(address, interface));
        fitting.max_by_key(|range| (range.prefix.prefix_len(), range.interface.is_some()))
    }

    /// Whether a listener has a neighbour's key already, because it is that of its range: the kernel goes through keys
    /// one by one.
    pub(crate) fn has_key_of_range(&self, neighbor: &Neighbor) -> bool {
        let range = self.dynamic(neighbor.address, neighbor.interface);
        range.is_some_and(|range| range.template.authentication() == neighbor.authentication())
    }

    /// The same with neighbours that have connected; those that no range has any more are left out.
    pub(crate) fn with_dynamic(mut self, connected: impl IntoIterator<Item = NeighborKey>) -> Self {
        let configured: HashSet<NeighborKey> = self.neighbors.iter().map(Neighbor::key).collect();
        let new: Vec<Neighbor> = connected
            .into_iter()
            .filter(|key| !configured.contains(key))
            .filter_map(|key| {
                let range = self.dynamic(key.address, key.interface)?;
                Some(range.neighbor(key.address, key.interface))
            })
            .collect();
        self.neighbors.extend(new);
        self
    }

    pub(super) fn validate_dynamic(&self) -> Result<(), ConfigError> {
        let mut seen = HashSet::new();
        for range in &self.dynamic_neighbors {
            range.validate(self)?;
            if !seen.insert(range.name()) {
                return Err(ConfigError::Dynamic {
                    range: range.name(),
                    field: "prefix",
                    reason: "is listed twice: remove one".to_owned(),
                });
            }
        }
        Ok(())
    }

    /// The kernel chooses the key of a connection by address alone, and by the longest prefix: where one key covers
    /// several neighbours, they need the same one, or each its own.
    pub(super) fn validate_passwords(&self) -> Result<(), ConfigError> {
        let neighbors = self.neighbors.iter().map(|neighbor| {
            let error = move |reason| neighbor.error(field_of(neighbor), reason);
            let error: Box<dyn Fn(String) -> ConfigError + '_> = Box::new(error);
            (neighbor.connects_from(), neighbor.authentication(), error)
        });
        let ranges = self.dynamic_neighbors.iter().map(|range| {
            let error = move |reason| ConfigError::Dynamic {
                range: range.name(),
                field: field_of(&range.template),
                reason,
            };
            let error: Box<dyn Fn(String) -> ConfigError + '_> = Box::new(error);
            (range.prefix, range.template.authentication(), error)
        });
        let all: Vec<_> = neighbors.chain(ranges).collect();
        let mut of: HashMap<IpNet, Option<TcpAuthentication<'_>>> = HashMap::new();
        for (addresses, password, error) in &all {
            if *of.entry(*addresses).or_insert(*password) != *password {
                return Err(error(format!(
                    "must be that of the others at {addresses}: the kernel tells neighbors apart by address alone"
                )));
            }
        }
        let wide: Vec<IpNet> = all
            .iter()
            .filter(|(addresses, password, _)| {
                password.is_some() && addresses.prefix_len() < addresses.max_prefix_len()
            })
            .map(|(addresses, _, _)| *addresses)
            .collect();
        for (addresses, password, error) in &all {
            if password.is_none()
                && let Some(wide) = wide.iter().find(|wide| wide.contains(addresses))
            {
                return Err(error(format!(
                    "is needed: the kernel asks for one from all of {wide}, because neighbors there have one"
                )));
            }
        }
        Ok(())
    }
}

/// The setting that a neighbour's segments are authenticated by.
const fn field_of(neighbor: &Neighbor) -> &'static str {
    if neighbor.tcp_ao.is_empty() {
        "password"
    } else {
        "tcp-ao"
    }
}
