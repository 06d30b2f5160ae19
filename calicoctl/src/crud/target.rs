//! What `delete` and `get` are about: kind and names, or the resources of a file.

use std::path::PathBuf;
use std::sync::Arc;

use api::file::FileResource;
use api::{AnyResource, Kind};
use datastore::Error;

use super::namespace::Scope;
use crate::arguments::FileOptions;
use crate::failure::Failure;

/// One object, by its identifiers.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) kind: Kind,
    pub(super) namespace: String,
    pub(super) name: String,
    /// A precondition, or empty.
    pub(super) resource_version: String,
    /// Why it is not even tried.
    pub(super) refused: Option<String>,
    place: Option<Place>,
}

/// Where in a file it stands.
#[derive(Debug, Clone)]
struct Place {
    file: Arc<str>,
    line: u64,
    source: Box<FileResource>,
}

/// What the arguments ask for.
pub(super) enum Requested {
    Named { kind: Kind, names: Vec<String> },
    File(PathBuf),
}

/// Reads `KIND [NAME...]` or `-f`.
pub(super) fn requested(
    kind: Option<&str>,
    names: &[String],
    options: &FileOptions,
) -> Result<Requested, Failure> {
    match (kind, &options.filename) {
        (None, None) => Err(Failure::new(
            "resources are missing: give a kind and names, or name a file with -f",
        )),
        (Some(_), Some(_)) => Err(Failure::new("give either a kind and names, or a file with -f")),
        (None, Some(path)) => Ok(Requested::File(path.clone())),
        (Some(kind), None) => {
            let kind = Kind::from_alias(kind)
                .ok_or_else(|| Failure::new(format!("resource type '{kind}' is not supported")))?;
            if names.iter().any(String::is_empty) {
                return Err(Failure::new("resource name may not be empty"));
            }
            Ok(Requested::Named {
                kind,
                names: names.to_vec(),
            })
        }
    }
}

/// Objects of one kind by name. Without names there is one with an empty name if `one_without_name`.
pub(super) fn named(
    kind: Kind,
    names: &[String],
    scope: Scope<'_>,
    one_without_name: bool,
) -> Result<Vec<Target>, Failure> {
    let namespace = scope.namespace(kind, "").map_err(Failure::new)?;
    let target = |name: &str| Target {
        kind,
        namespace: namespace.clone(),
        name: name.to_owned(),
        resource_version: String::new(),
        refused: None,
        place: None,
    };
    if names.is_empty() && one_without_name {
        return Ok(vec![target("")]);
    }
    Ok(names.iter().map(|name| target(name)).collect())
}

/// The objects that a file names.
pub(super) fn of_file(resources: &[FileResource], scope: Scope<'_>) -> Vec<Target> {
    resources
        .iter()
        .map(|resource| {
            let mut target = Target::of(resource);
            match scope.namespace(target.kind, &target.namespace) {
                Ok(namespace) => target.namespace = namespace,
                Err(reason) => target.refused = Some(resource.error(reason).to_string()),
            }
            target
        })
        .collect()
}

impl Target {
    /// What a resource of a file names; a workload endpoint without a name gets the one that its spec gives.
    pub(super) fn of(resource: &FileResource) -> Self {
        let object = &resource.resource;
        let metadata = object.metadata();
        let mut name = metadata.name.clone();
        if name.is_empty()
            && let AnyResource::WorkloadEndpoint(endpoint) = object
        {
            name = api::workload_name::build(&endpoint.spec).unwrap_or_default();
        }
        Self {
            kind: object.kind(),
            namespace: metadata.namespace.clone(),
            name,
            resource_version: metadata.resource_version.clone(),
            refused: None,
            place: Some(Place {
                file: resource.file.clone(),
                line: resource.line,
                source: Box::new(resource.clone()),
            }),
        }
    }

    /// The store's answer, with the place in the file and the field that it is about.
    pub(super) fn error_text(&self, error: &Error) -> String {
        let Some(place) = &self.place else {
            return error.to_string();
        };
        let id = api::kinds::resource_id(self.kind, &self.namespace, &self.name);
        if let Error::Validation(fields) = error {
            let lines: Vec<String> = fields
                .iter()
                .map(|field| {
                    // The store names fields as Kind.Spec.CIDR.
                    let path = field.name.strip_prefix(self.kind.name()).unwrap_or(&field.name);
                    let line = place.source.line_of(path.trim_start_matches('.'));
                    format!("{}:{line}: {id}: error with field {field}", place.file)
                })
                .collect();
            return lines.join("\n");
        }
        let text = error.to_string();
        if text.contains(&id) {
            format!("{}:{}: {text}", place.file, place.line)
        } else {
            format!("{}:{}: {id}: {text}", place.file, place.line)
        }
    }
}
