//! What people come for: find a failed delivery, understand it, send it again, see it delivered. With the real binary and a real
//! receiver, by pointer and by keyboard, with JavaScript and without, on a phone and on a wide screen.

use serde_json::json;
use thirtyfour::Key;

use crate::driver::{Browser, Kind, WIDTHS};
use crate::support::{Answer, Binary, Receiver, SOON, Server, eventually, sqlite_file};

/// A running Sendoff, an application with one endpoint, and its receiver.
pub struct Team {
    server: Server,
    receiver: Receiver,
    _file: crate::support::SqliteFile,
}

impl Team {
    /// Nothing has been sent yet.
    pub async fn well() -> Team {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (file, receiver) = (sqlite_file(), Receiver::start(|_| Answer::ok()));
        // One wait, so that the second failure is the last.
        let server = Binary::on(&file.url()).set("SENDOFF_RETRY_SCHEDULE", "1s").serve();
        let team = Team { server, receiver, _file: file };
        team.call("/app", json!({"name": "Acme GmbH", "uid": "acme"})).await;
        team.call("/app/acme/endpoint", json!({"url": team.receiver.url("/hook")})).await;
        team
    }

    /// One delivery is dead; the receiver is well by now.
    async fn in_trouble() -> Team {
        let team = Team::well().await;
        team.dead_messages([("invoice.paid", json!({"amount": 4200}))]).await;
        team
    }

    async fn call(&self, path: &str, body: serde_json::Value) {
        let url = format!("{}/api/v1{path}", self.server.url());
        let request = reqwest::Client::new().post(url).bearer_auth(self.server.token());
        let answer = request.header("content-type", "application/json").body(body.to_string()).send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.text().await.unwrap());
    }

    /// Sends messages that fail until they are dead. Then the receiver is well again.
    pub async fn dead_messages(&self, messages: impl IntoIterator<Item = (&str, serde_json::Value)>) {
        let mut attempts = self.receiver.count();
        self.receiver.answer_with(|_| Answer::status(500).body("the database is locked"));
        for (event_type, payload) in messages {
            attempts += 2;
            self.call("/app/acme/msg", json!({"eventType": event_type, "payload": payload})).await;
        }
        eventually("all attempts arrive", SOON, async || (self.receiver.count() == attempts).then_some(())).await;
        self.receiver.answer_with(|_| Answer::ok());
    }

    pub async fn sign_in(&self, browser: &Browser) {
        let link = self.server.binary().run(&["login-link"]).stdout.trim().to_owned();
        let path = link.split_once("/login").map(|(_, rest)| format!("/login{rest}")).expect("a link");
        browser.goto(format!("{}{path}", self.server.url())).await.unwrap();
        browser.element("main form button").await.click().await.unwrap();
        browser.until_it_says("In the last hour").await;
    }

    /// Lets a customer into the portal, as the team's server and the customer's browser do.
    pub async fn let_in(&self, browser: &Browser) {
        let url = format!("{}/api/v1/auth/app-portal-access/acme", self.server.url());
        let request = reqwest::Client::new().post(url).bearer_auth(self.server.token());
        let answer = request.header("content-type", "application/json").body("{}").send().await.unwrap();
        let text = answer.text().await.unwrap();
        let access: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        browser.goto(access["url"].as_str().expect("a link")).await.unwrap();
        browser.element("main form button").await.click().await.unwrap();
        browser.until_it_says("Endpoints of Acme GmbH").await;
    }

    async fn resent(&self) {
        eventually("the third attempt arrives", SOON, async || (self.receiver.count() == 3).then_some(())).await;
    }
}

/// Reloads until the page says so: what one does without a script.
pub async fn reload_until(browser: &Browser, words: &str) {
    let start = std::time::Instant::now();
    while !browser.text().await.contains(words) {
        assert!(start.elapsed() < SOON, "{words:?} is not said:\n{}", browser.text().await);
        browser.refresh().await.unwrap();
    }
}

