//! Sending again in bulk: choose, see the count, send, watch, cancel; on both stores. What the engine does is done here step by step.

use reqwest::StatusCode;
use sendoff::domain::OrgId;
use sendoff::domain::application::Application;
use sendoff::domain::background::Stage;
use sendoff::domain::endpoint::{Endpoint, EndpointSpec};
use sendoff::domain::time::Clock;
use sendoff::store::jobs::job_lease::Stepped;
use sendoff::store::{Order, PageRequest, Tenant};

use crate::house::{Browser, House, MINUTE, Try, both, dead, location, retry};
use crate::pages::words;

/// An application with so many dead messages, minutes apart.
async fn failing(house: &House, name: &str, count: u32) -> (Application, Endpoint) {
    let app = house.app(name).await;
    let endpoint = house.endpoint(&app, &format!("https://{}.example/hook", name.to_lowercase())).await;
    for n in 0..count {
        let at = house.ago(MINUTE * (n + 1));
        let message = house.message(&app, if n % 2 == 0 { "even" } else { "odd" }, "{}", at).await;
        house.tries(&message, &endpoint, [Try::answered(at, 500, "", dead())]).await;
    }
    (app, endpoint)
}

/// The hidden fields of the button that states the count.
fn button(page: &str) -> Vec<(&str, String)> {
    let section = page.split("<section class=\"counted\"").nth(1).expect("a count").split("</form>").next().unwrap();
    let hidden = section.split("<input type=\"hidden\" name=\"").skip(1);
    hidden
        .map(|rest| {
            let (name, rest) = rest.split_once("\" value=\"").unwrap();
            (name, rest.split('"').next().unwrap().to_owned())
        })
        .collect()
}

/// One step of the background work, as an engine takes it.
async fn step(house: &House) -> Stepped {
    let turn = house.store.take_turn(Clock.now()).await.unwrap().expect("a turn");
    let stepped = house.store.step_background(turn, Clock.now()).await.unwrap();
    if let Stepped::More(turn) = stepped {
        house.store.end_turn(turn, Clock.now()).await.unwrap();
    }
    stepped
}

/// How many deliveries of the organization wait.
async fn pending(house: &House) -> i64 {
    house.store.pending_count(10_000).await.unwrap()
}

async fn press(browser: &Browser<'_>, page: &str) -> String {
    let response = browser.post("/resend", &button(page)).await;
    assert_eq!(response.status(), StatusCode::SEE_OTHER);
    location(&response).to_owned()
}

