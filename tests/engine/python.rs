//! Receivers as people write them (tests/python/receiver.py) accept what we send, and refuse what somebody else signed.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use sendoff::domain::catalog::endpoint::EndpointSpec;
use sendoff::domain::deliveries::backoff::RetrySchedule;
use sendoff::domain::signing::secret::{Secret, SignatureType};
use sendoff::domain::signing::signature::{ExtraSignature, KeyForm};
use sendoff::domain::time::Clock;

use crate::support::{SOON, eventually, python};
use crate::world::{Kind, World, on_both};

on_both! { receivers_as_people_write_them_accept_what_we_sign }

struct PythonReceiver {
    child: Child,
    port: u16,
}

impl PythonReceiver {
    fn start(keys: &HashMap<&str, String>) -> PythonReceiver {
        let mut child = Command::new(python())
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/receiver.py"))
            .env("KEYS", serde_json::to_string(keys).unwrap())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        PythonReceiver { child, port: line.trim().parse().expect("its port") }
    }
}

impl Drop for PythonReceiver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn extra(path: &str) -> Vec<ExtraSignature> {
    let key = if path.ends_with("-bytes") { KeyForm::Bytes } else { KeyForm::Text };
    match path {
        "/github" | "/github-bytes" => vec![ExtraSignature::GitHub { header: "X-Hub-Signature-256".into(), key }],
        "/stripe" | "/stripe-bytes" => vec![ExtraSignature::Stripe { header: "Acme-Signature".into(), key }],
        _ => vec![],
    }
}

async fn receivers_as_people_write_them_accept_what_we_sign(kind: Kind) {
    let world = World::busy(kind).await;
    let paths = ["/standard", "/ed25519", "/github", "/github-bytes", "/stripe", "/stripe-bytes"];
    let kind_of = |path| if path == "/ed25519" { SignatureType::Ed25519 } else { SignatureType::Hmac256 };
    let secrets: HashMap<&str, Secret> = paths.iter().map(|path| (*path, Secret::generate(kind_of(*path)))).collect();
    let keys = secrets.iter().map(|(path, secret)| (*path, secret.shown())).collect();
    let receiver = PythonReceiver::start(&keys);
    let once = Some(RetrySchedule::new("retrySchedule", vec![]).unwrap());
    let mut expected = HashMap::new();
    for path in paths {
        // The right secret, and one that the receiver does not know.
        for (secret, status) in [(secrets[path].clone(), 204), (Secret::generate(kind_of(path)), 400)] {
            let spec = EndpointSpec {
                url: format!("http://127.0.0.1:{}{path}", receiver.port),
                signature_type: secret.kind(),
                extra_signatures: extra(path),
                retry_schedule: once.clone(),
                ..Default::default()
            };
            let made =
                world.store.create_endpoint(&world.tenant, world.app.id, spec, &secret, Clock.now()).await.unwrap();
            expected.insert(made.id, (path, status));
        }
    }
    let message = world.send("{\"amount\": 12.50, \"name\": \"Zo\\u00eb \u{1f680}\"}").await;
    let attempts = eventually("every receiver has answered", SOON, async || {
        let attempts = world.attempts(message.id).await;
        (attempts.len() == expected.len()).then_some(attempts)
    })
    .await;
    for attempt in attempts {
        let (path, status) = expected[&attempt.endpoint_id];
        let said = String::from_utf8_lossy(&attempt.outcome.response_body).into_owned();
        assert_eq!(attempt.outcome.status, Some(status), "{path}: {said}");
    }
}
