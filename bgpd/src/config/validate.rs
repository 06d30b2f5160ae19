//! What makes a configuration wrong.

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::Duration;

use super::{
    AddPaths, Config, ExportOptions, GracefulRestartMode, LONG_LIVED_STALE_TIME_MAX_S, Neighbor, NeighborKey,
    PASSWORD_MAX_BYTES, PrivateAs, RESTART_TIME_MAX_S, RangeName, SHUTDOWN_MESSAGE_MAX_BYTES,
};
use crate::policy::Policy;
use crate::wire::{Family, FamilySet};

/// Shortest hold time that is not zero (RFC 4271 section 4.2), in seconds.
const HOLD_TIME_MIN_S: u64 = 3;
/// Longest DelayOpenTime: half of the hold time that RFC 4271 suggests until OPEN is there, in seconds.
const DELAY_OPEN_MAX_S: u64 = 120;

/// Most paths that the kernel uses together.
const MULTIPATH_MAX: usize = 256;

/// A setting that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A global setting.
    #[error("global {field}: {reason}")]
    Global {
        /// The setting.
        field: &'static str,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// A neighbour's setting.
    #[error("neighbor {neighbor} {field}: {reason}")]
    Neighbor {
        /// Which neighbour.
        neighbor: NeighborKey,
        /// The setting.
        field: &'static str,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// A range of neighbours.
    #[error("dynamic-neighbors {range} {field}: {reason}")]
    Dynamic {
        /// Which range.
        range: RangeName,
        /// The setting.
        field: &'static str,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// An aggregate.
    #[error("aggregate {prefix}: {reason}")]
    Aggregate {
        /// Which aggregate.
        prefix: String,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// A network.
    #[error("network {prefix}: {reason}")]
    Network {
        /// Which network.
        prefix: String,
        /// What is wrong, and what would be right.
        reason: String,
    },
}

impl Config {
    /// Refuses what cannot work, naming the field.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.validate_global()?;
        self.validate_monitoring()?;
        let mut seen = HashSet::new();
        for neighbor in &self.neighbors {
            neighbor.validate(self)?;
            if !seen.insert(neighbor.key()) {
                return Err(neighbor.error("address", "is configured twice with the same port: remove one"));
            }
        }
        let mut with_bfd = HashSet::new();
        for neighbor in self.neighbors.iter().filter(|neighbor| neighbor.bfd.is_some()) {
            if !with_bfd.insert((neighbor.address, neighbor.interface)) {
                return Err(
                    neighbor.error("bfd", "another neighbor has the same address and BFD: remove one")
                );
            }
        }
        self.validate_dynamic()?;
        self.validate_passwords()?;
        let mut prefixes = HashSet::new();
        for aggregate in &self.aggregates {
            let error = |reason: String| ConfigError::Aggregate {
                prefix: aggregate.prefix.to_string(),
                reason,
            };
            let network = aggregate.prefix.trunc();
            if network != aggregate.prefix {
                return Err(error(format!("has host bits set: write {network}")));
            }
            if !prefixes.insert(network) {
                return Err(error("is listed twice: remove one".to_owned()));
            }
            if self.networks.iter().any(|other| other.prefix == network) {
                return Err(error("is a network too: remove one".to_owned()));
            }
        }
        prefixes.clear();
        for network in &self.networks {
            let error = |reason: &str| ConfigError::Network {
                prefix: network.prefix.to_string(),
                reason: reason.to_owned(),
            };
            if network.prefix.trunc() != network.prefix {
                return Err(error(&format!(
                    "has host bits set: write {}",
                    network.prefix.trunc()
                )));
            }
            if !prefixes.insert(network.prefix) {
                return Err(error("is listed twice: remove one"));
            }
        }
        Ok(())
    }

    fn validate_global(&self) -> Result<(), ConfigError> {
        let error = |field, reason: &str| {
            Err(ConfigError::Global {
                field,
                reason: reason.to_owned(),
            })
        };
        if self.local_as == 0 {
            return error("as", "0 is reserved (RFC 7607): give the AS number");
        }
        if self.router_id.is_unspecified() {
            return error(
                "router-id",
                "0.0.0.0 is no BGP identifier (RFC 6286): give an address of this host",
            );
        }
        if self.restart_time > Duration::from_secs(RESTART_TIME_MAX_S.into()) {
            return error(
                "restart-time",
                "must be at most 4095 s, its field has 12 bits (RFC 4724)",
            );
        }
        if self.max_paths == Some(0) {
            return error("max-paths", "must be at least 1: leave the key out for no limit");
        }
        if !(1..=MULTIPATH_MAX).contains(&self.selection.multipath_max) {
            return error("selection multipath", "must be 1..256");
        }
        let mut seen = HashSet::new();
        for listen in &self.listen {
            if listen.port() != 0 && !seen.insert(listen) {
                return error("listen", &format!("{listen} is listed twice: remove one"));
            }
        }
        Ok(())
    }
}

impl Neighbor {
    pub(super) fn error(&self, field: &'static str, reason: impl Into<String>) -> ConfigError {
        ConfigError::Neighbor {
            neighbor: self.key(),
            field,
            reason: reason.into(),
        }
    }

    pub(super) fn validate(&self, config: &Config) -> Result<(), ConfigError> {
        self.validate_addresses()?;
        if self.local_as == Some(0) {
            return Err(self.error("local-as", "0 is reserved (RFC 7607): give the AS number"));
        }
        self.remote_as
            .check(self.session_as(config))
            .map_err(|reason| self.error("as", reason))?;
        self.validate_dual_as(config)?;
        if self.families.is_empty() {
            return Err(self.error("families", "is empty: list \"ipv4\", \"ipv6\" or both"));
        }
        if self.extended_next_hop == Some(true) && !self.families.contains(Family::Ipv4Unicast) {
            return Err(self.error(
                "extended-next-hop",
                "is about IPv4 routes (RFC 8950): add \"ipv4\" to families",
            ));
        }
        if self.route_reflector_client && self.is_ebgp(config) {
            return Err(self.error(
                "route-reflector-client",
                format!(
                    "needs a neighbor in our AS {}, not in {}",
                    self.session_as(config),
                    self.remote_as
                ),
            ));
        }
        if self
            .restart_time
            .is_some_and(|time| time > Duration::from_secs(RESTART_TIME_MAX_S.into()))
        {
            return Err(self.error(
                "restart-time",
                "must be at most 4095 s, its field has 12 bits (RFC 4724)",
            ));
        }
        self.validate_timers()?;
        self.validate_routing(config)?;
        if let Some(bfd) = &self.bfd {
            bfd.check(self, config)
                .map_err(|(field, reason)| self.error(field, reason))?;
        }
        self.validate_limits()?;
        self.validate_add_paths()?;
        if self.role.is_some() && !self.is_ebgp(config) {
            return Err(self.error(
                "role",
                "is for neighbors in another AS (RFC 9234): leave the key out",
            ));
        }
        if self.role_strict && self.role.is_none() {
            return Err(self.error("role-strict", "needs a role"));
        }
        super::tcp_ao::check(&self.tcp_ao).map_err(|reason| self.error("tcp-ao", reason))?;
        match &self.password {
            Some(_) if !self.tcp_ao.is_empty() => {
                Err(self.error("password", "cannot be set together with tcp-ao: remove one"))
            }
            Some(password) if password.is_empty() => Err(self.error(
                "password",
                "is empty: leave the key out for a session without one",
            )),
            Some(password) if password.len() > PASSWORD_MAX_BYTES => {
                Err(self.error("password", format!("is longer than {PASSWORD_MAX_BYTES} bytes")))
            }
            _ => Ok(()),
        }
    }

    fn validate_addresses(&self) -> Result<(), ConfigError> {
        let is_link_local = matches!(self.address, IpAddr::V6(address) if address.is_unicast_link_local());
        match self.interface {
            Some(_) if !is_link_local && !self.is_unnumbered() => {
                return Err(self.error(
                    "interface",
                    "is for neighbors with a link-local address, or with none: leave one of both keys out",
                ));
            }
            Some(_) if self.source.is_some() => {
                return Err(self.error(
                    "source",
                    "is our link-local address on the interface: leave the key out",
                ));
            }
            None if is_link_local => {
                return Err(self.error(
                    "address",
                    format!(
                        "is link-local: say on which interface, as in \"{}%eth0\"",
                        self.address
                    ),
                ));
            }
            None if self.address.is_unspecified() || self.address.is_multicast() => {
                return Err(self.error("address", "must be the unicast address of a router"));
            }
            _ => {}
        }
        if self.port == 0 {
            return Err(self.error("port", "must be 1..65535"));
        }
        if self
            .source
            .is_some_and(|source| source.is_ipv4() != self.address.is_ipv4())
        {
            return Err(self.error("source", "must be of the same family as address"));
        }
        if self.ttl == Some(0) {
            return Err(self.error("ttl", "must be 1..255"));
        }
        if self.ttl.is_some() && self.ttl_security_hops.is_some() {
            return Err(self.error("ttl", "cannot be set together with ttl security: remove one"));
        }
        if self.ttl_security_hops == Some(0) {
            return Err(self.error("ttl-security", "must be 1..255 hops"));
        }
        Ok(())
    }

    fn validate_add_paths(&self) -> Result<(), ConfigError> {
        let AddPaths { receive, send, limit } = self.add_paths;
        let mut wanted = receive.iter().chain(send.iter());
        if let Some(family) = wanted.find(|family| !self.families.contains(*family)) {
            return Err(self.error(
                "add-paths",
                format!(
                    "names {family}, which is not among the session's families: add it there, or leave it out"
                ),
            ));
        }
        match limit {
            Some(0) => Err(self.error(
                "add-paths-limit",
                "must be at least 1: for the best path alone, do not send with add-paths",
            )),
            Some(_) if send.is_empty() => Err(self.error(
                "add-paths-limit",
                "is of paths that are sent: set add-paths to send or both, or leave the limit out",
            )),
            _ => Ok(()),
        }
    }

    fn validate_dual_as(&self, config: &Config) -> Result<(), ConfigError> {
        if !self.dual_as {
            return Ok(());
        }
        let reason = match self.local_as {
            None => "needs local-as, the AS that the neighbor is offered first",
            Some(asn) if asn == config.local_as => "needs a local-as other than the global AS",
            Some(_) if !self.is_ebgp(config) || !self.remote_as.is_external(config.local_as) => {
                "is for neighbors that are in neither AS of ours: leave the key out"
            }
            Some(_) => return Ok(()),
        };
        Err(self.error("dual-as", reason))
    }

    fn validate_limits(&self) -> Result<(), ConfigError> {
        let mut seen = FamilySet::EMPTY;
        for max in &self.max_prefixes {
            let error = |reason: String| Err(self.error("max-prefix", reason));
            if !seen.insert(max.family) {
                return error(format!("{} is limited twice: remove one", max.family));
            }
            if max.limit == 0 {
                return error(
                    "limit must be at least 1: to take nothing, use import = \"reject\"".to_owned(),
                );
            }
            if !(1..=100).contains(&max.warning_percent) {
                return error("warning-percent must be 1..100".to_owned());
            }
            if max
                .restart
                .is_some_and(|restart| restart < Duration::from_secs(1))
            {
                return error("restart must be at least 1 s".to_owned());
            }
        }
        let long_lived = self.long_lived_stale_time;
        if long_lived > Duration::from_secs(LONG_LIVED_STALE_TIME_MAX_S.into()) {
            return Err(self.error(
                "long-lived-stale-time",
                format!("must be at most {LONG_LIVED_STALE_TIME_MAX_S} s, its field has 24 bits (RFC 9494)"),
            ));
        }
        if !long_lived.is_zero() && self.graceful_restart == GracefulRestartMode::Off {
            return Err(self.error(
                "long-lived-stale-time",
                "needs graceful restart (RFC 9494): remove one of both keys",
            ));
        }
        match &self.shutdown_message {
            Some(text) if text.len() > SHUTDOWN_MESSAGE_MAX_BYTES => Err(self.error(
                "shutdown-message",
                format!("is longer than {SHUTDOWN_MESSAGE_MAX_BYTES} bytes (RFC 9003)"),
            )),
            _ => Ok(()),
        }
    }

    fn validate_routing(&self, config: &Config) -> Result<(), ConfigError> {
        for (field, policy) in [("import", &self.import), ("export", &self.export)] {
            policy
                .validate()
                .map_err(|error| self.error(field, error.to_string()))?;
        }
        let (import, export) = (&self.routing.import, &self.routing.export);
        self.validate_default_originate(export)?;
        if let Some(dampening) = &import.dampening {
            dampening
                .check()
                .map_err(|(field, reason)| self.error(field, reason))?;
        }
        let external = [
            ("local-pref", import.local_pref.is_some()),
            ("enforce-first-as", import.enforce_first_as),
            ("blackhole", import.accept_blackhole),
            ("dampening", import.dampening.is_some()),
            ("as-override", export.as_override),
            ("private-as", export.private_as != PrivateAs::Keep),
            ("prepend-local-as", import.prepend_local_as),
            ("prepend-global-as", export.prepend_global_as),
        ];
        if !self.is_ebgp(config)
            && let Some((field, _)) = external.into_iter().find(|(_, set)| *set)
        {
            return Err(self.error(
                field,
                format!(
                    "is for neighbors in other ASes than our {}: remove it",
                    self.session_as(config)
                ),
            ));
        }
        if export.long_lived_stale && self.is_ebgp(config) {
            return Err(self.error("send-long-lived-stale", "is for neighbors in our AS: remove it"));
        }
        if export.long_lived_stale && !export.communities {
            return Err(self.error(
                "send-long-lived-stale",
                "needs send-communities: NO_EXPORT keeps such routes within the AS",
            ));
        }
        let local = [
            ("prepend-local-as", import.prepend_local_as),
            ("prepend-global-as", export.prepend_global_as),
        ];
        if self.session_as(config) == config.local_as
            && let Some((field, _)) = local.into_iter().find(|(_, set)| *set)
        {
            return Err(self.error(field, "needs a local-as other than the global one"));
        }
        Ok(())
    }

    fn validate_default_originate(&self, export: &ExportOptions) -> Result<(), ConfigError> {
        let mut families = export.default_originate.iter();
        if let Some(family) = families.find(|family| !self.families.contains(*family)) {
            return Err(self.error(
                "default-originate",
                format!(
                    "names {family}, which is not among the session's families: add it there, or leave it out"
                ),
            ));
        }
        if export.default_originate.is_empty() && export.default_policy != Policy::Accept {
            return Err(self.error(
                "default-originate-policy",
                "is for the route of default-originate: set that too, or leave it out",
            ));
        }
        export
            .default_policy
            .validate()
            .map_err(|error| self.error("default-originate-policy", error.to_string()))
    }

    fn validate_timers(&self) -> Result<(), ConfigError> {
        let hold = self.hold_time;
        if hold.subsec_nanos() != 0 || hold.as_secs() > u16::MAX.into() {
            return Err(self.error("hold-time", "must be a whole number of seconds up to 65535"));
        }
        if !hold.is_zero() && hold.as_secs() < HOLD_TIME_MIN_S {
            return Err(self.error("hold-time", "must be 0 or at least 3 s (RFC 4271)"));
        }
        if self
            .delay_open
            .is_some_and(|delay| delay > Duration::from_secs(DELAY_OPEN_MAX_S))
        {
            return Err(self.error(
                "delay-open",
                format!("must be at most {DELAY_OPEN_MAX_S} s, or neighbors give up on us"),
            ));
        }
        match self.keepalive {
            Some(keepalive) if keepalive < Duration::from_secs(1) => {
                Err(self.error("keepalive", "must be at least 1 s"))
            }
            Some(keepalive) if !hold.is_zero() && keepalive >= hold => {
                Err(self.error("keepalive", "must be shorter than hold-time"))
            }
            _ => Ok(()),
        }
    }
}
