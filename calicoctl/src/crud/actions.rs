//! One action on one resource.

use std::time::Duration;

use api::file::FileResource;
use api::{AnyResource, Kind, ObjectMeta, Status};
use datastore::{Error, Resources};

use super::Outcome;
use super::target::Target;

/// How often a replace that met another writer is repeated.
const CONFLICT_TRIES_MAX: usize = 5;
/// The pause before each repetition.
const CONFLICT_PAUSE: Duration = Duration::from_secs(1);
/// Policies that stand for Kubernetes' own.
const KUBERNETES_POLICY_PREFIX: &str = "knp.default.";

pub(super) async fn create(resources: &Resources, resource: &FileResource) -> Outcome {
    let object = reduced(&resource.resource);
    may_change("create", object.kind(), &object.metadata().name)?;
    resources.create_any(object).await.map(|_| ())
}

pub(super) async fn apply(resources: &Resources, resource: &FileResource) -> Outcome {
    let object = reduced(&resource.resource);
    may_change("apply", object.kind(), &object.metadata().name)?;
    let mut new = object.clone();
    new.metadata_mut().resource_version.clear();
    match resources.create_any(new).await {
        Err(error) if error.is_already_exists() || matches!(error, Error::Unsupported { .. }) => {
            put(resources, object).await
        }
        other => other.map(|_| ()),
    }
}

pub(super) async fn replace(resources: &Resources, resource: &FileResource) -> Outcome {
    let object = reduced(&resource.resource);
    may_change("replace", object.kind(), &object.metadata().name)?;
    put(resources, object).await
}

pub(super) async fn delete(resources: &Resources, target: &Target) -> Outcome {
    may_change("delete", target.kind, &target.name)?;
    let Target {
        kind,
        namespace,
        name,
        resource_version,
        ..
    } = target;
    crate::ipam::delete(resources, *kind, namespace, name, resource_version).await
}

/// Replaces what is stored, in the revision that the object gives, or in whichever is there.
async fn put(resources: &Resources, object: AnyResource) -> Outcome {
    let wanted = object.metadata().resource_version.clone();
    let mut tries = 0;
    loop {
        let stored = get_stored(resources, &object).await?;
        if !wanted.is_empty() && stored.metadata().resource_version != wanted {
            return Err(Error::UpdateConflict { id: object.id() });
        }
        tries += 1;
        match resources.update_any(over(stored, object.clone())).await {
            Err(error) if error.is_conflict() && wanted.is_empty() && tries < CONFLICT_TRIES_MAX => {
                tokio::time::sleep(CONFLICT_PAUSE).await;
            }
            other => return other.map(|_| ()),
        }
    }
}

async fn get_stored(resources: &Resources, object: &AnyResource) -> Result<AnyResource, Error> {
    let mut named = object.clone();
    // A workload endpoint may leave its name to its spec.
    named.default_on_write();
    let metadata = named.metadata();
    resources
        .get_any(object.kind(), &metadata.namespace, &metadata.name)
        .await
}

/// The new object with the stored one's identity: labels and annotations are the new one's alone.
fn over(stored: AnyResource, mut object: AnyResource) -> AnyResource {
    let metadata = stored.metadata().clone();
    let given = object.metadata_mut();
    *given = ObjectMeta {
        labels: std::mem::take(&mut given.labels),
        annotations: std::mem::take(&mut given.annotations),
        ..metadata
    };
    keep_status(stored, &mut object);
    object
}

/// What components report stays when the file says nothing of it.
fn keep_status(stored: AnyResource, object: &mut AnyResource) {
    fn keep<S: Status>(stored: S, given: &mut S) {
        if *given == S::default() {
            *given = stored;
        }
    }
    match (stored, object) {
        (AnyResource::Node(stored), AnyResource::Node(given)) => keep(stored.status, &mut given.status),
        (AnyResource::Tier(stored), AnyResource::Tier(given)) => keep(stored.status, &mut given.status),
        (AnyResource::IpPool(stored), AnyResource::IpPool(given)) => keep(stored.status, &mut given.status),
        _ => {}
    }
}

/// A file says name, namespace, labels, annotations, and the revision that it is about; the rest is the store's.
fn reduced(object: &AnyResource) -> AnyResource {
    let mut object = object.clone();
    let given = std::mem::take(object.metadata_mut());
    *object.metadata_mut() = ObjectMeta {
        name: given.name,
        namespace: given.namespace,
        resource_version: given.resource_version,
        labels: given.labels,
        annotations: given.annotations,
        ..ObjectMeta::default()
    };
    object
}

/// Objects that are not the user's to change.
fn may_change(operation: &'static str, kind: Kind, name: &str) -> Outcome {
    let refuse = |id: String, reason: &str| {
        Err(Error::Unsupported {
            operation,
            id,
            reason: reason.to_owned(),
        })
    };
    match kind {
        Kind::ClusterInformation => refuse(kind.to_string(), "resource is readonly"),
        Kind::NetworkPolicy if name.starts_with(KUBERNETES_POLICY_PREFIX) => refuse(
            format!("{kind}({name})"),
            "kubernetes network policies must be managed through the kubernetes API",
        ),
        _ => Ok(()),
    }
}
