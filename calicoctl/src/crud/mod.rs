//! `create`, `apply`, `replace`, `delete`, `get` and `validate`.

mod actions;
mod get;
mod namespace;
mod report;
mod target;

pub(crate) use get::get;

use api::file::FileResource;
use datastore::Resources;

use crate::arguments::{CreateOptions, DeleteOptions, FileOptions, Global};
use crate::datastore_session;
use crate::failure::{Failure, print};
use crate::input::{self, Input};

use namespace::Scope;
use report::{Report, Verb};
use target::Target;

/// What an action on one resource comes to.
type Outcome = Result<(), datastore::Error>;

pub(crate) async fn create(global: &Global, options: &CreateOptions) -> Result<(), Failure> {
    let Some(input) = load(&options.file)? else {
        return Ok(());
    };
    let resources = session(global, &options.file, true).await?;
    let report = each(
        Verb::Create,
        &options.file,
        input,
        async |resource| match actions::create(&resources, resource).await {
            Err(error) if options.skip_exists && error.is_already_exists() => Ok(()),
            other => other,
        },
    )
    .await;
    report.finish()
}

pub(crate) async fn apply(global: &Global, options: &FileOptions) -> Result<(), Failure> {
    let Some(input) = load(options)? else {
        return Ok(());
    };
    let resources = session(global, options, true).await?;
    each(Verb::Apply, options, input, async |resource| {
        actions::apply(&resources, resource).await
    })
    .await
    .finish()
}

pub(crate) async fn replace(global: &Global, options: &FileOptions) -> Result<(), Failure> {
    let Some(input) = load(options)? else {
        return Ok(());
    };
    let resources = session(global, options, true).await?;
    each(Verb::Replace, options, input, async |resource| {
        actions::replace(&resources, resource).await
    })
    .await
    .finish()
}

pub(crate) async fn delete(global: &Global, options: &DeleteOptions) -> Result<(), Failure> {
    let scope = Scope {
        namespace: &options.file.namespace,
        all: false,
    };
    let (targets, error) = match target::requested(options.kind.as_deref(), &options.names, &options.file)? {
        target::Requested::Named { kind, names } => (target::named(kind, &names, scope, true)?, None),
        target::Requested::File(path) => {
            let input = input::load(&options.file, &path).map_err(unreadable)?;
            if input.resources.is_empty() && input.error.is_none() {
                return none_specified();
            }
            let error = first_error(&input)?;
            (target::of_file(&input.resources, scope), error)
        }
    };
    let resources = datastore_session::open(global, &options.file.connection).await?;
    let mut report = Report::new(Verb::Delete, targets.iter().map(|target| target.kind));
    for target in targets {
        let outcome = match &target.refused {
            Some(reason) => Err(reason.clone()),
            None => match actions::delete(&resources, &target).await {
                Err(error) if options.skip_not_exists && error.is_does_not_exist() => Ok(()),
                other => other.map_err(|error| target.error_text(&error)),
            },
        };
        report.add(outcome);
    }
    if let Some(error) = error {
        report.add_unread(error);
    }
    report.finish()
}

pub(crate) fn validate(options: &FileOptions) -> Result<(), Failure> {
    let Some(input) = load(options)? else {
        return Ok(());
    };
    let error = first_error(&input)?;
    let mut report = Report::new(Verb::Validate, input.resources.iter().map(|r| r.resource.kind()));
    for resource in input.resources {
        report.add(prepared(resource, options).map(|_| ()));
    }
    if let Some(error) = error {
        report.add_unread(error);
    }
    report.finish()
}

/// Reads what `-f` names; `None` when there is nothing and that is allowed.
fn load(options: &FileOptions) -> Result<Option<Input>, Failure> {
    let Some(path) = &options.filename else {
        return Err(Failure::new(
            "resources are missing: name a file, a folder or - with -f",
        ));
    };
    let input = input::load(options, path).map_err(unreadable)?;
    if input.resources.is_empty() && input.error.is_none() {
        none_specified()?;
        return Ok(None);
    }
    first_error(&input)?;
    Ok(Some(input))
}

fn none_specified() -> Result<(), Failure> {
    print("No resources specified\n")
}

fn unreadable(reason: String) -> Failure {
    Failure::new(format!("failed to execute command: {reason}"))
}

/// The error that ended the reading; a failure when nothing stands before it.
fn first_error(input: &Input) -> Result<Option<String>, Failure> {
    match &input.error {
        Some(error) if input.resources.is_empty() => Err(unreadable(error.to_string())),
        other => Ok(other.as_ref().map(ToString::to_string)),
    }
}

/// Connects, and sees to it that the objects that every datastore has are there.
async fn session(global: &Global, options: &FileOptions, initialise: bool) -> Result<Resources, Failure> {
    let resources = datastore_session::open(global, &options.connection).await?;
    if initialise && let Err(error) = resources.ensure_initialized("", "").await {
        tracing::debug!(%error, "initialising the datastore");
    }
    Ok(resources)
}

/// Gives a resource its namespace and checks it; the text of the first refusal names its place in the file.
fn prepared(mut resource: FileResource, options: &FileOptions) -> Result<FileResource, String> {
    let scope = Scope {
        namespace: &options.namespace,
        all: false,
    };
    namespace::settle(&mut resource.resource, scope).map_err(|reason| resource.error(reason).to_string())?;
    let mut defaulted = resource.resource.clone();
    defaulted.default_on_write();
    let errors = defaulted.validate();
    if errors.is_empty() {
        return Ok(resource);
    }
    let texts: Vec<String> = errors
        .iter()
        .map(|error| resource.field_error(error).to_string())
        .collect();
    Err(texts.join("\n"))
}

/// Runs an action on every resource of a file and gathers what came of it.
async fn each(
    verb: Verb,
    options: &FileOptions,
    input: Input,
    action: impl AsyncFn(&FileResource) -> Outcome,
) -> Report {
    let mut report = Report::new(verb, input.resources.iter().map(|r| r.resource.kind()));
    for resource in input.resources {
        let outcome = match prepared(resource, options) {
            Err(text) => Err(text),
            Ok(resource) => match action(&resource).await {
                Ok(()) => Ok(()),
                Err(error) => {
                    let text = Target::of(&resource).error_text(&error);
                    if error.is_unavailable() {
                        // The others would wait as long and fail the same way.
                        report.add(Err(text));
                        break;
                    }
                    Err(text)
                }
            },
        };
        report.add(outcome);
    }
    if let Some(error) = input.error {
        report.add_unread(error.to_string());
    }
    report
}