#[tokio::test]
async fn what_is_chosen_is_counted_and_sent_and_nothing_else() {
    for house in both().await {
        let (acme, acmes) = failing(&house, "Acme", 7).await;
        failing(&house, "Globex", 3).await;
        let message = house.message(&acme, "even", "{}", house.ago(MINUTE * 2)).await;
        let due = house.now.plus(MINUTE * 30);
        house.tries(&message, &acmes, [Try::answered(house.ago(MINUTE * 2), 503, "", retry(due, 1))]).await;
        let browser = house.sign_in().await;
        let empty = browser.page("/resend").await;
        assert!(empty.contains("Nothing was sent again in bulk yet") && !empty.contains("class=\"counted\""));
        let (app, endpoint) = (acme.id, acmes.id);
        let since = house.ago(MINUTE * 5).to_string();
        for (query, wanted) in [
            ("status=dead".to_owned(), "10 deliveries"),
            ("status=failed".to_owned(), "11 deliveries"),
            (format!("status=dead&app={app}"), "7 deliveries"),
            (format!("status=dead&endpoint={endpoint}"), "7 deliveries"),
            (format!("status=failed&app={app}&endpoint={endpoint}"), "8 deliveries"),
            (format!("status=dead&app={app}&type=odd"), "3 deliveries"),
            (format!("status=failed&class=5xx&since={since}"), "9 deliveries"),
            (format!("status=dead&since={since}"), "8 deliveries"),
            ("status=failed&class=4xx".to_owned(), ""),
            ("status=dead&range=1h".to_owned(), "10 deliveries"),
            ("status=dead&type=none".to_owned(), ""),
        ] {
            let page = browser.page(&format!("/resend?{query}").replace('+', "%2B")).await;
            match wanted {
                "" => assert!(page.contains("Nothing to send again"), "{query}: {}", words(&page)),
                wanted => assert!(page.contains(&format!(">Resend {wanted}</button>")), "{query}: {}", words(&page)),
            }
        }
        let page = browser.page(&format!("/resend?status=dead&app={app}&type=odd")).await;
        let path = press(&browser, &page).await;
        let running = browser.page(&path).await;
        let said = words(&running);
        for part in [
            "Resending 3 deliveries",
            "0 of about 3 made to be sent",
            "by an operator",
            "event type odd",
            "Cancel the other 3",
            "Refresh",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
        for part in
            ["<progress value=\"0\" max=\"3\"", "hx-trigger=\"every 2s\"", "<noscript><meta http-equiv=\"refresh\""]
        {
            assert!(running.contains(part), "{part}: {running}");
        }
        let before = pending(&house).await;
        assert!(matches!(step(&house).await, Stepped::Ended(Stage::Finished)));
        assert_eq!(pending(&house).await - before, 3);
        let done = browser.page(&path).await;
        assert!(words(&done).contains("Resent 3 deliveries"), "{}", words(&done));
        for part in ["hx-trigger", "http-equiv", "Cancel the"] {
            assert!(!done.contains(part), "{part}: it is over");
        }
        let list = words(&browser.page("/resend").await);
        assert!(list.contains("dead deliveries") && list.contains("finished") && list.contains(" 3 "), "{list}");
    }
}

#[tokio::test]
async fn what_is_missing_is_sent_within_an_application() {
    for house in both().await {
        let acme = house.app("Acme").await;
        for n in 0..4 {
            house.message(&acme, "a.b", "{}", house.ago(MINUTE * (n + 1))).await;
        }
        house.endpoint(&acme, "https://a.example/hook").await;
        let browser = house.sign_in().await;
        let (status, page) = browser.get("/resend?status=missing").await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(page.contains("id=\"app-wrong\">Choose an application"), "{page}");
        let page = browser.page(&format!("/resend?status=missing&app={}&range=24h", acme.id)).await;
        assert!(page.contains("Resend 4 deliveries") && page.contains("for the first time"));
        press(&browser, &page).await;
        assert!(matches!(step(&house).await, Stepped::Ended(Stage::Finished)));
        assert_eq!(pending(&house).await, 4);
    }
}

#[tokio::test]
async fn a_resend_is_canceled_once_and_what_it_did_stands() {
    for house in both().await {
        let (acme, _) = failing(&house, "Acme", 210).await;
        let browser = house.sign_in().await;
        let page = browser.page(&format!("/resend?status=dead&app={}&range=24h", acme.id)).await;
        assert!(page.contains("Resend 210 deliveries"));
        let path = press(&browser, &page).await;
        assert!(matches!(step(&house).await, Stepped::More(_)));
        let page = browser.page(&path).await;
        assert!(page.contains(">Cancel the other 10</button>") && page.contains("<progress value=\"200\" max=\"210\""));
        let cancel = format!("{path}/cancel");
        assert_eq!(browser.post(&cancel, &[("csrf", "x".into())]).await.status(), StatusCode::FORBIDDEN);
        let csrf = crate::house::field(&page, "csrf");
        let response = browser.post(&cancel, &[("csrf", csrf.clone())]).await;
        let said = words(&browser.page(location(&response)).await);
        assert!(
            said.contains("Canceled after 200 deliveries") && said.contains("Nothing more is made to be sent"),
            "{said}"
        );
        let response = browser.post(&cancel, &[("csrf", csrf)]).await;
        assert!(words(&browser.page(location(&response)).await).contains("It had ended already"));
        assert!(house.store.take_turn(Clock.now()).await.unwrap().is_none());
        assert_eq!(pending(&house).await, 200);
    }
}

#[tokio::test]
async fn wrong_choices_are_named_and_kept() {
    for house in both().await {
        let (acme, endpoint) = failing(&house, "Acme", 1).await;
        let asleep = EndpointSpec { url: "https://asleep.example/".into(), disabled: true, ..EndpointSpec::default() };
        let asleep = house.endpoint_with(&acme, asleep).await;
        let globex = house.app("Globex").await;
        let browser = house.sign_in().await;
        for (query, field, kept) in [
            ("status=odd".to_owned(), "status", ""),
            ("status=dead&app=nobody".to_owned(), "app", ""),
            ("status=dead&endpoint=nothing".to_owned(), "endpoint", "value=\"nothing\""),
            (format!("status=dead&app={}&endpoint={}", globex.id, endpoint.id), "endpoint", ""),
            (format!("status=dead&app={}&endpoint={}", acme.id, asleep.id), "endpoint", ""),
            ("status=dead&type=%3Cb%3E".to_owned(), "type", "&#60;b&#62;"),
            ("status=dead&class=6xx".to_owned(), "class", ""),
            ("status=dead&range=ever".to_owned(), "range", ""),
            ("status=dead&since=yesterday".to_owned(), "since", "yesterday"),
            (
                "status=dead&range=custom&since=2026-01-02T00:00&until=2026-01-01T00:00".to_owned(),
                "since",
                "2026-01-02T00:00:00",
            ),
            (format!("status=missing&app={}&class=500", acme.id), "class", ""),
        ] {
            let (status, page) = browser.get(&format!("/resend?{query}")).await;
            assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{query}");
            assert!(page.contains(&format!("id=\"{field}-wrong\"")), "{query}: {page}");
            assert!(page.contains(kept), "{query} keeps {kept}: {page}");
            let mut form: Vec<(&str, String)> = vec![("csrf", crate::house::field(&page, "csrf"))];
            let pairs: Vec<(String, String)> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
            form.extend(pairs.iter().map(|(name, value)| (name.as_str(), value.clone())));
            assert_eq!(browser.post("/resend", &form).await.status(), StatusCode::UNPROCESSABLE_ENTITY, "{query}");
        }
        let none = house.store.backgrounds(&house.tenant(), &[], None, &PageRequest::first(9, Order::Ascending)).await;
        assert!(none.unwrap().data.is_empty(), "nothing was begun");
    }
}

#[tokio::test]
async fn only_so_many_run_at_once_and_others_work_is_not_seen() {
    for house in both().await {
        let (acme, _) = failing(&house, "Acme", 2).await;
        let browser = house.sign_in().await;
        let page = browser.page(&format!("/resend?status=dead&app={}", acme.id)).await;
        for _ in 0..5 {
            press(&browser, &page).await;
        }
        let response = browser.post("/resend", &button(&page)).await;
        assert_eq!(response.status(), StatusCode::CONFLICT);
        assert!(response.text().await.unwrap().contains("5 resends are running here already"));

        let strangers = Tenant::org("org_strangers".parse::<OrgId>().unwrap());
        let theirs = house.app_of(&strangers, "Theirs").await;
        house.endpoint(&theirs, "https://theirs.example/").await;
        let scope = sendoff::domain::background::Scope::Application(theirs.id);
        let spec = sendoff::store::jobs::background::BackgroundSpec {
            kind: sendoff::domain::background::Kind::Recover,
            scope,
            filter: Default::default(),
            by: "a stranger".into(),
            total: None,
        };
        let begun = house.store.begin_background(&strangers, spec, Clock.now()).await.unwrap();
        let sendoff::store::jobs::background::Begun::Begun(work) = begun else { panic!("{begun:?}") };
        assert_eq!(browser.get(&format!("/resend/{}", work.id)).await.0, StatusCode::NOT_FOUND);
        assert!(!browser.page("/resend").await.contains("a stranger"));
        let (status, page) = browser.get(&format!("/resend?status=dead&app={}", theirs.id)).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{page}");
        let csrf = crate::house::field(&page, "csrf");
        browser.post(&format!("/resend/{}/cancel", work.id), &[("csrf", csrf)]).await;
        let still = house.store.background(&strangers, work.id).await.unwrap().unwrap();
        assert_eq!(still.stage, Stage::Running);
    }
}
