//! The live tail: the page, and the stream that has its rows come by themselves; on both stores.

use std::time::Duration;

use reqwest::{Method, Response, StatusCode};
use sendoff::domain::OrgId;
use sendoff::domain::catalog::application::Application;
use sendoff::domain::catalog::endpoint::Endpoint;
use sendoff::domain::time::Clock;
use sendoff::store::Tenant;

use crate::support::{eventually, on_both};
use crate::world::{Browser, MINUTE, Try, World, dead, field};

on_both! {
    attempts_arrive_as_they_happen_and_filters_hold
    the_page_is_complete_without_a_script
    a_stream_ends_with_its_session_and_at_shutdown
    only_so_many_are_open_and_a_flood_is_cut_and_said
}

const SOON: Duration = Duration::from_secs(20);

/// A stream of events, read piece by piece.
struct Events {
    response: Response,
    read: String,
}

impl Events {
    async fn open(browser: &Browser<'_>, path: &str) -> Events {
        let response = browser.world.request(Method::GET, path).header("cookie", &browser.cookie).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["cache-control"], "no-store");
        let mut events = Events { response, read: String::new() };
        events.until("retry: ").await;
        events
    }

    /// Reads until `text` has come.
    async fn until(&mut self, text: &str) {
        while !self.read.contains(text) {
            let piece = tokio::time::timeout(SOON, self.response.chunk()).await;
            let piece = piece.unwrap_or_else(|_| panic!("waited in vain for {text} in {}", self.read)).unwrap();
            let piece = piece.unwrap_or_else(|| panic!("it ended before {text} came: {}", self.read));
            self.read.push_str(std::str::from_utf8(&piece).unwrap());
        }
    }

    /// Reads to the end.
    async fn end(mut self, within: Duration) -> String {
        let end = async {
            while let Some(piece) = self.response.chunk().await.unwrap() {
                self.read.push_str(std::str::from_utf8(&piece).unwrap());
            }
        };
        tokio::time::timeout(within, end).await.expect("the stream ends");
        self.read
    }
}

/// An attempt of a message of that type, now.
async fn happen(world: &World, app: &Application, endpoint: &Endpoint, event_type: &str, delivered: bool) {
    let now = Clock.now();
    let message = world.message(app, event_type, "{}", now).await;
    let one = if delivered { Try::delivered(now, 5) } else { Try::answered(now, 500, "", dead()) };
    world.tries(&message, endpoint, [one]).await;
}

async fn attempts_arrive_as_they_happen_and_filters_hold(world: World) {
    let acme = world.app("Acme").await;
    let endpoint = world.endpoint(&acme, "https://a.example/hook").await;
    let globex = world.app("<b>Globex</b>").await;
    let other = world.endpoint(&globex, "https://b.example/hook").await;
    let strangers = Tenant::org("org_strangers".parse::<OrgId>().unwrap());
    let theirs = world.app_of(&strangers, "Theirs").await;
    let their_endpoint = world.endpoint(&theirs, "https://theirs.example/").await;
    let browser = world.sign_in().await;
    let mut all = Events::open(&browser, "/tail/events?").await;
    let mut failed = Events::open(&browser, "/tail/events?status=failed").await;
    let mut acmes = Events::open(&browser, &format!("/tail/events?app={}&endpoint={}", acme.id, endpoint.id)).await;
    let mut typed = Events::open(&browser, "/tail/events?type=last").await;

    happen(&world, &theirs, &their_endpoint, "secret", true).await;
    happen(&world, &acme, &endpoint, "first", true).await;
    happen(&world, &globex, &other, "second", false).await;
    happen(&world, &acme, &endpoint, "third", false).await;
    happen(&world, &globex, &other, "last", false).await;
    happen(&world, &acme, &endpoint, "last", true).await;
    for (events, wanted) in [
        (&mut all, &["first", "second", "third", "last"][..]),
        (&mut failed, &["second", "third", "last"]),
        (&mut acmes, &["first", "third", "last"]),
        (&mut typed, &["last"]),
    ] {
        events.until("<bdi>last</bdi>").await;
        for text in ["first", "second", "third", "last"] {
            assert_eq!(events.read.contains(text), wanted.contains(&text), "{text}: {}", events.read);
        }
        assert!(!events.read.contains("secret") && !events.read.contains("Theirs"), "{}", events.read);
        assert!(!events.read.contains("<b>"), "what is foreign is text: {}", events.read);
    }
    // The stream's rows are the page's.
    let row = all.read.split("event: attempt\ndata: ").nth(1).unwrap().split("\n\n").next().unwrap();
    let row = row.replace("\ndata: ", "\n");
    let page = browser.page("/tail").await;
    let id = row.split('"').nth(1).unwrap();
    assert!(page.contains(&format!("<tr data-id=\"{id}\">")), "{page}");
    for line in row.lines().filter(|line| !line.contains("c-when")) {
        assert!(page.contains(line.trim()), "{line} in {page}");
    }
}

