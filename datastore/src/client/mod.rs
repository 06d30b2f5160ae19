//! Typed reads and writes with Calico's compare-and-swap rules.
//!
//! Each write touches one key. A [`Kv`] remembers the bytes that it was read from, so that an update writes the members
//! that we do not know back as they were.

mod config;
pub mod etcd;

pub use config::{
    ClientConfig, DEFAULT_ENDPOINT, DIAL_TIMEOUT, KEEP_ALIVE_INTERVAL, KEEP_ALIVE_TIMEOUT, Pem,
    REQUEST_TIMEOUT,
};
pub use etcd::{Etcd, Header, KeyRange, RawKv, Refused};

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::key::{Key, List, ROOT};

/// A key, its value, and the revision that compare-and-swap compares.
#[derive(Debug, Clone)]
pub struct Kv<K: Key> {
    /// The key.
    pub key: K,
    /// The value; change it and give the whole to [`Client::update`].
    pub value: K::Value,
    /// The key's ModRevision.
    pub revision: i64,
    raw: Bytes,
}

impl<K: Key> Kv<K> {
    /// Reads a stored key.
    ///
    /// # Errors
    /// [`Error::Unreadable`] when the value is not what belongs there.
    pub fn decode(key: K, raw: RawKv) -> Result<Self> {
        match key.decode(&raw.value, raw.mod_revision) {
            Ok(value) => Ok(Self {
                key,
                value,
                revision: raw.mod_revision,
                raw: raw.value,
            }),
            Err(reason) => Err(Error::Unreadable {
                id: key.to_string(),
                path: raw.key,
                reason,
            }),
        }
    }

    /// The bytes as they are stored.
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }

    fn written(key: K, bytes: Vec<u8>, revision: i64) -> Result<Self> {
        let path = key.path();
        let value = bytes.into();
        Self::decode(
            key,
            RawKv {
                key: path,
                value,
                mod_revision: revision,
                create_revision: 0,
            },
        )
    }
}

/// The answer to a list: what could be read, and the store's revision then.
#[derive(Debug, Clone)]
pub struct Listed<K: Key> {
    /// In key order.
    pub items: Vec<Kv<K>>,
    /// All items are as of this revision.
    pub revision: i64,
}

/// A typed connection to the store. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    etcd: Etcd,
}

impl Client {
    /// Prepares the connection; nothing is sent yet unless a user is set.
    ///
    /// # Errors
    /// When the settings are wrong, or the login fails.
    pub async fn connect(config: &ClientConfig) -> Result<Self> {
        Ok(Self {
            etcd: Etcd::connect(config).await?,
        })
    }

    /// The untyped calls beneath.
    pub fn etcd(&self) -> &Etcd {
        &self.etcd
    }

    /// The settings it was made with.
    pub fn config(&self) -> &ClientConfig {
        self.etcd.config()
    }

    /// Writes a key that must not exist yet.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`], or that of the transport.
    pub async fn create<K: Key>(&self, key: K, value: &K::Value) -> Result<Kv<K>> {
        let bytes = encode(&key, value, None)?;
        match self.etcd.create(&key.path(), &bytes, None).await? {
            Ok(revision) => Kv::written(key, bytes, revision),
            Err(_) => Err(Error::already_exists(&key)),
        }
    }

    /// Reads a key.
    ///
    /// # Errors
    /// [`Error::DoesNotExist`], [`Error::Unreadable`], or that of the transport.
    pub async fn get<K: Key>(&self, key: &K) -> Result<Kv<K>> {
        self.get_at(key, None).await
    }

    /// Reads a key as it was at a revision.
    ///
    /// # Errors
    /// As [`Client::get`]; also when that revision is compacted or in the future.
    pub async fn get_at<K: Key>(&self, key: &K, revision: Option<i64>) -> Result<Kv<K>> {
        let (_, found) = self.etcd.get(&key.path(), revision).await?;
        let raw = found.ok_or_else(|| Error::does_not_exist(key))?;
        Kv::decode(key.clone(), raw)
    }

