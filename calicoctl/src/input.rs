//! Resources from a file, a folder or standard input.

use std::io::Read;
use std::path::{Path, PathBuf};

use api::file::{FileError, FileResource, decode};

use crate::arguments::FileOptions;

/// Ends of names that a folder is searched for; case does not matter.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];
/// How deep folders are followed.
const FOLDER_DEPTH_MAX: usize = 32;

/// What was read, up to the first thing that is wrong.
pub(crate) struct Input {
    pub(crate) resources: Vec<FileResource>,
    /// A document that could not be read. What stands before it is in `resources`.
    pub(crate) error: Option<FileError>,
}

/// Reads what `-f` names. An error here is about the file as such.
pub(crate) fn load(options: &FileOptions, path: &Path) -> Result<Input, String> {
    let mut input = Input {
        resources: Vec::new(),
        error: None,
    };
    if path == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::stdin()
            .read_to_end(&mut bytes)
            .map_err(|error| format!("cannot read standard input: {error}"))?;
        input.add("<stdin>", bytes)?;
        return Ok(input);
    }
    let kind = std::fs::metadata(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let files = if kind.is_dir() {
        let mut files = Vec::new();
        walk(path, options.recursive, 0, &mut files)?;
        files
    } else {
        vec![path.to_owned()]
    };
    for file in files {
        let bytes =
            std::fs::read(&file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
        input.add(&file.display().to_string(), bytes)?;
        if input.error.is_some() {
            break;
        }
    }
    if input.resources.is_empty() && input.error.is_none() && !options.skip_empty {
        let what = if kind.is_dir() { "directory" } else { "file" };
        return Err(format!("no resources specified in {what} {}", path.display()));
    }
    Ok(input)
}

impl Input {
    fn add(&mut self, name: &str, bytes: Vec<u8>) -> Result<(), String> {
        let text = String::from_utf8(bytes).map_err(|error| {
            format!(
                "{name}: not a text file in UTF-8 (byte {}): convert it",
                error.utf8_error().valid_up_to()
            )
        })?;
        let decoded = decode(name, &text);
        self.resources.extend(decoded.resources);
        self.error = decoded.error;
        Ok(())
    }
}

/// Files in lexical order, folders in their place among them.
fn walk(folder: &Path, recursive: bool, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), String> {
    if depth > FOLDER_DEPTH_MAX {
        return Err(format!(
            "{}: folders are nested deeper than {FOLDER_DEPTH_MAX}",
            folder.display()
        ));
    }
    let unreadable = |error: std::io::Error| format!("cannot read {}: {error}", folder.display());
    let mut entries = std::fs::read_dir(folder)
        .map_err(unreadable)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(unreadable)?;
    entries.sort();
    for path in entries {
        if path.is_dir() {
            if recursive {
                walk(&path, recursive, depth + 1, files)?;
            }
        } else if path
            .extension()
            .and_then(|extension| extension.to_str())
            .is_some_and(|extension| EXTENSIONS.contains(&extension.to_ascii_lowercase().as_str()))
        {
            files.push(path);
        }
    }
    Ok(())
}