async fn the_page_is_complete_without_a_script(world: World) {
    let acme = world.app("Acme").await;
    let endpoint = world.endpoint(&acme, "https://a.example/hook").await;
    let browser = world.sign_in().await;
    assert!(browser.page("/tail").await.contains("No attempts yet"));
    happen(&world, &acme, &endpoint, "good.one", true).await;
    happen(&world, &acme, &endpoint, "bad.one", false).await;
    let page = browser.page("/tail").await;
    let place = |text: &str| page.find(text).unwrap_or_else(|| panic!("{text} in {page}"));
    assert!(place("<bdi>bad.one") < place("<bdi>good.one"), "the newest first");
    assert!(page.contains("<a id=\"tail-refresh\" href=\"/tail?\">Refresh</a>"));
    let page = browser.page("/tail?status=failed&type=bad.one").await;
    assert!(page.contains("<bdi>bad.one") && !page.contains("<bdi>good.one"));
    assert!(page.contains("data-events=\"/tail/events?type=bad.one&#38;status=failed\""), "{page}");
    let page = browser.page("/tail?app=nobody").await;
    assert!(page.contains("id=\"app-wrong\"") && !page.contains("<bdi>bad.one"), "{page}");
    assert_eq!(browser.get("/tail/events?app=nobody").await.0, StatusCode::NOT_FOUND);
}

async fn a_stream_ends_with_its_session_and_at_shutdown(world: World) {
    let browser = world.sign_in().await;
    let gone = world.sign_in().await;
    let lasting = Events::open(&browser, "/tail/events").await;
    let ending = Events::open(&gone, "/tail/events").await;
    let csrf = field(&gone.page("/").await, "csrf");
    gone.post("/logout", &[("csrf", csrf)]).await;
    ending.end(SOON).await;
    assert_eq!(gone.get("/tail/events").await.0, StatusCode::SEE_OTHER);

    world.feeds.close();
    lasting.end(Duration::from_secs(2)).await;
    let refused = world.request(Method::GET, "/tail/events").header("cookie", &browser.cookie).send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.headers()["retry-after"], "10");
}

async fn only_so_many_are_open_and_a_flood_is_cut_and_said(world: World) {
    let acme = world.app("Acme").await;
    let endpoint = world.endpoint(&acme, "https://a.example/hook").await;
    // Four of each session, and 32 in all.
    let mut open = Vec::new();
    for _ in 0..8 {
        let browser = world.sign_in().await;
        for _ in 0..4 {
            open.push(Events::open(&browser, "/tail/events").await);
        }
        let request = world.request(Method::GET, "/tail/events").header("cookie", &browser.cookie);
        assert_eq!(request.send().await.unwrap().status(), StatusCode::TOO_MANY_REQUESTS);
    }
    let browser = world.sign_in().await;
    let status = async || {
        let request = world.request(Method::GET, "/tail/events").header("cookie", &browser.cookie);
        request.send().await.unwrap().status()
    };
    assert_eq!(status().await, StatusCode::SERVICE_UNAVAILABLE);
    // All of one moment: they come in one batch.
    let now = Clock.now();
    let messages: Vec<_> =
        futures_util::future::join_all((0..120).map(|_| world.message(&acme, "a.b", "{}", now))).await;
    let all = messages.iter().map(|message| world.tries(message, &endpoint, [Try::delivered(now, 5)]));
    futures_util::future::join_all(all).await;
    let mut one = open.pop().unwrap();
    one.until("event: left-out\ndata: ").await;
    drop(one);
    drop(open);
    // A place is free again once the server notices; at the latest when it says that all is quiet.
    eventually("a free place", SOON, async || {
        tokio::time::sleep(MINUTE / 600).await;
        (status().await == StatusCode::OK).then_some(())
    })
    .await;
}
