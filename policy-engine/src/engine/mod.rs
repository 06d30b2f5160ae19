//! The engine: takes resources in, keeps what follows from them, and gives the difference out.

mod flush;
mod intake;
mod programs;
mod world;

use std::collections::{BTreeMap, BTreeSet};

use self::programs::Programs;
use self::world::World;
use crate::index::{ClassId, OwnerKey};
use crate::input::Counts;
use crate::output::{Endpoint, EndpointId, EndpointPrograms};
use crate::policies::{PolicyKey, PolicyTable};
use crate::problem::Problem;

/// Turns resources into what the dataplane of one host must hold.
///
/// ```
/// use policy_engine::{Engine, Input};
///
/// let mut engine = Engine::new("host1");
/// let mut endpoint = api::WorkloadEndpoint::default();
/// endpoint.metadata = api::ObjectMeta::namespaced("default", "host1-cni-c1-eth0");
/// endpoint.spec.node = "host1".into();
/// endpoint.spec.orchestrator = "cni".into();
/// endpoint.spec.container_id = "c1".into();
/// endpoint.spec.endpoint = "eth0".into();
/// endpoint.spec.interface_name = "calic1".into();
/// endpoint.spec.ip_networks = vec!["10.65.0.2/32".into()];
/// engine.update(Input::Set(endpoint.into()));
/// assert!(!engine.flush().is_empty());
/// assert!(engine.flush().is_empty());
/// ```
#[derive(Debug)]
pub struct Engine {
    local_node: String,
    world: World,
    policies: PolicyTable,
    programs: Programs,
    local: BTreeMap<OwnerKey, LocalEndpoint>,
    /// The policies that select each class of local endpoints.
    selected: BTreeMap<ClassId, BTreeSet<PolicyKey>>,
    /// The programs that each class of local endpoints asks for.
    wanted: BTreeMap<ClassId, EndpointPrograms>,
    /// Published endpoints that are no more.
    gone: Vec<EndpointId>,
    /// By resource.
    resource_problems: BTreeMap<String, Vec<Problem>>,
    program_problems: Vec<Problem>,
}

/// A workload endpoint of this host.
#[derive(Debug)]
struct LocalEndpoint {
    class: ClassId,
    /// With programs that mean nothing.
    content: Endpoint,
    /// Since it was published.
    changed: bool,
    published: Option<Endpoint>,
}

impl Engine {
    /// What cannot be enforced as it is written, at the last flush.
    pub fn problems(&self) -> Vec<Problem> {
        self.resource_problems
            .values()
            .flatten()
            .chain(&self.program_problems)
            .cloned()
            .collect()
    }

    /// How much is at work.
    pub fn counts(&self) -> Counts {
        let (owners, identities) = self.world.counts();
        let (policies, tiers, profiles) = self.policies.counts();
        Counts {
            local_endpoints: self.local.len(),
            owners,
            policies,
            active_policies: self.selected.values().flatten().collect::<BTreeSet<_>>().len(),
            tiers,
            profiles,
            active_selectors: self.world.selectors.len(),
            identities,
            programs: self.programs.len(),
        }
    }
}
