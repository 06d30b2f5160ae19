//! The engine: takes resources in, keeps what follows from them, and gives the difference out.

mod flush;
mod intake;
mod programs;
mod world;

use std::collections::{BTreeMap, BTreeSet};

use self::programs::{Programs, SpecId};
use self::world::World;
use crate::index::{ClassId, OwnerKey};
use crate::input::Counts;
use crate::output::{Direction, Endpoint, EndpointId, EndpointPrograms, Family, ProgramKey};
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
    wanted: BTreeMap<ClassId, Legs<SpecId>>,
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
    published: Option<Published>,
}

/// What the dataplane was told of an endpoint.
#[derive(Debug)]
struct Published {
    endpoint: Endpoint,
    /// Whose content its programs have.
    specs: Legs<SpecId>,
}

/// One for each direction and family of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Legs<T>([T; 4]);

impl<T: Copy> Legs<T> {
    const ALL: [(Direction, Family); 4] = [
        (Direction::Ingress, Family::V4),
        (Direction::Egress, Family::V4),
        (Direction::Ingress, Family::V6),
        (Direction::Egress, Family::V6),
    ];

    /// `of` each direction and family.
    fn new(mut of: impl FnMut(Direction, Family) -> T) -> Self {
        Self(Self::ALL.map(|(direction, family)| of(direction, family)))
    }

    fn map<U>(self, mut of: impl FnMut((Direction, Family), T) -> U) -> Legs<U> {
        Legs(std::array::from_fn(|leg| of(Self::ALL[leg], self.0[leg])))
    }

    /// `None` if `of` gives it for one of them.
    fn try_map<U>(self, of: impl Fn(T) -> Option<U>) -> Option<Legs<U>> {
        let [a, b, c, d] = self.0;
        Some(Legs([of(a)?, of(b)?, of(c)?, of(d)?]))
    }
}

impl From<Legs<ProgramKey>> for EndpointPrograms {
    fn from(Legs([ingress_v4, egress_v4, ingress_v6, egress_v6]): Legs<ProgramKey>) -> Self {
        Self {
            ingress_v4,
            egress_v4,
            ingress_v6,
            egress_v6,
        }
    }
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
