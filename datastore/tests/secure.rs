//! TLS with client certificates, and user names, against a real etcd.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod store;

use std::path::Path;
use std::process::Command;

use datastore::key::HandleKey;
use datastore::{Client, ClientConfig, Error, Pem};
use store::{Program, Store};

fn openssl(directory: &Path, arguments: &str) {
    let output = Command::new("openssl")
        .current_dir(directory)
        .args(arguments.split(' '))
        .output()
        .expect("openssl is installed");
    assert!(
        output.status.success(),
        "openssl {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// An authority, and a certificate of it for 127.0.0.1, for servers and clients.
fn certificates(directory: &Path) {
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(
        directory,
        &format!("req -x509 {key} -keyout ca.key -out ca.pem -days 2 -subj /CN=test-ca"),
    );
    openssl(
        directory,
        &format!("req {key} -keyout key.pem -out request.pem -subj /CN=margay"),
    );
    let extensions =
        "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\nbasicConstraints=CA:FALSE\n";
    std::fs::write(directory.join("extensions"), extensions).unwrap();
    openssl(
        directory,
        "x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile extensions -out cert.pem",
    );
}

#[tokio::test]
async fn tls_with_client_certificates() {
    let directory = tempfile::tempdir().unwrap();
    certificates(directory.path());
    let store = Store::start_with_tls(directory.path()).await;
    let file = |name: &str| Some(Pem::File(directory.path().join(name)));
    let config = ClientConfig {
        ca: file("ca.pem"),
        cert: file("cert.pem"),
        key: file("key.pem"),
        ..store.config()
    };
    let client = Client::connect(&config).await.unwrap();
    client
        .create(HandleKey::new("a"), &api::ipam_model::Handle::default())
        .await
        .unwrap();

    let inline = |name: &str| {
        Some(Pem::Inline(
            std::fs::read_to_string(directory.path().join(name)).unwrap(),
        ))
    };
    let config = ClientConfig {
        ca: inline("ca.pem"),
        cert: inline("cert.pem"),
        key: inline("key.pem"),
        ..store.config()
    };
    Client::connect(&config)
        .await
        .unwrap()
        .get(&HandleKey::new("a"))
        .await
        .unwrap();

    // Without our certificate, and without theirs.
    let config = ClientConfig {
        ca: file("ca.pem"),
        ..store.config()
    };
    let refused = Client::connect(&config)
        .await
        .unwrap()
        .get(&HandleKey::new("a"))
        .await
        .unwrap_err();
    assert!(refused.is_unavailable(), "{refused}");
    let config = ClientConfig {
        cert: file("cert.pem"),
        key: file("key.pem"),
        ..store.config()
    };
    let refused = Client::connect(&config)
        .await
        .unwrap()
        .get(&HandleKey::new("a"))
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("certificate"), "{refused}");
}

#[tokio::test]
async fn user_and_password() {
    let store = Store::start(Program::Etcd).await;
    store.etcdctl(&["user", "add", "root:s3cret"]);
    store.etcdctl(&["user", "grant-role", "root", "root"]);
    store.etcdctl(&["auth", "enable"]);
    let with = |user: &str, password: &str| ClientConfig {
        username: Some(user.into()),
        password: Some(password.into()),
        ..store.config()
    };
    let client = Client::connect(&with("root", "s3cret")).await.unwrap();
    client
        .create(HandleKey::new("a"), &api::ipam_model::Handle::default())
        .await
        .unwrap();
    let refused = Client::connect(&with("root", "wrong")).await.unwrap_err();
    assert!(matches!(refused, Error::Unauthorized(_)), "{refused}");
    assert!(
        refused.to_string().starts_with("connection is unauthorized: "),
        "{refused}"
    );
    // Nobody, because a password is missing.
    let nobody = ClientConfig {
        username: Some("root".into()),
        ..store.config()
    };
    let refused = Client::connect(&nobody)
        .await
        .unwrap()
        .get(&HandleKey::new("a"))
        .await
        .unwrap_err();
    assert!(matches!(refused, Error::Unauthorized(_)), "{refused:?}");
}
