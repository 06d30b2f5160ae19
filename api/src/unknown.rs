//! Writing an update back without losing fields that this version does not know.

use serde_json::{Map, Value};

/// Merges an update into the value that the store holds.
///
/// `raw` is what was stored, `old_typed` the same after passing through our types (so without unknown fields), and
/// `new_typed` what is to be written. Fields that only `raw` has are kept, at every depth: in objects by key, in
/// arrays with the element that they belonged to, as long as that element is still there. Fields that our types
/// know and `new_typed` no longer has go away.
#[must_use]
pub fn merge(raw: &Value, old_typed: &Value, new_typed: &Value) -> Value {
    match (raw, old_typed, new_typed) {
        (Value::Object(raw), Value::Object(old), Value::Object(new)) => {
            Value::Object(merge_maps(raw, old, new))
        }
        (Value::Array(raw), Value::Array(old), Value::Array(new)) if raw.len() == old.len() => {
            Value::Array(merge_arrays(raw, old, new))
        }
        _ => new_typed.clone(),
    }
}

/// Known fields come in the order of our types, then the unknown ones in the order that they were found in.
fn merge_maps(
    raw: &Map<String, Value>,
    old: &Map<String, Value>,
    new: &Map<String, Value>,
) -> Map<String, Value> {
    let mut merged = Map::new();
    for (key, new_value) in new {
        let value = match raw.get(key) {
            // What our types leave out when it is empty (`"source": {"invented": 1}`) still has unknown fields.
            Some(raw_value) => merge(
                raw_value,
                old.get(key).unwrap_or(&empty_like(raw_value)),
                new_value,
            ),
            None => new_value.clone(),
        };
        merged.insert(key.clone(), value);
    }
    for (key, raw_value) in raw {
        if new.contains_key(key) {
            continue;
        }
        match old.get(key) {
            None => {
                merged.insert(key.clone(), raw_value.clone());
            }
            // A known object that is now empty: its known fields go, its unknown ones stay.
            Some(old_value @ Value::Object(_)) => {
                let rest = merge(raw_value, old_value, &Value::Object(Map::new()));
                if rest.as_object().is_some_and(|rest| !rest.is_empty()) {
                    merged.insert(key.clone(), rest);
                }
            }
            Some(_) => {}
        }
    }
    merged
}

fn empty_like(value: &Value) -> Value {
    match value {
        Value::Object(_) => Value::Object(Map::new()),
        _ => Value::Null,
    }
}

fn merge_arrays(raw: &[Value], old: &[Value], new: &[Value]) -> Vec<Value> {
    if !raw.iter().any(|v| v.is_object() || v.is_array()) {
        return new.to_vec();
    }
    let partners = partners(old, new);
    new.iter()
        .zip(partners)
        .map(
            |(new_value, partner)| match partner.and_then(|i| raw.get(i).zip(old.get(i))) {
                Some((raw_value, old_value)) => merge(raw_value, old_value, new_value),
                None => new_value.clone(),
            },
        )
        .collect()
}

/// For each new element the old one that it came from: an equal one, at the same index if possible; else the one
/// at its index, if that has no equal and the array did not get shorter.
fn partners(old: &[Value], new: &[Value]) -> Vec<Option<usize>> {
    let mut taken = vec![false; old.len()];
    let mut partners: Vec<Option<usize>> = vec![None; new.len()];
    for (i, (old_value, new_value)) in old.iter().zip(new).enumerate() {
        if old_value == new_value {
            mark(&mut partners, &mut taken, i, i);
        }
    }
    for (j, new_value) in new.iter().enumerate() {
        if partners.get(j).copied().flatten().is_some() {
            continue;
        }
        let equal = old
            .iter()
            .zip(&taken)
            .position(|(old_value, taken)| !taken && old_value == new_value);
        if let Some(i) = equal {
            mark(&mut partners, &mut taken, j, i);
        }
    }
    if new.len() >= old.len() {
        for i in 0..old.len() {
            if partners.get(i) == Some(&None) && taken.get(i) == Some(&false) {
                mark(&mut partners, &mut taken, i, i);
            }
        }
    }
    partners
}

fn mark(partners: &mut [Option<usize>], taken: &mut [bool], new_index: usize, old_index: usize) {
    if let Some(partner) = partners.get_mut(new_index) {
        *partner = Some(old_index);
    }
    if let Some(flag) = taken.get_mut(old_index) {
        *flag = true;
    }
}
