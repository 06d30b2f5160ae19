//! Values as the store holds them: read tolerantly, written back with the fields that we do not know.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::json;
use crate::kinds::{AnyResource, Kind};
use crate::meta::ObjectMeta;
use crate::object::Resource;
use crate::unknown;

/// Why a stored value cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreValueError {
    /// The bytes are no JSON, or a field has the wrong type.
    #[error("field {path}: {source}; repair or delete the stored value")]
    Decode {
        /// Path of the field.
        path: String,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// The value cannot be written as JSON.
    #[error("cannot encode the value: {0}")]
    Encode(#[from] serde_json::Error),
}

fn parse(bytes: &[u8]) -> Result<Value, StoreValueError> {
    serde_json::from_slice(bytes).map_err(|source| StoreValueError::Decode {
        path: "(whole value)".to_owned(),
        source,
    })
}

fn typed<T>(
    deserialize: impl FnOnce(serde_path_to_error::Deserializer<'_, '_, Value>) -> Result<T, serde_json::Error>,
    value: Value,
) -> Result<T, StoreValueError> {
    let mut track = serde_path_to_error::Track::new();
    let value = json::without_nulls(value);
    let result = deserialize(serde_path_to_error::Deserializer::new(value, &mut track));
    result.map_err(|source| StoreValueError::Decode {
        path: track.path().to_string(),
        source,
    })
}

/// Decodes a plain value such as those of [`crate::ipam_model`]. Unknown fields and `null`s are passed over; an
/// empty value is read as `{}`.
///
/// # Errors
/// When the bytes are no JSON or a field has the wrong type.
pub fn decode_value<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, StoreValueError> {
    let value = if bytes.is_empty() {
        Value::Object(serde_json::Map::new())
    } else {
        parse(bytes)?
    };
    typed(|deserializer| T::deserialize(deserializer), value)
}

/// Encodes a plain value as Go writes it.
///
/// # Errors
/// When it cannot be written as JSON.
pub fn encode_value<T: Serialize>(value: &T) -> Result<Vec<u8>, StoreValueError> {
    Ok(json::to_vec(value)?)
}

/// Encodes `new` over the stored bytes `raw`: fields of `raw` that the type does not know stay.
///
/// # Errors
/// When `raw` cannot be read as a `T`, or `new` cannot be written.
pub fn encode_value_update<T: Serialize + DeserializeOwned>(
    raw: &[u8],
    new: &T,
) -> Result<Vec<u8>, StoreValueError> {
    if raw.is_empty() {
        return encode_value(new);
    }
    let old: T = decode_value(raw)?;
    let merged = unknown::merge(
        &parse(raw)?,
        &serde_json::to_value(&old)?,
        &serde_json::to_value(new)?,
    );
    Ok(json::to_vec(&merged)?)
}

/// Decodes a resource and applies the defaults of reading; the caller sets the resource version.
///
/// # Errors
/// When the bytes are no JSON, a field has the wrong type, or the kind is another one.
pub fn decode<R: Resource>(bytes: &[u8]) -> Result<R, StoreValueError> {
    let mut object: R = typed(|deserializer| R::deserialize(deserializer), parse(bytes)?)?;
    object.default_on_read();
    Ok(object)
}

/// As [`decode`], for a kind that is known at run time.
///
/// # Errors
/// When the bytes are no JSON, a field has the wrong type, or the kind is another one.
pub fn decode_any(kind: Kind, bytes: &[u8]) -> Result<AnyResource, StoreValueError> {
    let mut object = typed(
        |deserializer| AnyResource::from_json(kind, deserializer),
        parse(bytes)?,
    )?;
    object.default_on_read();
    Ok(object)
}

/// Encodes a resource for the store: resource version and self link are left out.
///
/// # Errors
/// When it cannot be written as JSON.
pub fn encode<R: Resource>(object: &R) -> Result<Vec<u8>, StoreValueError> {
    Ok(json::to_vec(&stored_value(object)?)?)
}

/// Encodes `new` over the stored bytes `raw`: fields of `raw` that the type does not know stay.
///
/// # Errors
/// When `raw` cannot be read as an `R`, or `new` cannot be written.
pub fn encode_update<R: Resource>(raw: &[u8], new: &R) -> Result<Vec<u8>, StoreValueError> {
    let raw = parse(raw)?;
    let old: R = typed(|deserializer| R::deserialize(deserializer), raw.clone())?;
    let merged = unknown::merge(&raw, &stored_value(&old)?, &stored_value(new)?);
    Ok(json::to_vec(&merged)?)
}

/// The JSON of a resource as it is stored.
fn stored_value<R: Resource>(object: &R) -> Result<Value, serde_json::Error> {
    let mut object = object.clone();
    let ObjectMeta {
        resource_version,
        self_link,
        ..
    } = object.metadata_mut();
    resource_version.clear();
    self_link.clear();
    let mut value = serde_json::to_value(&object)?;
    R::to_stored(&mut value);
    Ok(value)
}
