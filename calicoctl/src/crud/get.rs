//! `get`.

use api::v3::bgp_configuration::DEFAULT_AS_NUMBER;
use api::{AnyResource, BgpConfiguration, Kind, ObjectMeta};
use datastore::Resources;

use super::namespace::Scope;
use super::target::{self, Requested, Target};
use super::{first_error, unreadable};
use crate::arguments::{GetOptions, Global};
use crate::datastore_session;
use crate::failure::{Failure, print};
use crate::input;
use crate::output::{self, Context, Format, Found};

pub(crate) async fn get(global: &Global, options: &GetOptions) -> Result<(), Failure> {
    let format = Format::parse(&options.output).map_err(Failure::new)?;
    let scope = Scope {
        namespace: &options.file.namespace,
        all: options.all_namespaces,
    };
    let mut errors: Vec<String> = Vec::new();
    let question = match target::requested(options.kind.as_deref(), &options.names, &options.file)? {
        Requested::Named { kind, names } if names.is_empty() => Question::List {
            kind,
            namespace: scope.namespace(kind, "").map_err(Failure::new)?,
        },
        Requested::Named { kind, names } => Question::Objects(target::named(kind, &names, scope, false)?),
        Requested::File(path) => {
            let input = input::load(&options.file, &path).map_err(unreadable)?;
            errors.extend(first_error(&input)?);
            Question::Objects(target::of_file(&input.resources, scope))
        }
    };
    if options.all_namespaces && matches!(question, Question::Objects(_)) {
        return Err(Failure::new(
            "cannot use --all-namespace flag for getting a single resource",
        ));
    }
    let resources = datastore_session::open(global, &options.file.connection).await?;
    let mut found = Vec::new();
    match question {
        Question::List { kind, namespace } => match list(&resources, kind, &namespace).await {
            Ok(list) => found.push(list),
            Err(error) => errors.push(error.to_string()),
        },
        Question::Objects(targets) => {
            for target in targets {
                match object(&resources, &target).await {
                    Ok(object) => found.push(Found::One(Box::new(if options.export {
                        exported(object)
                    } else {
                        object
                    }))),
                    Err(error) => errors.push(error),
                }
            }
        }
    }
    let context = Context {
        as_number: fabric_as(&resources, &format, &found).await,
        namespaces: options.all_namespaces || !options.file.namespace.is_empty(),
    };
    let printed = print(&output::render(&format, &found, &context).map_err(Failure::new)?);
    if errors.is_empty() {
        printed
    } else {
        Err(Failure::new(errors.join("\n")))
    }
}

enum Question {
    /// An empty namespace means all.
    List {
        kind: Kind,
        namespace: String,
    },
    Objects(Vec<Target>),
}

async fn list(resources: &Resources, kind: Kind, namespace: &str) -> Result<Found, datastore::Error> {
    let namespace = Some(namespace).filter(|namespace| !namespace.is_empty());
    let listed = resources.list_any(kind, namespace, None).await?;
    let mut items = listed.items;
    items.sort_by(|a, b| tier_order(a).total_cmp(&tier_order(b)));
    Ok(Found::List {
        kind,
        resource_version: listed.revision.to_string(),
        items,
    })
}

/// Tiers are shown in the order of evaluation; everything else keeps the store's.
fn tier_order(object: &AnyResource) -> f64 {
    match object {
        AnyResource::Tier(tier) => tier.spec.order.unwrap_or(f64::INFINITY),
        _ => 0.0,
    }
}

async fn object(resources: &Resources, target: &Target) -> Result<AnyResource, String> {
    match &target.refused {
        Some(reason) => Err(reason.clone()),
        None => resources
            .get_any(target.kind, &target.namespace, &target.name)
            .await
            .map_err(|error| target.error_text(&error)),
    }
}

/// Without what belongs to this cluster only.
fn exported(mut object: AnyResource) -> AnyResource {
    let metadata = std::mem::take(object.metadata_mut());
    *object.metadata_mut() = ObjectMeta {
        namespace: String::new(),
        uid: String::new(),
        resource_version: String::new(),
        creation_timestamp: None,
        deletion_timestamp: None,
        deletion_grace_period_seconds: None,
        ..metadata
    };
    object
}

/// The AS of nodes that have none of their own; asked for only where a table shows it.
async fn fabric_as(resources: &Resources, format: &Format, found: &[Found]) -> String {
    let shown = matches!(format, Format::Wide | Format::CustomColumns(_))
        && found.iter().any(|found| found.kind() == Kind::Node);
    if !shown {
        return String::new();
    }
    match resources.get::<BgpConfiguration>("", "default").await {
        Ok(configuration) => configuration
            .spec
            .as_number
            .unwrap_or(DEFAULT_AS_NUMBER)
            .to_string(),
        Err(error) if error.is_does_not_exist() => DEFAULT_AS_NUMBER.to_string(),
        Err(_) => "unknown".to_owned(),
    }
}
