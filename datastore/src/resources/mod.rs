//! Create, read, update and delete of v3 resources with the rules of Calico's client library: who sets uid, creation
//! time and resource version; defaults and checks before a write; checks that need other objects.
//!
//! Deleting an IPPool or a Node here removes the object alone; what has to happen around it (releasing affinities and
//! addresses) is in the `ipam` crate.

mod any;
mod checks;
mod init;

use api::v3::profile::{DEFAULT_ALLOW_PROFILE, default_allow_profile};
use api::{AnyResource, Kind, Resource, Time};
use jiff::Timestamp;

pub use crate::key::{ResourceKey, ResourceList};

use crate::client::{Client, Kv};
use crate::error::{Error, FieldError, Result};
use crate::key::Key;

/// How often [`Resources::modify`] and [`Resources::apply`] repeat a change that met another writer.
const CONFLICT_RETRIES_MAX: usize = 10;

/// CRUD on v3 resources. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Resources {
    client: Client,
}

/// The answer to a list of resources.
#[derive(Debug, Clone)]
pub struct ListedResources<R> {
    /// In key order.
    pub items: Vec<R>,
    /// The store's revision: the list's resource version.
    pub revision: i64,
}

impl Resources {
    /// CRUD over this connection.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// The connection.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Creates an object: fills in defaults, uid and creation time, checks it, and stores it.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`], [`Error::Validation`], or that of the transport.
    pub async fn create<R: Resource>(&self, mut object: R) -> Result<R> {
        object.default_on_write();
        checks::may_change(&object, "Create")?;
        let metadata = object.metadata_mut();
        if !metadata.resource_version.is_empty() {
            return Err(Error::field(
                "Metadata.ResourceVersion",
                metadata.resource_version.clone(),
                "field must not be set for a Create request",
            ));
        }
        if metadata.creation_timestamp.is_none() {
            metadata.creation_timestamp = Some(Time::new(Timestamp::now()));
        }
        if metadata.uid.is_empty() {
            metadata.uid = uuid::Uuid::new_v4().to_string();
        }
        checks::valid(&object)?;
        if R::KIND == Kind::Node {
            Box::pin(self.ensure_initialized("", "")).await?;
        }
        checks::before_write(self, &object).await?;
        checks::before_create(self, &object).await?;
        Ok(self.client.create(ResourceKey::of(&object), &object).await?.value)
    }

    /// Replaces an object. Its resource version, uid and creation time must be those that it was read with. Members of
    /// the stored value that this version does not know are kept.
    ///
    /// # Errors
    /// [`Error::UpdateConflict`], [`Error::DoesNotExist`], [`Error::Validation`], or that of the transport.
    pub async fn update<R: Resource>(&self, mut object: R) -> Result<R> {
        object.default_on_write();
        checks::may_change(&object, "Update")?;
        let revision = checks::set_for_update(object.metadata())?;
        checks::valid(&object)?;
        checks::before_write(self, &object).await?;
        let key = ResourceKey::of(&object);
        let mut stored = match self.client.get(&key).await {
            // What cannot be read can still be replaced; there is nothing to keep then.
            Err(Error::Unreadable { .. }) => return self.replace_unreadable(key, &object, revision).await,
            other => other?,
        };
        if stored.revision != revision {
            return Err(Error::UpdateConflict { id: key.to_string() });
        }
        checks::before_update(&stored.value, &object)?;
        stored.value = object;
        Ok(self.client.update(&stored).await?.value)
    }

    async fn replace_unreadable<R: Resource>(
        &self,
        key: ResourceKey<R>,
        object: &R,
        revision: i64,
    ) -> Result<R> {
        let bytes = crate::client::encode(&key, object, None)?;
        match self
            .client
            .etcd()
            .update(&key.path(), &bytes, revision, None)
            .await?
        {
            Ok(_) => Ok(self.client.get(&key).await?.value),
            Err(_) => Err(Error::UpdateConflict { id: key.to_string() }),
        }
    }

    /// Reads an object; `namespace` is ignored for cluster-scoped kinds.
    ///
    /// # Errors
    /// [`Error::DoesNotExist`], [`Error::Unreadable`], or that of the transport.
    pub async fn get<R: Resource>(&self, namespace: &str, name: &str) -> Result<R> {
        if let Some(object) = static_object::<R>(name) {
            return Ok(object);
        }
        Ok(self.get_kv(namespace, name).await?.value)
    }

    /// As [`Resources::get`], with the stored bytes: what [`Client::update`] wants.
    ///
    /// # Errors
    /// As [`Resources::get`].
    pub async fn get_kv<R: Resource>(&self, namespace: &str, name: &str) -> Result<Kv<ResourceKey<R>>> {
        checks::identified(R::KIND, namespace, name)?;
        self.client.get(&ResourceKey::new(namespace, name)).await
    }

