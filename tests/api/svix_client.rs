//! The official Python client against the server: every operation that is answered, as its users call it.

use std::process::Command;

use serde_json::json;

use crate::on_both_stores;
use crate::support::python;
use crate::world::World;

on_both_stores!(the_official_python_client);

async fn the_official_python_client(world: World) {
    // What the engine would have done: three attempts of one message.
    let app = world.app("tried").await;
    let endpoint = world.endpoint("tried").await;
    let body = json!({"eventType": "t.a", "eventId": "tried-1", "payload": {"a": 1}});
    let message = world.call("POST", "/app/tried/msg", body).await.expect(202)["id"].as_str().unwrap().to_owned();
    for (number, status) in [(1, Some(503)), (2, None), (3, Some(200))] {
        world.attempt(&app, &message, &endpoint, number, status).await;
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/svix_client.py");
    let (url, token) = (world.url.clone(), world.token.clone());
    let run = move || {
        let mut command = Command::new(python());
        command.arg(script).arg(&endpoint).env("SENDOFF_URL", url).env("SENDOFF_TOKEN", token);
        command.env("PYTHONDONTWRITEBYTECODE", "1").output().expect("python runs")
    };
    let output = tokio::task::spawn_blocking(run).await.expect("a thread");
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}", said(&output.stdout), said(&output.stderr));
    assert_eq!(said(&output.stdout).trim(), "all is well");
}