#[tokio::test]
async fn operators_and_customers_find_a_failed_delivery_understand_it_resend_it_and_see_it_delivered() {
    for (width, customer) in WIDTHS.into_iter().flat_map(|width| [(width, false), (width, true)]) {
        for javascript in [true, false] {
            let team = Team::in_trouble().await;
            let browser = Browser::open(Kind { javascript, ..Kind::of_width(width) }).await;
            if customer {
                team.let_in(&browser).await
            } else {
                team.sign_in(&browser).await
            }
            let scripts = browser.eval("document.querySelectorAll('.copy').length + document.querySelectorAll('p[role=status].unseen').length").await;
            assert_eq!(scripts != 0, javascript, "JavaScript is {}", if javascript { "on" } else { "off" });

            // The sentence leads to what is dead, and that to the message.
            browser.element("h1 a.dead").await.click().await.unwrap();
            browser.until_it_says("invoice.paid").await;
            browser.element(".c-main a").await.click().await.unwrap();
            browser.until_it_says("500 Internal Server Error").await;
            assert!(browser.text().await.contains("Check its log at this time"), "{}", browser.text().await);
            assert!(browser.text().await.contains("the database is locked"), "the answer is open to see");

            browser.element(".card form[action$='/resend'] button").await.click().await.unwrap();
            browser.until_it_says("Resent.").await;
            team.resent().await;
            reload_until(&browser, "manual resend").await;
            assert!(browser.text().await.contains("delivered"));
            assert_eq!(browser.complaints().await, Vec::<String>::new());
            browser.close().await;
        }
    }
}

#[tokio::test]
async fn the_same_is_done_without_a_mouse() {
    let team = Team::in_trouble().await;
    let browser = Browser::open(Kind::WIDE).await;
    team.sign_in(&browser).await;
    let focused = async |what: &str| browser.eval(&format!("document.activeElement.matches({})", json!(what))).await;

    browser.until_it_is_at("^/$").await;
    // The chart is one stop; the last bar is not complete yet.
    let readout = "document.querySelector('.readout').textContent";
    assert_eq!(
        browser.eval("document.querySelectorAll('.bars')[0].querySelectorAll('a[tabindex=\"0\"]').length").await,
        1
    );
    browser.eval("document.querySelector('.bars a[tabindex=\"0\"]').focus()").await;
    let last = browser.eval(readout).await;
    assert!(last.as_str().unwrap().contains("1 failed and retried, 1 dead"), "{last}");
    browser.keys(Key::Home + "").await;
    assert_eq!(focused(".bars a:first-of-type").await, true, "the first bar");
    browser.eval("document.activeElement.blur()").await;
    assert_ne!(browser.eval(readout).await, last, "the totals again");
    browser.keys("?").await;
    browser.until_it_says("Keyboard shortcuts").await;
    browser.keys(Key::Escape + "").await;
    browser.keys("gd").await;
    browser.until_it_is_at("^/deliveries$").await;
    browser.keys("j").await;
    assert_eq!(focused(".c-main a").await, true, "j goes to the first row");
    let outline = "getComputedStyle(document.activeElement).outlineStyle !== 'none'";
    assert_eq!(browser.eval(outline).await, true, "one sees where one is");
    browser.keys(Key::Enter + "").await;
    browser.until_it_is_at("/messages/msg_").await;
    browser.until_it_says("500 Internal Server Error").await;
    browser.keys("r").await;
    browser.element("dialog[open]").await;
    assert_eq!(focused("dialog button").await, true, "the question has the focus");
    browser.keys(Key::Enter + "").await;
    browser.until_it_says("Resent.").await;
    team.resent().await;
    browser.close().await;
}

#[tokio::test]
async fn colours_and_clock_are_chosen_and_kept_without_a_script() {
    let story = crate::story::Story::told().await;
    let browser = Browser::open(Kind { javascript: false, ..Kind::WIDE }).await;
    story.enter(&browser).await;
    let ground = "getComputedStyle(document.body).backgroundColor";
    let light = browser.eval(ground).await;
    browser.element(".menu summary").await.click().await.unwrap();
    browser.element("button[name=theme][value=dark]").await.click().await.unwrap();
    browser.element("html[data-theme=dark]").await;
    assert_ne!(browser.eval(ground).await, light, "dark by choice although the system is light");
    browser.goto(story.url("/outbox")).await.unwrap();
    assert_eq!(browser.eval("document.documentElement.dataset.theme").await, "dark", "on the next page too");
    browser.close().await;
}
