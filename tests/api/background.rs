//! Background tasks: asking for them, looking at them. (What they do is the store's to show, and the engine's.)

use sendoff::store::jobs::job_lease::StepResult;
use serde_json::{Value, json};

use crate::resources::has;
use crate::support::on_both;
use crate::world::{HOUR, World};

on_both! {
    tasks_are_taken_down_and_seen
    bad_tasks
    tasks_of_an_application
}

fn ago(world: &World, hours: u32) -> String {
    world.now().minus(HOUR * hours).to_string()
}

async fn tasks_are_taken_down_and_seen(world: World) {
    let app = world.app("a").await;
    let endpoint = world.endpoint("a").await;
    let path = format!("/app/a/endpoint/{endpoint}");
    let since = ago(&world, 24);
    let recover = world.call("POST", &format!("{path}/recover/"), json!({"since": since})).await.expect(202);
    has(&recover, json!({"status": "running", "task": "endpoint.recover"}));
    assert!(recover["id"].as_str().unwrap().starts_with("qtask_") && recover["updatedAt"].is_string());
    let data = json!({"appId": app, "endpointId": endpoint, "since": since, "looked": 0, "sent": 0, "reason": null});
    has(&recover["data"], data);
    let until = ago(&world, 1);
    let body = json!({"since": ago(&world, 24 * 60), "until": until});
    let missing = world.call("POST", &format!("{path}/replay-missing"), body).await.expect(202);
    has(&missing, json!({"task": "endpoint.replay"}));
    assert_eq!(missing["data"]["until"], json!(until));
    let body = json!({"since": since, "until": null, "eventTypes": ["t"], "channel": "c", "tag": "x", "status": 2,
        "statusCodeClass": 500});
    let bulk = world.call("POST", &format!("{path}/bulk-replay"), body).await.expect(202);
    has(&bulk, json!({"task": "endpoint.bulk-replay"}));

    let one = format!("/background-task/{}", recover["id"].as_str().unwrap());
    assert_eq!(world.get(&one).await.expect(200), recover);
    let turn = world.store.lease_background(world.now()).await.unwrap().unwrap();
    assert!(matches!(world.store.step_background(turn, world.now()).await.unwrap(), StepResult::Ended(_)));
    has(&world.get(&format!("{one}/")).await.expect(200), json!({"status": "finished"}));
    let ids = [&recover["id"], &missing["id"], &bulk["id"]];
    for (query, wanted) in [
        ("", &[2, 1, 0][..]),
        ("order=ascending", &[0, 1, 2]),
        ("status=running", &[2, 1]),
        ("status=finished&task=endpoint.recover", &[0]),
        ("status=failed", &[]),
        ("task=endpoint.replay", &[1]),
        ("task=sdk.generate", &[]),
        ("limit=1", &[2]),
        (&format!("limit=1&iterator={}", bulk["id"].as_str().unwrap()), &[1]),
    ] {
        let list = world.get(&format!("/background-task/?{query}")).await.expect(200);
        let found: Vec<&Value> = list["data"].as_array().unwrap().iter().map(|task| &task["id"]).collect();
        assert_eq!(found, wanted.iter().map(|n| ids[*n]).collect::<Vec<_>>(), "{query}");
    }
    let page = world.get("/background-task?limit=1").await.expect(200);
    has(&page, json!({"done": false, "iterator": bulk["id"]}));
}