    /// Lists objects. Values that cannot be read are left out, with a warning.
    ///
    /// # Errors
    /// That of the transport.
    pub async fn list<R: Resource>(&self, list: &ResourceList<R>) -> Result<ListedResources<R>> {
        let listed = self.client.list(list).await?;
        let mut items: Vec<R> = listed.items.into_iter().map(|kv| kv.value).collect();
        if list
            .name
            .as_ref()
            .is_none_or(|name| name == DEFAULT_ALLOW_PROFILE)
        {
            items.extend(static_object::<R>(DEFAULT_ALLOW_PROFILE));
        }
        Ok(ListedResources {
            items,
            revision: listed.revision,
        })
    }

    /// Lists all objects of a kind.
    ///
    /// # Errors
    /// That of the transport.
    pub async fn list_all<R: Resource>(&self) -> Result<Vec<R>> {
        Ok(self.list(&ResourceList::all()).await?.items)
    }

    /// Deletes an object; a `resource_version` that is not empty must be its present one. Gives what was deleted.
    ///
    /// # Errors
    /// [`Error::DoesNotExist`], [`Error::UpdateConflict`], [`Error::Unsupported`], or that of the transport.
    pub async fn delete<R: Resource>(
        &self,
        namespace: &str,
        name: &str,
        resource_version: &str,
    ) -> Result<R> {
        checks::identified(R::KIND, namespace, name)?;
        let revision = checks::revision(resource_version)?;
        let key = ResourceKey::<R>::new(namespace, name);
        checks::before_delete(self, R::KIND, name).await?;
        Ok(self.client.delete(&key, revision).await?.value)
    }

    /// Creates the object, or replaces it where it exists, whatever its revision (unless the object gives one).
    ///
    /// # Errors
    /// As [`Resources::create`] and [`Resources::update`].
    pub async fn apply<R: Resource>(&self, object: R) -> Result<R> {
        let mut object = object;
        object.default_on_write();
        let wanted = std::mem::take(&mut object.metadata_mut().resource_version);
        let mut left = CONFLICT_RETRIES_MAX;
        loop {
            match self.create(object.clone()).await {
                Err(Error::AlreadyExists { .. }) => {}
                // A pool overlaps with itself only: it exists, and the update is checked on its own.
                other => return other,
            }
            let mut new = object.clone();
            let stored = match self
                .get_kv::<R>(&new.metadata().namespace, &new.metadata().name)
                .await
            {
                Ok(stored) => stored,
                Err(Error::DoesNotExist { .. }) if left > 0 => {
                    left -= 1;
                    continue;
                }
                Err(e) => return Err(e),
            };
            let (from, to) = (stored.value.metadata(), new.metadata_mut());
            to.resource_version = if wanted.is_empty() {
                from.resource_version.clone()
            } else {
                wanted.clone()
            };
            to.uid = from.uid.clone();
            to.creation_timestamp = from.creation_timestamp.or(Some(Time::new(Timestamp::now())));
            match self.update(new).await {
                Err(Error::UpdateConflict { .. } | Error::DoesNotExist { .. })
                    if wanted.is_empty() && left > 0 =>
                {
                    left -= 1
                }
                other => return other,
            }
        }
    }

    /// Reads an object, changes it and writes it back, again if another writer was faster. `change` gives `false` when
    /// there is nothing to change.
    ///
    /// # Errors
    /// As [`Resources::get`] and [`Client::update`].
    pub async fn modify<R: Resource>(
        &self,
        namespace: &str,
        name: &str,
        mut change: impl FnMut(&mut R) -> bool,
    ) -> Result<R> {
        let mut left = CONFLICT_RETRIES_MAX;
        loop {
            let mut stored = self.get_kv::<R>(namespace, name).await?;
            if !change(&mut stored.value) {
                return Ok(stored.value);
            }
            checks::valid(&stored.value)?;
            match self.client.update(&stored).await {
                Err(Error::UpdateConflict { .. }) if left > 0 => left -= 1,
                other => return Ok(other?.value),
            }
        }
    }
}

/// Objects that get and list give although nothing stores them.
fn static_object<R: Resource>(name: &str) -> Option<R> {
    if R::KIND != Kind::Profile || name != DEFAULT_ALLOW_PROFILE {
        return None;
    }
    let object: Box<dyn std::any::Any> = Box::new(default_allow_profile());
    object.downcast::<R>().ok().map(|object| *object)
}

impl From<api::FieldError> for FieldError {
    fn from(error: api::FieldError) -> Self {
        Self {
            name: error.field,
            value: error.value,
            reason: error.reason,
        }
    }
}

/// The identifier that errors print.
pub fn id_of(object: &AnyResource) -> String {
    object.id()
}
