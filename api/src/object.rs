//! The envelope that all v3 resources share, generic over the kind's spec.

use std::fmt::Debug;

use serde::de::{DeserializeOwned, Error as _, IgnoredAny};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::kinds::Kind;
use crate::meta::ObjectMeta;
use crate::validate::FieldError;

/// The API group and version of every resource.
pub const API_VERSION: &str = "projectcalico.org/v3";

/// The `status` of a kind: most have none, some write it always, some when it is there.
pub trait Status: Debug + Clone + PartialEq + Default + Serialize + DeserializeOwned + Send + Sync {
    /// Whether `status` is left out of the JSON.
    fn omitted(&self) -> bool;
}

/// The status of kinds that have none. As a field in a file it is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NoStatus;

impl Serialize for NoStatus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_none()
    }
}

impl<'de> Deserialize<'de> for NoStatus {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

impl Status for NoStatus {
    fn omitted(&self) -> bool {
        true
    }
}

/// What makes a kind a kind: its name, its status, its defaults and its checks.
pub trait Spec:
    Debug + Clone + PartialEq + Default + Serialize + DeserializeOwned + Send + Sync + 'static
{
    /// The row of this kind in the table of kinds.
    const KIND: Kind;
    /// Type of the `status` field.
    type Status: Status + 'static;

    /// Fills in what a client writes for the user (name, labels, defaults), before validation.
    fn default_on_write(_object: &mut Object<Self>) {}

    /// Fills in what older writers left out, after reading from the store.
    fn default_on_read(_object: &mut Object<Self>) {}

    /// Checks of this kind beyond those of metadata.
    fn validate(object: &Object<Self>, errors: &mut Vec<FieldError>);

    /// Changes the JSON from the API's form to the store's, where they differ.
    fn to_stored(_value: &mut Value) {}
}

/// A v3 resource of the kind that `S` belongs to.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Object<S: Spec> {
    /// Name, namespace, labels, revision.
    pub metadata: ObjectMeta,
    /// What the user asks for.
    pub spec: S,
    /// What components report.
    pub status: S::Status,
}

impl<S: Spec> Object<S> {
    /// A resource with this metadata and spec.
    #[must_use]
    pub fn new(metadata: ObjectMeta, spec: S) -> Self {
        Self {
            metadata,
            spec,
            status: S::Status::default(),
        }
    }
}

/// What generic code needs of a typed resource. Implemented by [`Object`] for every [`Spec`].
pub trait Resource: Debug + Clone + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The kind, which leads to its names and whether it is namespaced.
    const KIND: Kind;

    /// The metadata.
    fn metadata(&self) -> &ObjectMeta;

    /// The metadata, to change it.
    fn metadata_mut(&mut self) -> &mut ObjectMeta;

    /// Fills in what a client writes for the user: name of workload endpoints, tier label, policy types,
    /// pool defaults. Run before [`Resource::validate`].
    fn default_on_write(&mut self);

    /// Fills in what older writers left out.
    fn default_on_read(&mut self);

    /// Every check that needs no other object. Empty means valid.
    fn validate(&self) -> Vec<FieldError>;

    /// Changes the JSON from the API's form to the store's, where they differ.
    fn to_stored(value: &mut Value);
}

impl<S: Spec> Resource for Object<S> {
    const KIND: Kind = S::KIND;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }

    fn default_on_write(&mut self) {
        S::default_on_write(self);
    }

    fn default_on_read(&mut self) {
        S::default_on_read(self);
    }

    fn validate(&self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        crate::validate::metadata(S::KIND, &self.metadata, &mut errors);
        S::validate(self, &mut errors);
        errors
    }

    fn to_stored(value: &mut Value) {
        S::to_stored(value);
    }
}

impl<S: Spec> Serialize for Object<S> {
    fn serialize<Ser: Serializer>(&self, serializer: Ser) -> Result<Ser::Ok, Ser::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("kind", S::KIND.name())?;
        map.serialize_entry("apiVersion", API_VERSION)?;
        map.serialize_entry("metadata", &self.metadata)?;
        map.serialize_entry("spec", &self.spec)?;
        if !self.status.omitted() {
            map.serialize_entry("status", &self.status)?;
        }
        map.end()
    }
}

/// The fields of an [`Object`] as they stand in JSON.
#[derive(Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "S: Spec"))]
struct Fields<S: Spec> {
    kind: Option<String>,
    api_version: Option<String>,
    metadata: ObjectMeta,
    spec: S,
    status: S::Status,
}

impl<S: Spec> Default for Fields<S> {
    fn default() -> Self {
        Self {
            kind: None,
            api_version: None,
            metadata: ObjectMeta::default(),
            spec: S::default(),
            status: S::Status::default(),
        }
    }
}

impl<'de, S: Spec> Deserialize<'de> for Object<S> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let fields = Fields::<S>::deserialize(deserializer)?;
        if let Some(kind) = fields.kind.filter(|kind| kind != S::KIND.name()) {
            return Err(D::Error::custom(format!(
                "expected kind {}, found {kind}",
                S::KIND.name()
            )));
        }
        if let Some(version) = fields.api_version.filter(|version| version != API_VERSION) {
            return Err(D::Error::custom(format!(
                "expected apiVersion {API_VERSION}, found {version}"
            )));
        }
        Ok(Self {
            metadata: fields.metadata,
            spec: fields.spec,
            status: fields.status,
        })
    }
}
