//! The store as the commands need it: endpoints, profiles, readiness. Calls block.

use std::future::Future;

use api::v3::rule::{Action, EntityRule, Rule};
use api::{ClusterInformation, ObjectMeta, Profile, Resource, WorkloadEndpoint};
use datastore::{Client, Error, Resources};
use tokio::runtime::Runtime;

use crate::config::NetworkConfig;
use crate::error::{CniError, Code, Context as _};
use crate::identity::{Identity, Orchestrator};

/// How often a deletion that met another writer is tried.
const DELETE_TRIES_MAX: usize = 6;

/// A connection to the store.
pub(crate) struct Store {
    runtime: Runtime,
    resources: Resources,
}

impl Store {
    /// Connects, and checks that the cluster is ready to be written to.
    pub(crate) fn open(config: &NetworkConfig) -> Result<Self, CniError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .cni(Code::Io, "cannot start the runtime")?;
        let settings = config.datastore()?;
        let client = runtime
            .block_on(Client::connect(&settings))
            .map_err(|e| failed("connect to the datastore", e))?;
        let store = Self {
            runtime,
            resources: Resources::new(client),
        };
        store.check_ready()?;
        Ok(store)
    }

    fn check_ready(&self) -> Result<(), CniError> {
        let not_ready = |details: &str| {
            CniError::new(
                Code::TryAgainLater,
                "Calico is currently not ready to process requests",
                details,
            )
        };
        match self.block_on(self.resources.get::<ClusterInformation>("", "default")) {
            Ok(information) if information.spec.datastore_ready == Some(true) => Ok(()),
            Ok(_) => Err(not_ready(
                "ClusterInformation(default) does not say datastoreReady: true",
            )),
            Err(error) if error.is_does_not_exist() => Err(not_ready(
                "ClusterInformation(default) does not exist: start an agent, which creates it",
            )),
            Err(error) => Err(failed("read ClusterInformation(default)", error)),
        }
    }

    /// Runs one call of an asynchronous library.
    pub(crate) fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// The connection, for address management.
    pub(crate) fn client(&self) -> &Client {
        self.resources.client()
    }

    /// All objects of a kind.
    pub(crate) fn list<R: Resource>(&self, what: &str) -> Result<Vec<R>, CniError> {
        self.block_on(self.resources.list_all::<R>())
            .map_err(|e| failed(&format!("read {what}"), e))
    }

    /// The workload's endpoint, if it has one.
    pub(crate) fn endpoint(&self, identity: &Identity) -> Result<Option<WorkloadEndpoint>, CniError> {
        match self.block_on(self.resources.get(&identity.namespace, &identity.resource_name)) {
            Ok(endpoint) => Ok(Some(endpoint)),
            Err(error) if error.is_does_not_exist() => Ok(None),
            Err(error) => Err(failed("read the workload endpoint", error)),
        }
    }

    /// Creates or replaces an endpoint.
    pub(crate) fn apply_endpoint(&self, endpoint: WorkloadEndpoint) -> Result<WorkloadEndpoint, CniError> {
        self.block_on(self.resources.apply(endpoint))
            .map_err(|e| failed("write the workload endpoint", e))
    }

    /// Deletes the endpoint of this very container: a newer sandbox of the same pod keeps its own. Tells whether the
    /// workload is still that container's.
    pub(crate) fn delete_endpoint(&self, identity: &Identity) -> Result<bool, CniError> {
        for _ in 0..DELETE_TRIES_MAX {
            let Some(endpoint) = self.endpoint(identity)? else {
                return Ok(true);
            };
            let owner = &endpoint.spec.container_id;
            if !owner.is_empty() && *owner != identity.container_id {
                tracing::info!(owner, "the endpoint belongs to a newer container and stays");
                return Ok(false);
            }
            let metadata = &endpoint.metadata;
            let deleted = self.block_on(self.resources.delete::<WorkloadEndpoint>(
                &metadata.namespace,
                &metadata.name,
                &metadata.resource_version,
            ));
            match deleted {
                Ok(_) => return Ok(true),
                Err(error) if error.is_does_not_exist() => return Ok(true),
                Err(Error::UpdateConflict { .. }) => {}
                Err(error) => return Err(failed("delete the workload endpoint", error)),
            }
        }
        let details = format!("it changed {DELETE_TRIES_MAX} times meanwhile");
        Err(CniError::new(
            Code::TryAgainLater,
            "cannot delete the workload endpoint",
            details,
        ))
    }

    /// Creates the network's profile where it is missing.
    pub(crate) fn ensure_profile(&self, network: &str, orchestrator: Orchestrator) -> Result<(), CniError> {
        match self.block_on(self.resources.get::<Profile>("", network)) {
            Ok(_) => return Ok(()),
            Err(error) if error.is_does_not_exist() => {}
            Err(error) => return Err(failed("read the network's profile", error)),
        }
        match self.block_on(self.resources.create(network_profile(network, orchestrator))) {
            Ok(_) | Err(Error::AlreadyExists { .. }) => Ok(()),
            Err(error) => Err(failed("create the network's profile", error)),
        }
    }
}

/// What endpoints of a network may do where no policy selects them.
fn network_profile(network: &str, orchestrator: Orchestrator) -> Profile {
    let mut profile = Profile::new(ObjectMeta::named(network), Default::default());
    profile
        .spec
        .labels_to_apply
        .insert(network.to_owned(), String::new());
    profile.spec.egress = vec![Rule::matching_all(Action::Allow)];
    let mut ingress = Rule::matching_all(Action::Allow);
    if orchestrator == Orchestrator::Cni {
        ingress.source = EntityRule {
            selector: format!("has({network})"),
            ..EntityRule::default()
        };
    }
    profile.spec.ingress = vec![ingress];
    profile
}

/// An error of the store; those that pass are for the runtime to try again.
pub(crate) fn failed(what: &str, error: Error) -> CniError {
    let code = if error.is_unavailable() {
        Code::TryAgainLater
    } else {
        Code::Datastore
    };
    CniError::new(code, format!("cannot {what}"), error)
}
