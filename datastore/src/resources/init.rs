//! The objects that every datastore has.

use std::time::Duration;

use api::{ClusterInformation, ObjectMeta};

use super::Resources;
use crate::error::{Error, Result};

/// The pause before a write that met another initialiser is repeated.
const RACE_PAUSE: Duration = Duration::from_secs(1);
/// How often it is repeated.
const RACE_RETRIES_MAX: usize = 10;

impl Resources {
    /// Creates what is missing of: the ClusterInformation, and the tiers that are always there. `version` and
    /// `cluster_type` (a comma list, added to what is there) are recorded unless empty.
    ///
    /// # Errors
    /// The first error; the rest was tried all the same.
    pub async fn ensure_initialized(&self, version: &str, cluster_type: &str) -> Result<()> {
        let mut outcome = self.ensure_cluster_information(version, cluster_type).await;
        for tier in api::v3::tier::initial_tiers() {
            match self.create(tier).await {
                Ok(_) | Err(Error::AlreadyExists { .. }) => {}
                Err(e) => outcome = outcome.and(Err(e)),
            }
        }
        outcome
    }

    async fn ensure_cluster_information(&self, version: &str, cluster_type: &str) -> Result<()> {
        let mut left = RACE_RETRIES_MAX;
        loop {
            let outcome = match self.get_kv::<ClusterInformation>("", "default").await {
                Ok(mut stored) => {
                    if !complete(&mut stored.value, version, cluster_type) {
                        return Ok(());
                    }
                    self.client().update(&stored).await.map(|_| ())
                }
                Err(Error::DoesNotExist { .. }) => {
                    let mut object = ClusterInformation {
                        metadata: ObjectMeta::named("default"),
                        ..ClusterInformation::default()
                    };
                    complete(&mut object, version, cluster_type);
                    self.create(object).await.map(|_| ())
                }
                Err(e) => return Err(e),
            };
            match outcome {
                Err(
                    Error::AlreadyExists { .. } | Error::UpdateConflict { .. } | Error::DoesNotExist { .. },
                ) if left > 0 => {
                    left -= 1;
                    tokio::time::sleep(RACE_PAUSE).await;
                }
                other => return other,
            }
        }
    }
}

/// Fills in what is missing; whether anything was.
fn complete(object: &mut ClusterInformation, version: &str, cluster_type: &str) -> bool {
    let before = object.spec.clone();
    let spec = &mut object.spec;
    if !version.is_empty() {
        version.clone_into(&mut spec.calico_version);
    }
    if spec.cluster_guid.is_empty() {
        spec.cluster_guid = uuid::Uuid::new_v4().simple().to_string();
    }
    spec.datastore_ready.get_or_insert(true);
    for part in cluster_type.split(',').filter(|part| !part.is_empty()) {
        if !spec.cluster_type.split(',').any(|known| known == part) {
            if !spec.cluster_type.is_empty() {
                spec.cluster_type.push(',');
            }
            spec.cluster_type.push_str(part);
        }
    }
    object.spec != before
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cluster_types_are_united_in_order() {
        let mut object = ClusterInformation::default();
        assert!(complete(&mut object, "v1", "k8s,bgp"));
        assert_eq!(object.spec.cluster_guid.len(), 32);
        assert_eq!(object.spec.datastore_ready, Some(true));
        assert!(!complete(&mut object, "", ""));
        assert!(!complete(&mut object, "v1", "bgp"));
        assert!(complete(&mut object, "", "bgp,typha"));
        assert_eq!(object.spec.cluster_type, "k8s,bgp,typha");
        object.spec.datastore_ready = Some(false);
        assert!(!complete(&mut object, "", ""), "a lock is kept");
    }
}
