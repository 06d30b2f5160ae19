//! Resources from a person's file: YAML or JSON, strict, each error with file, line, resource and field.
//!
//! A file holds documents that lines starting with `---` separate. A document is one object, a `<Kind>List`, or an
//! array of objects. An unknown field, a field given twice, or a value of the wrong type is an error; what stands
//! before it in the file is returned with it.

mod located;
mod split;

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use crate::json;
use crate::kinds::{AnyResource, Kind, resource_id};
use crate::object::API_VERSION;
use crate::validate::FieldError;

use located::Located;
pub use split::DOCUMENT_BYTES_MAX;

/// A resource with its place in a file.
#[derive(Debug, Clone)]
pub struct FileResource {
    /// The resource as it was given: neither defaulted nor validated.
    pub resource: AnyResource,
    /// Name of the file.
    pub file: Arc<str>,
    /// Line on which the object starts, from 1.
    pub line: u64,
    source: Arc<Located>,
}

impl FileResource {
    /// The line of a field, or of the nearest thing around it that the file has.
    #[must_use]
    pub fn line_of(&self, field: &str) -> u64 {
        self.source.line_of(field).unwrap_or(self.line)
    }

    /// An error about this resource as a whole.
    #[must_use]
    pub fn error(&self, reason: impl Into<String>) -> FileError {
        FileError {
            file: self.file.clone(),
            line: Some(self.line),
            resource: Some(self.resource.id()),
            field: None,
            value: None,
            reason: reason.into(),
        }
    }

    /// An error about one of its fields.
    #[must_use]
    pub fn field_error(&self, error: &FieldError) -> FileError {
        FileError {
            line: Some(self.line_of(&error.field)),
            field: Some(error.field.clone()),
            value: error.value.clone(),
            ..self.error(error.reason.clone())
        }
    }
}

/// What is wrong with a file, and where: `pools.yaml:7: IPPool(a): field spec.cidr = 'x': ...`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileError {
    /// Name of the file.
    pub file: Arc<str>,
    /// Line from 1, where it is known.
    pub line: Option<u64>,
    /// `Kind(name)`, where the document got that far.
    pub resource: Option<String>,
    /// Path of the field.
    pub field: Option<String>,
    /// What stands there.
    pub value: Option<String>,
    /// Why it is refused, and what would be right.
    pub reason: String,
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let Some(resource) = &self.resource {
            write!(f, ": {resource}")?;
        }
        if let Some(field) = &self.field {
            write!(f, ": field {field}")?;
            if let Some(value) = &self.value {
                write!(f, " = '{value}'")?;
            }
        }
        write!(f, ": {}", self.reason)
    }
}

impl std::error::Error for FileError {}

/// What a file holds up to its end or its first error.
#[derive(Debug, Clone)]
pub struct Decoded {
    /// The resources before the error.
    pub resources: Vec<FileResource>,
    /// The first thing that is wrong.
    pub error: Option<FileError>,
}

/// Decodes a file. `name` is what errors call it.
#[must_use]
pub fn decode(name: &str, text: &str) -> Decoded {
    let mut reader = Reader {
        file: Arc::from(name),
        resources: Vec::new(),
    };
    let result = split::documents(text).try_for_each(|document| reader.document(&document));
    Decoded {
        resources: reader.resources,
        error: result.err().map(|error| *error),
    }
}

struct Reader {
    file: Arc<str>,
    resources: Vec<FileResource>,
}

impl Reader {
    fn error(&self, line: u64, reason: impl Into<String>) -> Box<FileError> {
        Box::new(FileError {
            file: self.file.clone(),
            line: Some(line),
            resource: None,
            field: None,
            value: None,
            reason: reason.into(),
        })
    }

    fn document(&mut self, document: &split::Document<'_>) -> Result<(), Box<FileError>> {
        if document.text.len() > DOCUMENT_BYTES_MAX {
            let reason = format!("the document is larger than {DOCUMENT_BYTES_MAX} bytes: split it");
            return Err(self.error(document.line, reason));
        }
        let root = Located::parse(document.text, document.line)
            .map_err(|error| self.error(error.line, error.reason))?;
        match root {
            None => Ok(()),
            Some(root) => match root.into_items() {
                Ok(items) => items.into_iter().try_for_each(|item| self.object(item, None)),
                Err(root) => self.object(root, None),
            },
        }
    }

