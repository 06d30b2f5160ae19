//! A damaged file is refused by name and left as it was; a file in use is refused as well.

use std::fs;
use std::path::Path;

use datastore::server::{OpenError, RunningServer, StartError};

use crate::support::{all, client, command, put, start, text};

const FLIPS: usize = 48;

async fn filled(data: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    let server = start(data).await.expect("a store");
    let mut kv = client(&server).await;
    for n in 0..60 {
        kv.put(put(
            &format!("key/{}", n % 40),
            &format!("{n}-{}", "x".repeat(700)),
        ))
        .await
        .expect("a put");
    }
    let contents = contents(&server).await;
    server.shutdown().await;
    contents
}

async fn contents(server: &RunningServer) -> Vec<(Vec<u8>, Vec<u8>)> {
    let found = all(&mut client(server).await, 0).await;
    found
        .kvs
        .into_iter()
        .map(|kv| (kv.key.to_vec(), kv.value.to_vec()))
        .collect()
}

fn is_refused_as_damaged(
    started: Result<RunningServer, StartError>,
    data: &Path,
) -> Result<(), RunningServer> {
    match started {
        Ok(server) => Err(server),
        Err(StartError::Open(error @ OpenError::Damaged { .. })) => {
            let words = error.to_string();
            assert!(words.contains(text(data)), "{words}");
            assert!(
                words.contains("left as it is") && words.contains("restore it from a copy"),
                "{words}"
            );
            Ok(())
        }
        Err(other) => panic!("refused for another reason: {other}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_truncated_file_is_refused_and_kept() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("store.redb");
    filled(&data).await;
    let whole = fs::read(&data).expect("the file");
    let length = whole.len();
    for kept in [
        0,
        1,
        8,
        63,
        512,
        4095,
        4096,
        length / 4,
        length / 2,
        length - 4096,
        length - 512,
        length - 1,
    ] {
        let cut = directory.path().join(format!("cut-{kept}.redb"));
        fs::write(&cut, &whole[..kept]).expect("a file");
        if is_refused_as_damaged(start(&cut).await, &cut).is_err() {
            panic!("a file cut to {kept} of {length} bytes was opened");
        }
        assert!(
            fs::read(&cut).expect("the file") == whole[..kept],
            "a file cut to {kept} bytes was changed"
        );
        let beside: Vec<_> = fs::read_dir(directory.path())
            .expect("the directory")
            .flatten()
            .map(|e| e.file_name())
            .collect();
        assert!(
            beside.iter().all(|name| !name.to_string_lossy().contains("new")),
            "{beside:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_byte_is_refused_or_harmless() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("store.redb");
    let expected = filled(&data).await;
    let whole = fs::read(&data).expect("the file");
    let mut refused = 0;
    for flip in 0..FLIPS {
        let at = flip * whole.len() / FLIPS + flip % 7;
        let flipped = directory.path().join("flipped.redb");
        let mut bytes = whole.clone();
        bytes[at] ^= 0x55;
        fs::write(&flipped, &bytes).expect("a file");
        match is_refused_as_damaged(start(&flipped).await, &flipped) {
            Ok(()) => {
                refused += 1;
                assert!(
                    fs::read(&flipped).expect("the file") == bytes,
                    "the file flipped at {at} was changed"
                );
            }
            // A byte of no page in use: nothing is lost.
            Err(server) => {
                assert_eq!(contents(&server).await, expected, "flipped at {at}");
                server.shutdown().await;
            }
        }
    }
    assert!(
        refused > FLIPS / 4,
        "only {refused} of {FLIPS} damaged files were refused"
    );
}

#[tokio::test]
async fn other_files_are_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("notes.txt");
    let words = "not a store at all\n".repeat(1000);
    fs::write(&data, &words).expect("a file");
    assert!(is_refused_as_damaged(start(&data).await, &data).is_ok());
    assert_eq!(fs::read_to_string(&data).expect("the file"), words);
    let error = start(directory.path())
        .await
        .expect_err("a directory is no store")
        .to_string();
    assert!(
        error.contains("not a regular file") && error.contains(text(directory.path())),
        "{error}"
    );
    let nowhere = directory.path().join("missing/store.redb");
    let error = start(&nowhere).await.expect_err("no such directory").to_string();
    assert!(
        error.contains(text(&nowhere)) && error.contains("No such file"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_in_use_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("store.redb");
    let first = start(&data).await.expect("a store");
    client(&first).await.put(put("k", "v")).await.expect("a put");
    let again = start(&data).await.expect_err("one store a file");
    assert!(
        matches!(again, StartError::Open(OpenError::InUse { .. })),
        "{again}"
    );
    // Also from another process, which says so and fails.
    let other = command(&["--listen", "127.0.0.1:0", "--data", text(&data)])
        .output()
        .expect("margay-store");
    let words = String::from_utf8_lossy(&other.stderr);
    assert!(!other.status.success());
    assert!(
        words.contains("in use by another process") && words.contains(text(&data)),
        "{words}"
    );
    assert!(other.stdout.is_empty());
    // The first goes on, and leaves the file to the next when it ends.
    client(&first).await.put(put("k", "w")).await.expect("a put");
    first.shutdown().await;
    let next = start(&data).await.expect("the file is free");
    assert_eq!(contents(&next).await, [(b"k".to_vec(), b"w".to_vec())]);
    next.shutdown().await;
}
