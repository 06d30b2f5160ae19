//! Keys under which an agent reports its own status and that of its endpoints.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Key, escape_name, plain_json_value, unescape_name};

const FELIX_V1: &str = "/calico/felix/v1/host/";
const FELIX_V2: &str = "/calico/felix/v2/";

/// The OpenStack region in a status path: `no-region` or `region-<name>`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Region(Option<String>);

impl Region {
    /// A named region.
    ///
    /// # Errors
    /// When the name is empty or has a `/`.
    pub fn named(name: &str) -> crate::Result<Self> {
        if name.is_empty() || name.contains('/') {
            return Err(crate::Error::field(
                "OpenstackRegion",
                name,
                "a region needs a name without '/'",
            ));
        }
        Ok(Self(Some(name.to_owned())))
    }

    fn parse(segment: &str) -> Option<Self> {
        match segment.strip_prefix("region-") {
            Some(name) if !name.is_empty() => Some(Self(Some(name.to_owned()))),
            Some(_) => None,
            None => (segment == "no-region").then_some(Self(None)),
        }
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_str("no-region"),
            Some(name) => write!(f, "region-{name}"),
        }
    }
}

/// That the agent is alive; bound to a lease.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StatusKey {
    /// The host.
    pub host: String,
    /// Its region.
    pub region: Region,
}

/// The same value without a lease.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LastStatusKey {
    /// The host.
    pub host: String,
    /// Its region.
    pub region: Region,
}

/// An agent's sign of life.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LivenessStatus {
    /// RFC 3339, UTC.
    pub time: String,
    /// Seconds since the agent started.
    pub uptime: f64,
    /// Until one write has succeeded since the start.
    pub first_update: bool,
}

/// Whether an endpoint is programmed: `up`, `down` or `error`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointStatus {
    /// The word.
    pub status: String,
}

macro_rules! agent_status_key {
    ($key:ident, $last:literal) => {
        impl fmt::Display for $key {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(
                    f,
                    concat!(stringify!($key), "(hostname={}, region={})"),
                    self.host, self.region
                )
            }
        }

        impl Key for $key {
            type Value = LivenessStatus;

            plain_json_value!();

            fn path(&self) -> String {
                format!("{FELIX_V2}{}/host/{}/{}", self.region, self.host, $last)
            }

            fn parse(path: &str) -> Option<Self> {
                let (region, host) = split_v2(path)?;
                let (host, last) = host.split_once('/')?;
                (last == $last && !host.is_empty()).then(|| Self {
                    host: host.to_owned(),
                    region,
                })
            }
        }
    };
}

agent_status_key!(StatusKey, "status");
agent_status_key!(LastStatusKey, "last_reported_status");

/// `/calico/felix/v2/<region>/host/<rest>`.
fn split_v2(path: &str) -> Option<(Region, &str)> {
    let (region, rest) = path.strip_prefix(FELIX_V2)?.split_once('/')?;
    Some((Region::parse(region)?, rest.strip_prefix("host/")?))
}

/// The status of a host endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostEndpointStatusKey {
    /// The host.
    pub host: String,
    /// The HostEndpoint's name.
    pub endpoint: String,
}

impl fmt::Display for HostEndpointStatusKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "HostEndpointStatus(hostname={}, endpoint={})",
            self.host, self.endpoint
        )
    }
}

impl Key for HostEndpointStatusKey {
    type Value = EndpointStatus;

    plain_json_value!();

    fn path(&self) -> String {
        format!("{FELIX_V1}{}/endpoint/{}", self.host, escape_name(&self.endpoint))
    }

    fn parse(path: &str) -> Option<Self> {
        let mut segments = path.strip_prefix(FELIX_V1)?.split('/');
        let host = segments.next().filter(|s| !s.is_empty())?.to_owned();
        (segments.next()? == "endpoint").then_some(())?;
        let endpoint = unescape_name(segments.next().filter(|s| !s.is_empty())?);
        segments.next().is_none().then_some(Self { host, endpoint })
    }
}

/// The status of a workload endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkloadEndpointStatusKey {
    /// The host.
    pub host: String,
    /// `k8s`, `cni`, ...
    pub orchestrator: String,
    /// `<namespace>/<pod, container or workload>`.
    pub workload: String,
    /// `eth0`.
    pub endpoint: String,
    /// Its region.
    pub region: Region,
}

impl fmt::Display for WorkloadEndpointStatusKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "WorkloadEndpointStatus(hostname={}, orchestrator={}, workload={}, endpoint={})",
            self.host, self.orchestrator, self.workload, self.endpoint
        )
    }
}

impl Key for WorkloadEndpointStatusKey {
    type Value = EndpointStatus;

    plain_json_value!();

    fn path(&self) -> String {
        format!(
            "{FELIX_V2}{}/host/{}/workload/{}/{}/endpoint/{}",
            self.region,
            self.host,
            escape_name(&self.orchestrator),
            escape_name(&self.workload),
            escape_name(&self.endpoint)
        )
    }

    fn parse(path: &str) -> Option<Self> {
        let (region, rest) = split_v2(path)?;
        let mut segments = rest.split('/');
        let mut name = || segments.next().filter(|s| !s.is_empty());
        let host = name()?.to_owned();
        (name()? == "workload").then_some(())?;
        let orchestrator = unescape_name(name()?);
        let workload = unescape_name(name()?);
        (name()? == "endpoint").then_some(())?;
        let endpoint = unescape_name(name()?);
        segments.next().is_none().then_some(Self {
            host,
            orchestrator,
            workload,
            endpoint,
            region,
        })
    }
}
