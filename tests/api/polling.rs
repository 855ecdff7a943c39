//! Polling over REST: pages, positions, consumers, tokens, waiting, 304 and server-sent events.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use reqwest::Response;
use sendoff::domain::AppId;
use sendoff::domain::access::api_key::KeyScope;
use sendoff::domain::feed::{FeedIterator, Position};
use serde_json::{Value, json};

use crate::support::on_both;
use crate::support::{SOON, eventually};
use crate::world::{HOUR, Said, World, said};

on_both! {
    destinations_are_polling_endpoints
    messages_are_fetched_in_pages
    unusable_iterators_are_rejected
    a_consumer_s_position_is_kept
    a_token_opens_one_polling_endpoint
    a_reader_waits_for_the_next_message
    a_page_that_the_reader_has_is_304
    messages_come_as_a_stream
    a_stream_ends_with_what_it_reads
}

/// A polling endpoint of the application, by its uid.
async fn pull(world: &World, app: &str, uid: &str, more: Value) -> Value {
    let mut body = json!({"type": "pollingEndpoint", "uid": uid});
    body.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    world.call("POST", &format!("/app/{app}/destination"), body).await.expect(201)
}

/// The ids of a page.
fn ids(page: &Value) -> Vec<&str> {
    page["data"].as_array().expect("a page").iter().map(|one| one["id"].as_str().expect("an id")).collect()
}

fn iterator(page: &Value) -> &str {
    page["iterator"].as_str().expect("an iterator")
}

async fn destinations_are_polling_endpoints(world: World) {
    world.app("a").await;
    let made = pull(&world, "a", "pull", json!({"channels": ["eu"], "metadata": {"k": "v"}, "config": {}})).await;
    assert!(made["id"].as_str().unwrap().starts_with("poll_"));
    let told = |name: &str| made[name].clone();
    assert_eq!((told("type"), told("status"), told("config")), (json!("pollingEndpoint"), json!("enabled"), json!({})));
    assert_eq!((told("batchSize"), told("maxWaitSecs"), told("eventTypes")), (json!(50), json!(0), Value::Null));
    let path = "/app/a/destination/pull";
    assert_eq!(world.get(path).await.expect(200), made);
    let listed = world.get("/app/a/destination").await.expect(200);
    assert_eq!((&listed["data"], &listed["done"]), (&json!([made]), &json!(true)));
    // The dialect's empty list lets everything through.
    let body = json!({"type": "pollingEndpoint", "eventTypes": [], "channels": [], "status": "disabled"});
    let replaced = world.call("PUT", path, body).await.expect(200);
    assert_eq!(
        (&replaced["uid"], &replaced["channels"], &replaced["metadata"]),
        (&json!("pull"), &Value::Null, &json!({}))
    );
    world.get("/app/a/poller/pull").await.expect(409);
    let patched = world.call("PATCH", path, json!({"status": "enabled", "metadata": {"a": "b"}})).await.expect(200);
    assert_eq!((&patched["status"], &patched["metadata"]), (&json!("enabled"), &json!({"a": "b"})));
    world.call("PUT", "/app/a/destination/second", json!({"type": "pollingEndpoint"})).await.expect(201);
    for (wrong, field) in [
        (json!({}), "body.type"),
        (json!({"type": "sqs"}), "body.type"),
        (json!({"type": "pollingEndpoint", "status": "paused"}), "body.status"),
        (json!({"type": "pollingEndpoint", "eventTypes": ["not.there"]}), "body.eventTypes"),
        (json!({"type": "pollingEndpoint", "uid": "poll_x"}), "body.uid"),
        (json!({"type": "pollingEndpoint", "batchSize": 7}), "body.batchSize"),
    ] {
        assert_eq!(world.call("POST", "/app/a/destination", wrong).await.refused(), [field]);
    }
    world.call("POST", "/app/a/destination", json!({"type": "pollingEndpoint", "uid": "pull"})).await.expect(409);
    // It is no endpoint: nothing is posted for it.
    assert_eq!(world.get("/app/a/endpoint").await.expect(200)["data"], json!([]));
    world.delete(path).await.expect(204);
    world.get(path).await.expect(404);
    world.get("/app/a/poller/pull").await.expect(404);
}

