//! An engine, the replica that its deltas make, and the resources that the oracle judges by.

use api::{AnyResource, Kind};
use policy_engine::output::{Action, Delta, Direction, EndpointId, Program, RuleId};
use policy_engine::{Engine, Input, Packet, Replica, Verdict};

use super::build::NODE;
use super::oracle::{Judgement, Resources};

pub struct Universe {
    pub engine: Engine,
    pub replica: Replica,
    pub resources: Resources,
}

impl Default for Universe {
    fn default() -> Self {
        Self {
            engine: Engine::new(NODE),
            replica: Replica::default(),
            resources: Resources::new(),
        }
    }
}

impl Universe {
    pub fn of(inputs: impl IntoIterator<Item = Input>) -> Self {
        let mut universe = Self::default();
        inputs.into_iter().for_each(|input| universe.update(input));
        universe.flush();
        universe
    }

    pub fn update(&mut self, input: Input) {
        match &input {
            Input::Set(resource) => {
                let meta = resource.metadata();
                let key = (resource.kind(), meta.namespace.clone(), meta.name.clone());
                self.resources.insert(key, resource.clone());
            }
            Input::Remove {
                kind,
                namespace,
                name,
            } => {
                self.resources.remove(&(*kind, namespace.clone(), name.clone()));
            }
        }
        self.engine.update(input);
    }

    pub fn flush(&mut self) -> Vec<Delta> {
        let deltas = self.engine.flush();
        for delta in &deltas {
            self.replica
                .apply(delta)
                .unwrap_or_else(|error| panic!("{error}: {delta:?}"));
        }
        deltas
    }

    /// Keys of the endpoints that must have programs, with their ids.
    pub fn local(&self) -> Vec<((Kind, String, String), EndpointId)> {
        let local = self
            .resources
            .iter()
            .filter_map(|(key, resource)| match resource {
                AnyResource::WorkloadEndpoint(e) if e.spec.node == NODE && !e.spec.ip_networks.is_empty() => {
                    Some((
                        key.clone(),
                        EndpointId {
                            orchestrator: e.spec.orchestrator.clone(),
                            workload: format!("{}/{}", e.metadata.namespace, e.spec.container_id),
                            endpoint: e.spec.endpoint.clone(),
                        },
                    ))
                }
                _ => None,
            });
        local.collect()
    }

    pub fn judge(&self, id: &EndpointId, direction: Direction, packet: &Packet) -> Judgement {
        let (verdict, program) = self
            .replica
            .evaluate(id, direction, packet)
            .expect("endpoint has a program");
        judgement(&verdict, program)
    }

    /// That every endpoint says what the oracle says.
    pub fn check(&self, packets: &[Packet]) {
        let local = self.local();
        assert_eq!(self.replica.endpoints.len(), local.len());
        for (key, id) in &local {
            for packet in packets {
                for direction in [Direction::Ingress, Direction::Egress] {
                    let expected = super::oracle::judge(&self.resources, key, direction, packet);
                    let got = self.judge(id, direction, packet);
                    assert_eq!(got, expected, "{id:?} {direction:?} {packet:?}");
                }
            }
        }
    }
}

/// A verdict by names; a rule of two bits counts once.
pub fn judgement(verdict: &Verdict, program: &Program) -> Judgement {
    let name = |bit: usize| program.rules[bit].id.clone();
    let mut logged: Vec<RuleId> = verdict.logged.iter().map(|bit| name(*bit)).collect();
    logged.dedup();
    let decided_by = name(verdict.rule.expect("a rule decides"));
    assert!(
        verdict
            .passed
            .iter()
            .all(|bit| matches!(program.rules[*bit].action, Action::Pass { .. }))
    );
    Judgement {
        allowed: verdict.allowed,
        decided_by,
        logged,
    }
}
