//! The records of history: one for each change, keyed by its revision.

use bytes::Bytes;
use prost::Message;

use super::Revision;
use super::index::Version;
use crate::server::pb::mvccpb::{Event, KeyValue, event::EventType};

const PUT_TAG: u8 = 0;
const DELETION_TAG: u8 = 1;

/// One change of one key.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Record {
    Put(KeyValue),
    Deletion(Bytes),
}

/// A record whose bytes cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the record of revision {main}.{sub} cannot be read: {reason}")]
pub(crate) struct DamagedRecord {
    main: i64,
    sub: i64,
    reason: String,
}

impl Record {
    /// The record as it is stored: a tag byte and the key-value message.
    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Put(kv) => {
                let mut bytes = Vec::with_capacity(1 + kv.encoded_len());
                bytes.push(PUT_TAG);
                bytes.extend_from_slice(&kv.encode_to_vec());
                bytes
            }
            Self::Deletion(key) => {
                let kv = KeyValue {
                    key: key.clone(),
                    ..KeyValue::default()
                };
                let mut bytes = vec![DELETION_TAG];
                bytes.extend_from_slice(&kv.encode_to_vec());
                bytes
            }
        }
    }

    /// Reads a stored record.
    pub(crate) fn decode(revision: Revision, bytes: &[u8]) -> Result<Self, DamagedRecord> {
        let damaged = |reason: String| DamagedRecord {
            main: revision.main,
            sub: revision.sub,
            reason,
        };
        let (tag, message) = bytes
            .split_first()
            .ok_or_else(|| damaged("it is empty".to_owned()))?;
        let kv = KeyValue::decode(Bytes::copy_from_slice(message)).map_err(|e| damaged(e.to_string()))?;
        match *tag {
            PUT_TAG if kv.mod_revision != revision.main || kv.version < 1 => {
                Err(damaged("it belongs to another revision".to_owned()))
            }
            PUT_TAG => Ok(Self::Put(kv)),
            DELETION_TAG => Ok(Self::Deletion(kv.key)),
            other => Err(damaged(format!("it has the unknown tag {other}"))),
        }
    }

    /// The key that changed and the index entry of the change.
    pub(crate) fn version(&self, revision: Revision) -> (Bytes, Version) {
        match self {
            Self::Put(kv) => (
                kv.key.clone(),
                Version {
                    revision,
                    created: kv.create_revision,
                    count: kv.version,
                    lease: kv.lease,
                },
            ),
            Self::Deletion(key) => (
                key.clone(),
                Version {
                    revision,
                    created: 0,
                    count: 0,
                    lease: 0,
                },
            ),
        }
    }

    /// The change as watches see it.
    pub(crate) fn event(self, revision: Revision) -> Event {
        match self {
            Self::Put(kv) => Event {
                r#type: EventType::Put.into(),
                kv: Some(kv),
                prev_kv: None,
            },
            Self::Deletion(key) => Event {
                r#type: EventType::Delete.into(),
                kv: Some(KeyValue {
                    key,
                    mod_revision: revision.main,
                    ..KeyValue::default()
                }),
                prev_kv: None,
            },
        }
    }
}

/// Reads values by revision.
pub(crate) trait Records {
    /// Why a read failed.
    type Error;
    /// The value put by a change.
    fn value(&self, revision: Revision) -> Result<Bytes, Self::Error>;
}

/// Appends and removes records.
pub(crate) trait RecordsMut: Records {
    /// Adds the record of a change.
    fn append(&mut self, revision: Revision, record: &Record) -> Result<(), Self::Error>;
}

#[cfg(test)]
mod tests {
    use super::*;

    const REVISION: Revision = Revision { main: 7, sub: 1 };

    #[test]
    fn a_record_of_another_revision_is_damaged() {
        let kv = KeyValue {
            key: "k".into(),
            mod_revision: 7,
            create_revision: 3,
            version: 2,
            ..KeyValue::default()
        };
        let stored = Record::Put(kv.clone()).encode();
        assert_eq!(Record::decode(REVISION, &stored).unwrap(), Record::Put(kv));
        let elsewhere = Record::decode(Revision { main: 8, sub: 0 }, &stored).unwrap_err();
        assert!(elsewhere.to_string().contains("8.0") && elsewhere.to_string().contains("another revision"));
        assert!(Record::decode(REVISION, &[]).is_err());
        assert!(Record::decode(REVISION, &[9, 1, 2]).is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(0_u8.., 0..60)) {
            if let Ok(record) = Record::decode(REVISION, &bytes) {
                let again = Record::decode(REVISION, &record.encode()).unwrap();
                proptest::prop_assert_eq!(again, record);
            }
        }
    }
}
