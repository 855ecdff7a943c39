//! TLS: handshakes that fail and say why, and what the environment may and may not change.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sendoff::domain::deliveries::attempt::{Failure, Outcome};

use super::receiver::Receiver;
use super::{egress, failure, post};

/// Speaks TLS with the certificate `name` of `certificates/`, and answers one request with a 200.
fn tls_receiver(name: &str) -> Receiver {
    let file = |name: &str| format!("{}/tests/certificates/{name}.pem", env!("CARGO_MANIFEST_DIR"));
    let certificate = CertificateDer::from_pem_file(file(name)).unwrap();
    let key = PrivateKeyDer::from_pem_file(file("key")).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let config = Arc::new(config);
    Receiver::new(move |stream, receiver| {
        let mut session = rustls::ServerConnection::new(config.clone()).unwrap();
        let mut stream = rustls::Stream::new(&mut session, stream);
        if receiver.read_request(&mut stream) {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
            // Waits for the other side to close.
            let _ = stream.read(&mut [0; 1]);
        }
    })
}

async fn tls_outcome(receiver: &Receiver) -> Outcome {
    post(&egress(), &format!("https://localhost:{}/", receiver.port)).await
}

#[tokio::test]
async fn a_tls_handshake_that_fails_says_why() {
    let plain = Receiver::new(|stream, _| {
        let _ = stream.read(&mut [0; 1_024]);
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        thread::sleep(Duration::from_millis(200));
    });
    let closing = Receiver::new(|stream, _| {
        let _ = stream.read(&mut [0; 1_024]);
    });
    let table = [
        (plain, "does not speak TLS"),
        (closing, "closed during the TLS handshake"),
        (tls_receiver("good"), "the receiver's certificate is not trusted"),
        (tls_receiver("self-signed"), "self-signed"),
    ];
    for (receiver, wanted) in table {
        let outcome = tls_outcome(&receiver).await;
        assert_eq!(outcome.failure, Some(Failure::Tls), "{outcome:?}");
        assert!(outcome.detail.contains(wanted), "{}", outcome.detail);
        assert!(receiver.requests().is_empty());
    }
}

/// Runs the test below in a process of its own: the environment belongs to a whole process.
#[test]
fn the_environment_gives_root_certificates_but_no_proxy() {
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy_url = format!("http://{}", proxy.local_addr().unwrap());
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/certificates/root.pem");
    let mut child = Command::new(std::env::current_exe().unwrap());
    child
        .args(["--exact", "egress::tls::in_an_environment_of_its_own", "--ignored", "--nocapture"])
        .env("SSL_CERT_FILE", root);
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        child.env(name, &proxy_url);
    }
    let output = child.env_remove("NO_PROXY").env_remove("no_proxy").output().unwrap();
    let text = [&*output.stdout, &*output.stderr].map(String::from_utf8_lossy).concat();
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    proxy.set_nonblocking(true).unwrap();
    assert!(proxy.accept().is_err(), "the proxy was asked");
}

#[tokio::test]
#[ignore = "run by egress::tls::the_environment_gives_root_certificates_but_no_proxy"]
async fn in_an_environment_of_its_own() {
    let plain = Receiver::answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(failure(&egress(), &plain.url()).await, None);

    let good = tls_receiver("good");
    let outcome = tls_outcome(&good).await;
    assert!(outcome.delivered() && &outcome.response_body[..] == b"ok", "{outcome:?}");
    assert!(good.requests()[0].contains(&format!("Host: localhost:{}\r\n", good.port)));

    let table = [
        ("expired", "the receiver's certificate expired on 2021-01-02"),
        ("other", "the receiver's certificate is for other.example, not for localhost"),
    ];
    for (name, wanted) in table {
        let outcome = tls_outcome(&tls_receiver(name)).await;
        assert_eq!((outcome.failure, outcome.detail.as_str()), (Some(Failure::Tls), wanted));
    }
}