async fn bad_tasks(world: World) {
    world.app("a").await;
    let endpoint = world.endpoint("a").await;
    let path = |what: &str| format!("/app/a/endpoint/{endpoint}/{what}");
    let (hour, day) = (ago(&world, 1), ago(&world, 24));
    for what in ["recover", "replay-missing", "bulk-replay"] {
        for (body, field) in [
            (json!({}), "body.since"),
            (json!({"since": null}), "body.since"),
            (json!({"since": "yesterday"}), "body.since"),
            (json!({"since": 5}), "body.since"),
            (json!({"since": "2999-01-01T00:00:00Z"}), "body.since"),
            (json!({"since": hour, "until": day}), "body.since"),
            (json!({"since": day, "until": "x"}), "body.until"),
        ] {
            assert_eq!(world.call("POST", &path(what), body.clone()).await.refused(), [field], "{what} {body}");
        }
        let body = json!({"since": day});
        world.call("POST", &format!("/app/a/endpoint/none/{what}"), body.clone()).await.expect(404);
        world.call("POST", &format!("/app/none/endpoint/{endpoint}/{what}"), body).await.expect(404);
    }
    let too_far = json!({"since": ago(&world, 24 * 14 + 1)});
    assert_eq!(world.call("POST", &path("recover"), too_far).await.refused(), ["body.since"]);
    for (more, field) in [
        (json!({"status": 3}), "body.status"),
        (json!({"status": "fail"}), "body.status"),
        (json!({"statusCodeClass": 404}), "body.statusCodeClass"),
        (json!({"eventTypes": []}), "body.eventTypes"),
        (json!({"eventTypes": "t"}), "body.eventTypes"),
        (json!({"channel": 1}), "body.channel"),
        (json!({"tag": []}), "body.tag"),
    ] {
        let mut body = json!({"since": day});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        assert_eq!(world.call("POST", &path("bulk-replay"), body).await.refused(), [field], "{more}");
    }
    assert_eq!(world.get("/background-task").await.expect(200)["data"], json!([]), "nothing was begun");
    for _ in 0..5 {
        world.call("POST", &path("recover"), json!({"since": day})).await.expect(202);
    }
    let one_more = world.call("POST", &path("recover"), json!({"since": day})).await;
    assert_eq!(one_more.expect(409)["code"], "conflict");
    world.call("PATCH", &path(""), json!({"disabled": true})).await.expect(200);
    assert_eq!(world.call("POST", &path("recover"), json!({"since": day})).await.refused(), ["path.endpoint_id"]);

    for (query, field) in [("status=done", "query.status"), ("task=x", "query.task"), ("iterator=x", "query.iterator")]
    {
        assert_eq!(world.get(&format!("/background-task?{query}")).await.refused(), [field]);
    }
    for id in ["x", "qtask_01jd8x5q3fe8ktq8b4m5rj2w3a", &endpoint] {
        world.get(&format!("/background-task/{id}")).await.expect(404);
    }
}

async fn tasks_of_an_application(world: World) {
    let mut tasks = Vec::new();
    for uid in ["mine", "other"] {
        let app = world.app(uid).await;
        let endpoint = world.endpoint(uid).await;
        let token = world.tokens.mint_app(&world.org(), app.parse().unwrap(), world.now(), HOUR).unwrap();
        let body = json!({"since": ago(&world, 1)}).to_string();
        for what in ["recover", "replay-missing", "bulk-replay"] {
            let path = format!("/app/{uid}/endpoint/{endpoint}/{what}");
            let task = world.call_as(&token, "POST", &path, Some(&body)).await.expect(202);
            tasks.push((token.clone(), path, task["id"].as_str().unwrap().to_owned()));
        }
    }
    let (mine, ..) = tasks[0].clone();
    let list = world.call_as(&mine, "GET", "/background-task?order=ascending", None).await.expect(200);
    let ids: Vec<&str> = list["data"].as_array().unwrap().iter().map(|task| task["id"].as_str().unwrap()).collect();
    assert_eq!(ids, tasks[..3].iter().map(|(.., id)| id.as_str()).collect::<Vec<_>>());
    world.call_as(&mine, "GET", &format!("/background-task/{}", tasks[0].2), None).await.expect(200);
    world.call_as(&mine, "GET", &format!("/background-task/{}", tasks[3].2), None).await.expect(404);
    let body = json!({"since": ago(&world, 1)}).to_string();
    world.call_as(&mine, "POST", &tasks[3].1, Some(&body)).await.expect(404);
    let stranger = world.tokens.mint_org(&"org_other".parse().unwrap(), world.now(), HOUR).unwrap();
    world.call_as(&stranger, "GET", &format!("/background-task/{}", tasks[0].2), None).await.expect(404);
    assert_eq!(world.call_as(&stranger, "GET", "/background-task", None).await.expect(200)["data"], json!([]));
}