    /// Reads all keys asked for, as of one revision. Values that cannot be read are left out, with a warning.
    ///
    /// # Errors
    /// That of the transport.
    pub async fn list<L: List>(&self, list: &L) -> Result<Listed<L::Key>> {
        let (header, found) = self.etcd.list(&list.range(), None).await?;
        let mut items = Vec::with_capacity(found.len());
        for raw in found {
            let Some(key) = L::Key::parse(&raw.key) else {
                tracing::debug!(key = raw.key, "not a key of the listed type");
                continue;
            };
            if !list.matches(&key) {
                continue;
            }
            match Kv::decode(key, raw) {
                Ok(kv) => items.push(kv),
                Err(e) => tracing::warn!(error = %e, "a stored value is left out of the list"),
            }
        }
        Ok(Listed {
            items,
            revision: header.revision,
        })
    }

    /// Replaces a key by `kv.value`, if it is still at `kv.revision`.
    ///
    /// # Errors
    /// [`Error::UpdateConflict`], [`Error::DoesNotExist`], or that of the transport.
    pub async fn update<K: Key>(&self, kv: &Kv<K>) -> Result<Kv<K>> {
        let bytes = encode(&kv.key, &kv.value, Some(&kv.raw))?;
        match self
            .etcd
            .update(&kv.key.path(), &bytes, kv.revision, None)
            .await?
        {
            Ok(revision) => Kv::written(kv.key.clone(), bytes, revision),
            Err(refused) => Err(refused_error(&kv.key, &refused)),
        }
    }

    /// Writes a key whatever is there. With `ttl_seconds`, it goes away by itself then.
    ///
    /// # Errors
    /// That of the transport.
    pub async fn apply<K: Key>(&self, key: K, value: &K::Value, ttl_seconds: Option<i64>) -> Result<Kv<K>> {
        let bytes = encode(&key, value, None)?;
        let lease = match ttl_seconds {
            Some(seconds) => Some(self.etcd.grant_lease(seconds).await?),
            None => None,
        };
        let revision = self.etcd.put(&key.path(), &bytes, lease).await?;
        Kv::written(key, bytes, revision)
    }

    /// Removes a key; with `revision`, only if it is still there at that revision. Gives what was removed.
    ///
    /// # Errors
    /// [`Error::DoesNotExist`], [`Error::UpdateConflict`], or that of the transport. A value that cannot be read is
    /// removed all the same, and then reported as [`Error::Unreadable`].
    pub async fn delete<K: Key>(&self, key: &K, revision: Option<i64>) -> Result<Kv<K>> {
        match self.etcd.delete(&key.path(), revision).await? {
            Ok(raw) => Kv::decode(key.clone(), raw),
            Err(refused) => Err(refused_error(key, &refused)),
        }
    }

    /// Whether the store holds nothing of Calico's.
    ///
    /// # Errors
    /// That of the transport.
    pub async fn is_clean(&self) -> Result<bool> {
        let (_, found) = self.etcd.list(&KeyRange::Prefix(ROOT.to_owned()), None).await?;
        Ok(found.is_empty())
    }

    /// Removes everything of Calico's.
    ///
    /// # Errors
    /// That of the transport.
    pub async fn clean(&self) -> Result<()> {
        self.etcd
            .delete_range(&KeyRange::Prefix(ROOT.to_owned()))
            .await
            .map(|_| ())
    }
}

pub(crate) fn encode<K: Key>(key: &K, value: &K::Value, before: Option<&[u8]>) -> Result<Vec<u8>> {
    key.encode(value, before).map_err(|reason| Error::Encode {
        id: key.to_string(),
        reason,
    })
}

fn refused_error<K: Key>(key: &K, refused: &Refused) -> Error {
    match refused {
        Refused::Changed(_) => Error::conflict(key),
        Refused::Missing => Error::does_not_exist(key),
    }
}
