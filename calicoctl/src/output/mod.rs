//! How resources are printed.

pub(crate) mod boxes;
mod columns;
mod documents;
pub(crate) mod table;

use api::{AnyResource, Kind};

pub(crate) use columns::Context;

/// What one question found.
#[derive(Debug, Clone)]
pub(crate) enum Found {
    /// One object.
    One(Box<AnyResource>),
    /// A list of objects of a kind.
    List {
        /// Their kind.
        kind: Kind,
        /// The store's revision.
        resource_version: String,
        /// In the store's order.
        items: Vec<AnyResource>,
    },
}

impl Found {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::One(object) => object.kind(),
            Self::List { kind, .. } => *kind,
        }
    }

    fn items(&self) -> &[AnyResource] {
        match self {
            Self::One(object) => std::slice::from_ref(object),
            Self::List { items, .. } => items,
        }
    }
}

/// A value of `-o`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Format {
    Ps,
    Wide,
    Yaml,
    Json,
    CustomColumns(Vec<String>),
}

impl Format {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "ps" | "" => Ok(Self::Ps),
            "wide" => Ok(Self::Wide),
            "yaml" | "yml" => Ok(Self::Yaml),
            "json" => Ok(Self::Json),
            other => match other.split_once('=') {
                Some(("custom-columns", "")) => Err("need to specify at least one column".to_owned()),
                Some(("custom-columns", columns)) => Ok(Self::CustomColumns(
                    columns.split(',').map(str::to_owned).collect(),
                )),
                None if other == "custom-columns" => Err("need to specify at least one column".to_owned()),
                _ => Err(format!("unrecognized output format '{other}'")),
            },
        }
    }
}

/// The whole output for what was found; `None` prints nothing.
pub(crate) fn render(format: &Format, found: &[Found], context: &Context) -> Result<String, String> {
    match format {
        Format::Yaml => documents::yaml(found),
        Format::Json => documents::json(found),
        Format::Ps | Format::Wide | Format::CustomColumns(_) => found
            .iter()
            .map(|found| {
                let columns = columns::chosen(found.kind(), format, context)?;
                let headings: Vec<&str> = columns.iter().map(|column| column.heading).collect();
                let rows: Vec<Vec<String>> = found
                    .items()
                    .iter()
                    .map(|object| {
                        columns
                            .iter()
                            .map(|column| (column.cell)(object, context))
                            .collect()
                    })
                    .collect();
                Ok(table::render(&headings, &rows) + "\n")
            })
            .collect(),
    }
}
