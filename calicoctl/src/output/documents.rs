//! YAML and JSON.

use api::{API_VERSION, json};
use serde_json::{Map, Value};

use super::Found;

fn value(found: &Found) -> Result<Value, String> {
    let failed = |error: serde_json::Error| error.to_string();
    match found {
        Found::One(object) => serde_json::to_value(object).map_err(failed),
        Found::List {
            kind,
            resource_version,
            items,
        } => {
            let mut list = Map::new();
            list.insert("kind".to_owned(), Value::from(format!("{kind}List")));
            list.insert("apiVersion".to_owned(), Value::from(API_VERSION));
            let mut metadata = Map::new();
            metadata.insert(
                "resourceVersion".to_owned(),
                Value::from(resource_version.as_str()),
            );
            list.insert("metadata".to_owned(), Value::Object(metadata));
            list.insert("items".to_owned(), serde_json::to_value(items).map_err(failed)?);
            Ok(Value::Object(list))
        }
    }
}

/// One result as it is, several as an array, none as `null`.
fn together(found: &[Found]) -> Result<Value, String> {
    match found {
        [] => Ok(Value::Null),
        [one] => value(one),
        many => many
            .iter()
            .map(value)
            .collect::<Result<Vec<_>, _>>()
            .map(Value::Array),
    }
}

/// Indented, in the order of the API's fields, without a newline at the end.
pub(super) fn json(found: &[Found]) -> Result<String, String> {
    json::to_string_pretty(&together(found)?, 2).map_err(|error| error.to_string())
}

/// Keys sorted at every level, with a newline at the end.
pub(super) fn yaml(found: &[Found]) -> Result<String, String> {
    let mut value = together(found)?;
    value.sort_all_objects();
    let options = serde_saphyr::ser_options! { folded_wrap_chars: usize::MAX };
    let mut text = String::new();
    serde_saphyr::to_fmt_writer_with_options(&mut text, &value, options)
        .map_err(|error| error.to_string())?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use api::{AnyResource, IpPool, Kind, ObjectMeta};

    use super::*;

    fn pool() -> AnyResource {
        let mut pool = IpPool {
            metadata: ObjectMeta::named("a"),
            ..IpPool::default()
        };
        pool.metadata
            .annotations
            .insert("text".to_owned(), "one: \"two\"\nthree & four".to_owned());
        pool.metadata.labels.insert("n".to_owned(), "true".to_owned());
        pool.spec.cidr = "10.0.0.0/16".to_owned();
        pool.spec.block_size = 26;
        pool.into()
    }

    #[test]
    fn json_keeps_the_order_and_yaml_sorts() {
        let found = [Found::One(Box::new(pool()))];
        let text = json(&found).unwrap();
        assert!(
            text.starts_with("{\n  \"kind\": \"IPPool\",\n  \"apiVersion\""),
            "{text}"
        );
        assert!(text.contains("three \\u0026 four"), "{text}");
        assert!(!text.ends_with('\n'));
        let text = yaml(&found).unwrap();
        assert!(
            text.starts_with("apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata:\n  annotations:\n"),
            "{text}"
        );
        let decoded = api::file::decode("x", &text);
        assert_eq!(decoded.error, None);
        assert_eq!(decoded.resources[0].resource, pool(), "{text}");
    }

    #[test]
    fn several_and_none() {
        let list = Found::List {
            kind: Kind::IpPool,
            resource_version: "7".to_owned(),
            items: vec![pool()],
        };
        let text = json(std::slice::from_ref(&list)).unwrap();
        assert!(text.starts_with("{\n  \"kind\": \"IPPoolList\",\n"), "{text}");
        assert!(
            text.contains("\"metadata\": {\n    \"resourceVersion\": \"7\"\n  },\n  \"items\": ["),
            "{text}"
        );
        assert!(yaml(&[list.clone(), list]).unwrap().starts_with("- apiVersion: "));
        assert_eq!(json(&[]).unwrap(), "null");
        assert_eq!(yaml(&[]).unwrap(), "null\n");
    }
}
