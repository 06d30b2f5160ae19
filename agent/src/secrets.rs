//! The passwords that resources refer to, as files: `<secret name>/<key>` below one directory.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

/// The longest password: what TCP MD5 takes (`TCP_MD5SIG_MAXKEYLEN`).
const PASSWORD_BYTES_MAX: u64 = 80;
/// Room for a password and the end of its line.
const FILE_BYTES_MAX: u64 = PASSWORD_BYTES_MAX + 2;

/// Every password by secret name and key. What is no regular file, is too long, or cannot be read counts as missing.
pub(crate) fn read(dir: &Path) -> BTreeMap<(String, String), String> {
    let mut secrets = BTreeMap::new();
    let entries = |dir: &Path| std::fs::read_dir(dir).into_iter().flatten().flatten();
    for secret in entries(dir) {
        for key in entries(&secret.path()) {
            if let Some(password) = password(&key.path()) {
                let name = |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
                secrets.insert((name(&secret), name(&key)), password);
            }
        }
    }
    secrets
}

fn password(path: &Path) -> Option<String> {
    // Opening a pipe would wait for its writer.
    let metadata = std::fs::metadata(path).ok()?;
    if !metadata.is_file() || metadata.len() > FILE_BYTES_MAX {
        return None;
    }
    let mut text = String::new();
    std::fs::File::open(path)
        .ok()?
        .take(FILE_BYTES_MAX)
        .read_to_string(&mut text)
        .ok()?;
    Some(text.trim_end_matches(['\n', '\r']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_found_and_what_would_hang_or_fill_memory_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let secret = dir.path().join("bgp");
        std::fs::create_dir(&secret).unwrap();
        std::fs::write(secret.join("tor"), "hush\n").unwrap();
        std::fs::write(secret.join("long"), "x".repeat(1000)).unwrap();
        std::fs::write(secret.join("binary"), [0xff]).unwrap();
        nix::unistd::mkfifo(&secret.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::fs::write(dir.path().join("stray"), "x").unwrap();
        let found = read(dir.path());
        assert_eq!(found, [(("bgp".into(), "tor".into()), "hush".into())].into());
        assert!(read(&dir.path().join("none")).is_empty());
    }
}
