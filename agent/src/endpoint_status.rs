//! One JSON file for each workload endpoint that is up: the contract by which CNI plugins learn that an
//! endpoint's policy is in force (Felix's `endpoint-status` directory).

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};

use policy_engine::output::EndpointId;
use serde::Serialize;

/// What a file says. Empty fields are left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointFile {
    /// Host-side interface.
    pub iface_name: String,
    /// MAC of the workload, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// `a.b.c.d/32`
    #[serde(skip_serializing_if = "Vec::is_empty", rename = "ipv4Nets")]
    pub ipv4_nets: Vec<String>,
    /// `x:y::z/128`
    #[serde(skip_serializing_if = "Vec::is_empty", rename = "ipv6Nets")]
    pub ipv6_nets: Vec<String>,
}

/// The directory, kept equal to the set of endpoints that are up.
#[derive(Debug)]
pub struct EndpointFiles {
    dir: PathBuf,
    written: BTreeMap<String, EndpointFile>,
}

impl EndpointFiles {
    /// Creates the directory where it is missing. Files of an earlier run stay until the first [`Self::retain`].
    pub fn open(dir: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        Ok(Self {
            dir: dir.to_owned(),
            written: BTreeMap::new(),
        })
    }

    /// Writes the file of an endpoint that is up, if it is not there with this content.
    pub fn up(&mut self, id: &EndpointId, file: EndpointFile) -> io::Result<()> {
        let name = file_name(id);
        if self.written.get(&name) == Some(&file) && self.dir.join(&name).exists() {
            return Ok(());
        }
        let text = serde_json::to_vec(&file)?;
        // A reader that watches the directory never sees half a file. The temporary name has a leading dot, which
        // no escaped name has.
        let temporary = self.dir.join(format!(".{name}.new"));
        std::fs::write(&temporary, text)?;
        std::fs::rename(&temporary, self.dir.join(&name))?;
        self.written.insert(name, file);
        Ok(())
    }

    /// Removes the file of an endpoint that is not up any more.
    pub fn down(&mut self, id: &EndpointId) -> io::Result<()> {
        let name = file_name(id);
        self.written.remove(&name);
        match std::fs::remove_file(self.dir.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Removes every file whose endpoint is not in `up`, those of earlier runs too.
    pub fn retain<'a>(&mut self, up: impl Iterator<Item = &'a EndpointId>) -> io::Result<()> {
        let names: HashSet<String> = up.map(file_name).collect();
        self.written.retain(|name, _| names.contains(name));
        for entry in std::fs::read_dir(&self.dir)? {
            let entry = entry?;
            if !names.contains(entry.file_name().to_string_lossy().as_ref()) {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

/// Orchestrator, workload and endpoint, each escaped as a URL path segment, joined by one space.
pub fn file_name(id: &EndpointId) -> String {
    [&id.orchestrator, &id.workload, &id.endpoint]
        .map(|part| path_escape(part))
        .join(" ")
}

/// Escapes as Go's `url.PathEscape` does: RFC 3986's unreserved characters and `$&+=:@` stay.
fn path_escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => escaped.push(byte.into()),
            b'-' | b'_' | b'.' | b'~' | b'$' | b'&' | b'+' | b'=' | b':' | b'@' => escaped.push(byte.into()),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(workload: &str) -> EndpointId {
        EndpointId {
            orchestrator: "k8s".into(),
            workload: workload.into(),
            endpoint: "eth0".into(),
        }
    }

    fn file() -> EndpointFile {
        EndpointFile {
            iface_name: "cali1".into(),
            mac: None,
            ipv4_nets: vec!["10.0.0.1/32".into()],
            ipv6_nets: vec![],
        }
    }

    #[test]
    fn name_is_escaped_as_calico_does() {
        assert_eq!(file_name(&id("default/mypod")), "k8s default%2Fmypod eth0");
    }

    #[test]
    fn directory_follows_the_endpoints() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("k8s default%2Fold eth0"), "{}").unwrap();
        let mut files = EndpointFiles::open(dir.path()).unwrap();
        files.up(&id("default/a"), file()).unwrap();
        files.up(&id("default/b"), file()).unwrap();
        files.down(&id("default/b")).unwrap();
        files.down(&id("default/never")).unwrap();
        files.retain([id("default/a")].iter()).unwrap();
        let names: Vec<_> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        assert_eq!(names, ["k8s default%2Fa eth0"]);
        let text = std::fs::read_to_string(dir.path().join(&names[0])).unwrap();
        assert_eq!(text, r#"{"ifaceName":"cali1","ipv4Nets":["10.0.0.1/32"]}"#);
    }
}
