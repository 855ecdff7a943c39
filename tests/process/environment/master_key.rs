//! The master key is changed while a process serves, and the change is killed in the middle.

use std::os::unix::process::ExitStatusExt;

use reqwest::Method;
use serde_json::{Value, json};

use super::api::Api;
use crate::support::server::MASTER_KEY;
use crate::support::{Binary, Database, Kind, Receiver, SOON, complaint, on_both};

on_both! {
    a_master_key_is_changed_while_a_process_serves
}

const NEW: &str = "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=";
const ENDPOINTS: usize = 450;

async fn a_master_key_is_changed_while_a_process_serves(kind: Kind) {
    let database = Database::on(kind);
    let url = database.url.clone();
    let api = Api::at(&url, &[]);
    let receiver = Receiver::ok();
    api.post("/app", json!({"name": "A", "uid": "a"})).await;
    let endpoint =
        |n: usize| json!({"url": receiver.url("/"), "uid": format!("e{n}"), "headers": {"x-key": n.to_string()}});
    for n in 0..ENDPOINTS {
        api.post("/app/a/endpoint", endpoint(n)).await;
    }
    let rotated = api.post("/app/a/endpoint/e0/secret/rotate", json!({})).await;
    let subscription = api.post("/app/a/autoconfig", json!({})).await["id"].as_str().unwrap().to_owned();
    let keys = async |api: &Api| {
        let mut keys: Vec<Value> = Vec::new();
        for n in [0, 1, ENDPOINTS - 1] {
            keys.push(api.ask(Method::GET, &format!("/app/a/endpoint/e{n}/secret"), Value::Null).await.1);
        }
        keys
    };
    let before = keys(&api).await;
    assert_eq!(before[0], rotated);
    drop(api);

    let both = |binary: Binary| binary.set("SENDOFF_MASTER_KEY", NEW).set("SENDOFF_MASTER_KEY_OTHER", MASTER_KEY);
    let serving = Api::at(&url, &[("SENDOFF_MASTER_KEY", NEW), ("SENDOFF_MASTER_KEY_OTHER", MASTER_KEY)]);
    serving.post("/app/a/endpoint", endpoint(ENDPOINTS)).await;
    // Killed after each of its steps in turn, until it comes to its end.
    let mut steps = 0;
    loop {
        steps += 1;
        assert!(steps < 20, "it does not come to an end");
        let crash = format!("change.after:{steps}:KILL");
        let done = both(Binary::on(&url)).set("SENDOFF_TEST_CRASH", &crash).run(&["master-key", "rotate"]);
        match done.status.signal() {
            Some(9) => {}
            signal => {
                assert!(signal.is_none() && done.status.success(), "{done:?}");
                break;
            }
        }
        if steps == 1 && kind == Kind::Postgres {
            let early = complaint(&Binary::on(&url).set("SENDOFF_MASTER_KEY", NEW).run(&["migrate"]), 1);
            assert!(early.contains("another master key"), "not before all is done: {early}");
        }
    }
    assert!(steps > 5, "{steps} steps");
    assert_eq!(keys(&serving).await, before);
    let again = both(Binary::on(&url)).run(&["master-key", "rotate"]);
    assert!(again.stdout.starts_with("Re-encrypted 0 secrets"), "{again:?}");
    drop(serving);

    let line = complaint(&Binary::on(&url).set("SENDOFF_LISTEN", "127.0.0.1:0").run(&["serve"]), 1);
    assert!(line.contains("another master key"), "the old one is of no use: {line}");
    let api = Api::at(&url, &[("SENDOFF_MASTER_KEY", NEW)]);
    assert_eq!(keys(&api).await, before);
    // What the endpoint of a subscription signs with opens too.
    let path = format!("/app/a/autoconfig/{subscription}/endpoint");
    let (status, made) = api.ask(Method::PUT, &path, json!({"url": receiver.url("/"), "disabled": true})).await;
    assert_eq!(status, 200, "{made}");
    assert_eq!(api.send().await.0, 202);
    let came = receiver.wait_for(ENDPOINTS + 1, SOON).await;
    let mut values: Vec<usize> =
        came.iter().map(|one| one.header("x-key").expect("it").parse().expect("a number")).collect();
    values.sort_unstable();
    assert!(values.into_iter().eq(0..=ENDPOINTS), "the headers of each");
    let line = complaint(&Binary::on(&url).set("SENDOFF_MASTER_KEY", NEW).run(&["master-key", "rotate"]), 2);
    assert!(line.contains("SENDOFF_MASTER_KEY_OTHER is not set"), "{line}");
}