    /// One object, or a list of them; `item_kind` is the kind of a list that it stands in.
    fn object(&mut self, object: Located, item_kind: Option<Kind>) -> Result<(), Box<FileError>> {
        let line = object.line;
        if !object.is_map() {
            return Err(self.error(
                line,
                "expected a resource with kind, apiVersion, metadata and spec",
            ));
        }
        let kind_text = object.text_at("kind").map(str::to_owned);
        let version = object.text_at("apiVersion").map(str::to_owned);
        let name_line = object.line_of("kind").unwrap_or(line);
        if let Some(list_kind) = kind_text.as_deref().and_then(|kind| kind.strip_suffix("List"))
            && let Some(kind) = Kind::from_name(list_kind)
            && version.as_deref() == Some(API_VERSION)
            && item_kind.is_none()
        {
            return self.list(object, kind);
        }
        let kind = match (&kind_text, item_kind) {
            (None, Some(kind)) => Some(kind),
            (Some(text), _) => Kind::from_name(text),
            (None, None) => None,
        };
        let version_fits = match &version {
            None => item_kind.is_some(),
            Some(version) => version == API_VERSION,
        };
        let Some(kind) = kind.filter(|_| version_fits) else {
            let reason = format!(
                "unknown resource type ({}) and/or version ({}): expected a v3 kind with apiVersion {API_VERSION}",
                kind_text.unwrap_or_default(),
                version.unwrap_or_default(),
            );
            return Err(self.error(name_line, reason));
        };
        let resource = self.typed(&object, kind)?;
        self.resources.push(FileResource {
            resource,
            file: self.file.clone(),
            line,
            source: Arc::new(object),
        });
        Ok(())
    }

    fn list(&mut self, list: Located, kind: Kind) -> Result<(), Box<FileError>> {
        if let Some((key, line)) = list.key_not_in(&["kind", "apiVersion", "metadata", "items"]) {
            return Err(Box::new(FileError {
                resource: Some(format!("{kind}List")),
                field: Some(key.clone()),
                ..*self.error(line, unknown_field(&key))
            }));
        }
        let line = list.line_of("items").unwrap_or(list.line);
        let items = match list.take("items").map(Located::into_items) {
            None => Vec::new(),
            Some(Ok(items)) => items,
            Some(Err(_)) => {
                return Err(Box::new(FileError {
                    resource: Some(format!("{kind}List")),
                    ..*self.error(line, "items must be a list of resources")
                }));
            }
        };
        items
            .into_iter()
            .try_for_each(|item| self.object(item, Some(kind)))
    }

    fn typed(&self, object: &Located, kind: Kind) -> Result<AnyResource, Box<FileError>> {
        let text = |path: &[&str]| {
            path.iter()
                .try_fold(object, |at, key| at.get(key))
                .and_then(Located::as_text)
                .unwrap_or_default()
        };
        let id = resource_id(
            kind,
            text(&["metadata", "namespace"]),
            text(&["metadata", "name"]),
        );
        let failed = |field: String, reason: String| {
            Box::new(FileError {
                line: object.line_of(&field).or(Some(object.line)),
                resource: Some(id.clone()),
                field: Some(field).filter(|field| !field.is_empty()),
                ..*self.error(object.line, reason)
            })
        };
        let value: Value = json::without_nulls(object.to_value());
        let mut unknown: Option<String> = None;
        let mut track = serde_path_to_error::Track::new();
        let result = {
            let tracked = serde_path_to_error::Deserializer::new(value, &mut track);
            let mut note = |path: serde_ignored::Path<'_>| {
                unknown.get_or_insert_with(|| ignored_path(&path));
            };
            AnyResource::from_json(kind, serde_ignored::Deserializer::new(tracked, &mut note))
        };
        let resource = result.map_err(|error| failed(known_path(&track.path()), error.to_string()))?;
        match unknown {
            Some(field) => {
                let reason = unknown_field(&field);
                Err(failed(field, reason))
            }
            None => Ok(resource),
        }
    }
}

fn unknown_field(path: &str) -> String {
    let name = path.rsplit('.').next().unwrap_or(path);
    format!(
        "field in document is not recognized or is in the wrong location: {name}; correct its spelling or remove it"
    )
}

fn push_key(path: &mut String, key: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(key);
}

fn ignored_path(path: &serde_ignored::Path<'_>) -> String {
    use serde_ignored::Path;
    match path {
        Path::Root => String::new(),
        Path::Seq { parent, index } => format!("{}[{index}]", ignored_path(parent)),
        Path::Map { parent, key } => {
            let mut path = ignored_path(parent);
            push_key(&mut path, key);
            path
        }
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => {
            ignored_path(parent)
        }
    }
}

fn known_path(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let mut text = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => text.push_str(&format!("[{index}]")),
            Segment::Map { key } => push_key(&mut text, key),
            Segment::Enum { variant } => push_key(&mut text, variant),
            Segment::Unknown => {}
        }
    }
    text
}