async fn messages_are_fetched_in_pages(world: World) {
    world.app("a").await;
    pull(&world, "a", "pull", json!({})).await;
    let beginning = world.get("/app/a/poller/pull").await.expect(200);
    assert_eq!((ids(&beginning).len(), &beginning["done"]), (0, &json!(true)));
    let body = r#"{"eventType": "t.a", "eventId": "e", "channels": ["eu"], "tags": ["x"], "payload": {"n":  1.50}}"#;
    let whole = world.raw("POST", "/app/a/msg", body).await.expect(202)["id"].as_str().unwrap().to_owned();
    let raw = json!({"eventType": "t.b", "payload": {}, "transformationsParams": {"rawPayload": "<a/>", "headers": {"content-type": "text/xml"}}});
    let raw = world.call("POST", "/app/a/msg", raw).await.expect(202)["id"].as_str().unwrap().to_owned();
    let last = world.message("a", "t.c").await;
    let all = [&*whole, &raw, &last];
    let said = world.get("/app/a/poller/pull").await;
    assert_eq!(said.headers["x-poll-interval"], "1");
    assert!(said.text.contains(r#""payload":{"n":  1.50}"#), "byte for byte: {}", said.text);
    let page = said.expect(200);
    assert_eq!(ids(&page), all);
    let item = |n: usize, name: &str| page["data"][n][name].clone();
    assert_eq!((item(0, "eventId"), item(0, "channels"), item(0, "tags")), (json!("e"), json!(["eu"]), json!(["x"])));
    assert_eq!((item(1, "payload"), item(1, "rawPayload")), (json!({}), json!("<a/>")));
    assert_eq!((item(1, "headers"), item(0, "headers")), (json!({"content-type": "text/xml"}), Value::Null));
    for from in ["", &format!("&iterator={}", iterator(&beginning))] {
        let said = world.get(&format!("/app/a/poller/pull?limit=2{from}")).await;
        assert_eq!(said.headers["x-poll-interval"], "0");
        let page = said.expect(200);
        assert_eq!((ids(&page), &page["done"]), (all[..2].to_vec(), &json!(false)));
        let rest = world.get(&format!("/app/a/poller/pull?iterator={}", iterator(&page))).await.expect(200);
        assert_eq!((ids(&rest), &rest["done"]), (all[2..].to_vec(), &json!(true)));
        let end = world.get(&format!("/app/a/poller/pull?iterator={}", iterator(&rest))).await;
        assert_eq!(end.headers["x-poll-interval"], "5");
        let end = end.expect(200);
        assert_eq!((ids(&end).len(), &end["done"]), (0, &json!(true)));
    }
    let asked = async |query: &str| world.get(&format!("/app/a/poller/pull?{query}")).await.expect(200);
    assert_eq!(ids(&asked("event_type=t.b").await), [&*raw]);
    assert_eq!(ids(&asked("channel=eu").await), [&*whole]);
    let nothing = asked("channel=us").await;
    assert_eq!(ids(&nothing).len(), 0);
    assert_eq!(ids(&asked(&format!("iterator={}", iterator(&nothing))).await).len(), 0, "it has moved on");
    assert_eq!(ids(&asked(&format!("after={}", world.now().minus(HOUR))).await), all);
    assert_eq!(ids(&asked("after=1990-01-01T00:00:00Z").await), all, "all that is kept");
    assert_eq!(ids(&asked(&format!("after={}", world.now())).await).len(), 0);
    // What the polling endpoint itself keeps back.
    pull(&world, "a", "of-eu", json!({"channels": ["eu"]})).await;
    let since = format!("after={}", world.now().minus(HOUR));
    assert_eq!(ids(&world.get(&format!("/app/a/poller/of-eu?{since}")).await.expect(200)), [&*whole]);
    assert_eq!(ids(&world.get("/app/a/poller/of-eu").await.expect(200)).len(), 0, "it was made after them");
    world.delete(&format!("/app/a/msg/{whole}/content")).await.expect(204);
    assert_eq!(ids(&asked("").await), all[1..], "what has no content is left out");
}

async fn unusable_iterators_are_rejected(world: World) {
    let (app, _) = (world.app("a").await.parse().unwrap(), world.app("b").await);
    for name in ["a", "b"] {
        pull(&world, name, "pull", json!({})).await;
    }
    let refused = async |query: &str| world.get(&format!("/app/a/poller/pull?{query}")).await.refused();
    let foreign = world.get("/app/b/poller/pull").await.expect(200);
    assert_eq!(refused(&format!("iterator={}", iterator(&foreign))).await, ["query.iterator"]);
    assert_eq!(refused("iterator=nonsense").await, ["query.iterator"]);
    assert_eq!(refused(&format!("after={}", world.now().plus(HOUR))).await, ["query.after"]);
    let mine = FeedIterator::since(world.now()).text(app);
    assert_eq!(refused(&format!("iterator={mine}&after=2020-01-01T00:00:00Z")).await, ["query.after"]);
    let ahead = FeedIterator::since(world.now().plus(3 * HOUR)).text(app);
    assert_eq!(refused(&format!("iterator={ahead}")).await, ["query.iterator"]);
    assert_eq!(refused("limit=0").await, ["query.limit"]);
    assert_eq!(refused("limit=251").await, ["query.limit"]);
    assert_eq!(refused("wait=31").await, ["query.wait"]);
    let old = FeedIterator::since(world.now().minus(31 * 24 * HOUR)).text(app);
    for path in ["/app/a/poller/pull", "/app/a/poller/pull/consumer/c"] {
        let said = world.get(&format!("{path}?iterator={old}")).await.expect(410);
        assert_eq!(said["code"], "position_gone");
    }
    world.get("/app/a/poller/nothing").await.expect(404);
    world.get("/app/a/poller/nothing/consumer/c").await.expect(404);
    world.get("/app/a/poller/nothing/stream").await.expect(404);
}

async fn a_consumer_s_position_is_kept(world: World) {
    world.app("a").await;
    pull(&world, "a", "pull", json!({})).await;
    let before = world.now();
    let mut all = Vec::new();
    for _ in 0..3 {
        all.push(world.message("a", "t").await);
    }
    let path = "/app/a/poller/pull/consumer/warehouse";
    let ask = async |query: &str| world.get(&format!("{path}?limit=2{query}")).await;
    let first = ask("").await.expect(200);
    assert_eq!(ids(&first), all[..2]);
    assert_eq!(ids(&ask("").await.expect(200)), all[..2], "it has not said that it has them");
    let next = format!("&iterator={}", iterator(&first));
    let second = ask(&next).await.expect(200);
    assert_eq!((ids(&second), &second["done"]), (vec![&*all[2]], &json!(true)));
    assert_eq!(ids(&ask("").await.expect(200)), all[2..]);
    let end = format!("&iterator={}", iterator(&second));
    assert_eq!(ids(&ask(&end).await.expect(200)).len(), 0);
    let behind = ask(&next).await.expect(409);
    assert!(behind["detail"].as_str().unwrap().contains("has advanced"), "{behind}");
    assert_eq!(
        ids(&world.get("/app/a/poller/pull/consumer/other").await.expect(200)),
        all,
        "another one is where it was"
    );

    let seek = async |after: String| world.call("POST", &format!("{path}/seek"), json!({"after": after})).await;
    let back = seek(before.to_string()).await.expect(200);
    assert_eq!(ids(&ask("").await.expect(200)), all[..2]);
    assert_eq!(ids(&ask(&format!("&iterator={}", iterator(&back))).await.expect(200)), all[..2]);
    ask(&end).await.expect(409);
    assert_eq!(seek(world.now().plus(HOUR).to_string()).await.refused(), ["body.after"]);
    assert_eq!(world.call("POST", &format!("{path}/seek"), json!({})).await.refused(), ["body.after"]);
    // Under one key it is moved once.
    let keyed = async || {
        let request = world.request("POST", &format!("/api/v1{path}/seek")).bearer_auth(&world.token);
        let request = request.header("idempotency-key", "seek-1").header("content-type", "application/json");
        said(request.body(json!({"after": before.to_string()}).to_string())).await.expect(200)
    };
    assert_eq!(keyed().await, keyed().await);
    seek(world.now().to_string()).await.expect(200);
    assert_eq!(ids(&ask("").await.expect(200)).len(), 0);
    assert_eq!(
        world.get(&format!("/app/a/poller/pull/consumer/{}", "x".repeat(257))).await.refused(),
        ["path.consumer_id"]
    );
    let (_, reader) = world.key(&[KeyScope::Read], None).await;
    world.call_as(&reader, "GET", path, None).await.expect(200);
    world
        .call_as(&reader, "POST", &format!("{path}/seek"), Some(r#"{"after": "2026-01-01T00:00:00Z"}"#))
        .await
        .expect(403);
}

async fn rotated(world: &World, body: Value) -> String {
    let token = world.call("POST", "/auth/app/a/poller/pull/token/rotate", body).await.expect(200);
    token["token"].as_str().unwrap().to_owned()
}

async fn a_token_opens_one_polling_endpoint(world: World) {
    world.app("a").await;
    let made = pull(&world, "a", "pull", json!({})).await;
    pull(&world, "a", "other", json!({})).await;
    let message = world.message("a", "t").await;
    let about = "/auth/app/a/poller/pull/token";
    world.get(about).await.expect(404);
    let token = rotated(&world, json!({})).await;
    assert!(token.starts_with("sk_poll_"), "{token}");
    let told = world.get(about).await.expect(200);
    let (censored, end) = (told["token"].as_str().unwrap(), &token[token.len() - 4..]);
    assert!(censored.ends_with(end) && censored.len() < 20 && told["expiresAt"].is_null(), "{told}");
    let show = async |token: &str, method: &str, path: &str| {
        world.call_as(token, method, path, (method != "GET").then_some(r#"{"after": "2026-01-01T00:00:00Z"}"#)).await
    };
    let id = made["id"].as_str().unwrap();
    for name in ["pull", id] {
        assert_eq!(ids(&show(&token, "GET", &format!("/app/a/poller/{name}")).await.expect(200)), [&*message]);
        show(&token, "GET", &format!("/app/a/poller/{name}/consumer/c")).await.expect(200);
        show(&token, "POST", &format!("/app/a/poller/{name}/consumer/c/seek")).await.expect(200);
    }
    // Nothing else.
    for path in ["/app/a/poller/other", "/app/a/poller/other/consumer/c", "/app/a/poller/other/stream"] {
        show(&token, "GET", path).await.expect(404);
    }
    for path in ["/app/a", "/app/a/destination/pull", "/app/a/msg", "/app", "/event-type", about] {
        show(&token, "GET", path).await.expect(403);
    }
    for path in ["/app/a/msg", "/app/a/destination", "/auth/app/a/poller/pull/token/rotate"] {
        show(&token, "POST", path).await.expect(403);
    }
    // The one before stays good for as long as is said.
    let second = rotated(&world, json!({"oldTokenExpiry": 60, "expiry": 3600})).await;
    for token in [&token, &second] {
        show(token, "GET", "/app/a/poller/pull").await.expect(200);
    }
    let expires: String = world.get(about).await.expect(200)["expiresAt"].as_str().unwrap().to_owned();
    assert!(expires > world.now().to_string());
    let third = rotated(&world, json!({"oldTokenExpiry": 0})).await;
    for token in [&token, &second] {
        eventually("it is refused", SOON, async || {
            (show(token, "GET", "/app/a/poller/pull").await.status == 401).then_some(())
        })
        .await;
    }
    show(&third, "GET", "/app/a/poller/pull").await.expect(200);
    for (wrong, field) in [
        (json!({"expiry": 0}), "body.expiry"),
        (json!({"expiry": 31_536_001}), "body.expiry"),
        (json!({"oldTokenExpiry": 86_401}), "body.oldTokenExpiry"),
    ] {
        assert_eq!(world.call("POST", &format!("{about}/rotate"), wrong).await.refused(), [field]);
    }
    show(&format!("sk_poll_{}", "a".repeat(43)), "GET", "/app/a/poller/pull").await.expect(401);
    world.delete("/app/a/destination/pull").await.expect(204);
    eventually("it opens nothing", SOON, async || {
        (show(&third, "GET", "/app/a/poller/pull").await.status == 401).then_some(())
    })
    .await;
}

async fn a_reader_waits_for_the_next_message(world: World) {
    let app: AppId = world.app("a").await.parse().unwrap();
    pull(&world, "a", "pull", json!({"channels": ["eu"]})).await;
    let begun = Instant::now();
    let nothing = world.get("/app/a/poller/pull?wait=1").await;
    assert!(begun.elapsed() >= Duration::from_secs(1));
    assert_eq!(nothing.headers["x-poll-interval"], "0");
    let nothing = nothing.expect(200);
    let paths = [
        format!("/app/a/poller/pull?wait=20&iterator={}", iterator(&nothing)),
        "/app/a/poller/pull/consumer/c?wait=20".to_owned(),
    ];
    let waiting = async |path: &str| {
        let page = world.get(path).await.expect(200);
        (page, Instant::now())
    };
    let sending = async {
        let both = async |behind: Position| {
            let waits = world.store.feed_listeners(app);
            waits.is_some_and(|(count, after)| count == 2 && after >= behind).then_some(())
        };
        eventually("both wait", SOON, async || both(Position::START.next()).await).await;
        // What the filter keeps back wakes nobody for good.
        let kept_back = Position::of(world.message("a", "t").await.parse().unwrap());
        eventually("one has seen it, and both wait", SOON, async || both(kept_back).await).await;
        let body = json!({"eventType": "t", "payload": {}, "channels": ["eu"]});
        let message = world.call("POST", "/app/a/msg", body).await.expect(202);
        (message["id"].as_str().unwrap().to_owned(), Instant::now())
    };
    let (one, two, (message, sent)) = tokio::join!(waiting(&paths[0]), waiting(&paths[1]), sending);
    for (page, at) in [one, two] {
        assert_eq!(ids(&page), [&*message]);
        assert!(at < sent + Duration::from_secs(5), "it did not wait on");
    }
    // There is something: nobody waits.
    let begun = Instant::now();
    world.get("/app/a/poller/pull?wait=30").await.expect(200);
    assert!(begun.elapsed() < Duration::from_secs(20));
}

async fn a_page_that_the_reader_has_is_304(world: World) {
    world.app("a").await;
    pull(&world, "a", "pull", json!({})).await;
    let ask = async |path: &str, etag: Option<&str>| -> Said {
        let request = world.request("GET", &format!("/api/v1{path}"));
        let request = request.header("authorization", format!("Bearer {}", world.token));
        said(match etag {
            Some(etag) => request.header("if-none-match", etag),
            None => request,
        })
        .await
    };
    let begin = ask("/app/a/poller/pull", None).await.expect(200);
    let path = format!("/app/a/poller/pull?iterator={}", iterator(&begin));
    let first = ask(&path, None).await;
    let etag = first.headers["etag"].to_str().unwrap().to_owned();
    let same = ask(&path, Some(&etag)).await;
    assert_eq!((same.status, &*same.text, &same.headers["etag"]), (304, "", &first.headers["etag"]));
    assert_eq!(same.headers["x-poll-interval"], "5");
    assert_eq!(ask(&path, Some(&format!("\"other\", {}", etag.trim_start_matches("W/")))).await.status, 304);
    assert_eq!(ask(&path, Some("\"other\"")).await.status, 200);
    let consumer = "/app/a/poller/pull/consumer/c";
    let of_consumer = ask(consumer, None).await.headers["etag"].to_str().unwrap().to_owned();
    assert_eq!(ask(consumer, Some(&of_consumer)).await.status, 304);
    let message = world.message("a", "t").await;
    for (path, etag) in [(&*path, &etag), (consumer, &of_consumer)] {
        let news = ask(path, Some(etag)).await;
        assert_ne!(news.headers["etag"].to_str().unwrap(), etag);
        assert_eq!(ids(&news.expect(200)), [&*message]);
    }
}

/// A stream that is being read.
struct Events {
    answer: std::pin::Pin<Box<dyn futures_util::Stream<Item = reqwest::Result<bytes::Bytes>>>>,
    text: String,
}

impl Events {
    fn of(answer: Response) -> Events {
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        Events { answer: Box::pin(answer.bytes_stream()), text: String::new() }
    }

    /// Whether the stream ends within a while, without another message.
    async fn ends(&mut self) -> bool {
        tokio::time::timeout(SOON, self.next()).await == Ok(None)
    }

    /// The id and the data of the next message; `None`: the stream has ended.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            while let Some((block, rest)) = self.text.split_once("\n\n").map(|(a, b)| (a.to_owned(), b.to_owned())) {
                self.text = rest;
                let field = |name: &str| -> Vec<String> {
                    block
                        .lines()
                        .filter_map(|line| line.strip_prefix(&format!("{name}: ")).map(str::to_owned))
                        .collect()
                };
                if field("event") == ["message"] {
                    let data = serde_json::from_str(&field("data").join("\n")).expect("JSON");
                    return Some((field("id").remove(0), data));
                }
            }
            let piece = tokio::time::timeout(SOON, self.answer.next()).await.expect("a piece in time")?;
            self.text.push_str(std::str::from_utf8(&piece.ok()?).expect("UTF-8"));
        }
    }
}

async fn stream(world: &World, token: &str, query: &str, last: Option<&str>) -> Response {
    let request = world.request("GET", &format!("/api/v1/app/a/poller/pull/stream?{query}"));
    let request = request.header("authorization", format!("Bearer {token}"));
    let request = match last {
        Some(last) => request.header("last-event-id", last),
        None => request,
    };
    request.send().await.expect("an answer")
}

async fn messages_come_as_a_stream(world: World) {
    world.app("a").await;
    pull(&world, "a", "pull", json!({})).await;
    let first = world.message("a", "t.a").await;
    let mut events = Events::of(stream(&world, &world.token, "", None).await);
    let (id, data) = events.next().await.unwrap();
    assert_eq!((&data["id"], &data["payload"]), (&json!(first), &json!({"of": "t.a"})));
    let second = world.message("a", "t.b").await;
    assert_eq!(events.next().await.unwrap().1["id"], json!(second));
    drop(events);
    let mut again = Events::of(stream(&world, &world.token, "after=2020-01-01T00:00:00Z", Some(&id)).await);
    assert_eq!(again.next().await.unwrap().1["id"], json!(second), "from behind the last one it has seen");
    let mut filtered = Events::of(stream(&world, &world.token, "event_type=t.b", None).await);
    assert_eq!(filtered.next().await.unwrap().1["id"], json!(second));
    // Its ids are the iterators of pages.
    let page = world.get(&format!("/app/a/poller/pull?iterator={id}")).await.expect(200);
    assert_eq!(ids(&page), [&*second]);
    assert_eq!(stream(&world, &world.token, "", Some("nonsense")).await.status(), 422);
    assert_eq!(stream(&world, &world.token, "iterator=nonsense", None).await.status(), 422);
    assert_eq!(stream(&world, "nonsense", "", None).await.status(), 401);
}

async fn a_stream_ends_with_what_it_reads(world: World) {
    world.app("a").await;
    pull(&world, "a", "pull", json!({})).await;
    let token = rotated(&world, json!({})).await;
    let mut of_token = Events::of(stream(&world, &token, "", None).await);
    rotated(&world, json!({"oldTokenExpiry": 0})).await;
    assert!(of_token.ends().await, "with its token");
    let mut of_poller = Events::of(stream(&world, &world.token, "", None).await);
    world.call("PATCH", "/app/a/destination/pull", json!({"status": "disabled"})).await.expect(200);
    assert!(of_poller.ends().await, "with its polling endpoint");
    assert_eq!(stream(&world, &world.token, "", None).await.status(), 409);
    world.call("PATCH", "/app/a/destination/pull", json!({"status": "enabled"})).await.expect(200);
    let mut of_process = Events::of(stream(&world, &world.token, "", None).await);
    world.store.close_feed_listeners();
    assert!(of_process.ends().await, "with its process");
}
