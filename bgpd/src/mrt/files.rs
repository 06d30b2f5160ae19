//! Files: their names, and that nobody sees one before it is whole.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a file's name ends with while it is written.
const UNFINISHED: &str = ".part";

/// The name of a file with its strftime conversions replaced, for a time since the epoch in UTC.
pub(crate) fn file_name(path: &Path, at: Duration) -> Result<PathBuf, String> {
    let seconds = i64::try_from(at.as_secs()).unwrap_or(i64::MAX);
    let time = jiff::Timestamp::from_second(seconds).map_err(|error| error.to_string())?;
    let text = path.to_str().ok_or("is not UTF-8")?;
    let name = jiff::fmt::strtime::format(text, &time.to_zoned(jiff::tz::TimeZone::UTC));
    name.map(PathBuf::from)
        .map_err(|error| format!("{error}; write a percent sign as %%"))
}

/// A file under another name until it is finished. If it is not finished, it stays under that name, so that
/// what was written is not lost.
#[derive(Debug)]
pub(super) struct Unfinished {
    out: BufWriter<File>,
    part: PathBuf,
    path: PathBuf,
}

impl Unfinished {
    pub(super) fn create(path: PathBuf) -> io::Result<Self> {
        let mut part = path.clone().into_os_string();
        part.push(UNFINISHED);
        let part = PathBuf::from(part);
        if let Some(directory) = path
            .parent()
            .filter(|directory| !directory.as_os_str().is_empty())
        {
            std::fs::create_dir_all(directory)?;
        }
        let out = BufWriter::with_capacity(1 << 17, File::create(&part)?);
        Ok(Self { out, part, path })
    }

    pub(super) fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        self.out.write_all(octets)
    }

    /// Passes on to the operating system what is held back.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Gives the file its name, in place of what had it before.
    pub(super) fn finish(mut self) -> io::Result<PathBuf> {
        self.out.flush()?;
        std::fs::rename(&self.part, &self.path)?;
        Ok(self.path)
    }
}
