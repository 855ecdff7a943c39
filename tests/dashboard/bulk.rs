//! Sending again in bulk: choose, see the count, send, watch, cancel; on both stores. What the engine does is done here step by step.

use reqwest::StatusCode;
use sendoff::domain::OrgId;
use sendoff::domain::catalog::application::Application;
use sendoff::domain::catalog::endpoint::{Endpoint, EndpointSpec};
use sendoff::domain::deliveries::background::TaskStage;
use sendoff::domain::deliveries::message::MessageSpec;
use sendoff::domain::time::Clock;
use sendoff::store::ingest::accept::AcceptItem;
use sendoff::store::jobs::job_lease::StepResult;
use sendoff::store::{Order, PageRequest, Tenant};

use crate::pages::{link, rows, words};
use crate::support::on_both;
use crate::world::{Browser, MINUTE, Try, World, dead, field, location, retry};

on_both! {
    only_selected_deliveries_are_counted_and_sent
    missing_messages_of_an_application_are_sent
    a_resend_is_canceled_once_and_what_it_did_stands
    wrong_choices_are_named_and_kept
    only_so_many_run_at_once_and_others_work_is_not_seen
    a_list_and_its_resend_are_one_query
    deliveries_that_cannot_be_sent_are_named_and_not_counted
    selected_deliveries_are_canceled_together
}

/// An application with so many dead messages, minutes apart.
async fn failing(world: &World, name: &str, count: u32) -> (Application, Endpoint) {
    let app = world.app(name).await;
    let endpoint = world.endpoint(&app, &format!("https://{}.example/hook", name.to_lowercase())).await;
    for n in 0..count {
        let at = world.ago(MINUTE * (n + 1));
        let message = world.message(&app, if n % 2 == 0 { "even" } else { "odd" }, "{}", at).await;
        world.tries(&message, &endpoint, [Try::answered(at, 500, "", dead())]).await;
    }
    (app, endpoint)
}

/// The hidden fields of the button that states the count.
fn button(page: &str) -> Vec<(&str, String)> {
    let section =
        page.split("<section class=\"match-count\"").nth(1).expect("a count").split("</form>").next().unwrap();
    let hidden = section.split("<input type=\"hidden\" name=\"").skip(1);
    hidden
        .map(|rest| {
            let (name, rest) = rest.split_once("\" value=\"").unwrap();
            (name, rest.split('"').next().unwrap().to_owned())
        })
        .collect()
}

/// One step of the background work, as an engine takes it.
async fn step(world: &World) -> StepResult {
    let turn = world.store.lease_background(Clock.now()).await.unwrap().expect("a turn");
    let stepped = world.store.step_background(turn, Clock.now()).await.unwrap();
    if let StepResult::More(turn) = stepped {
        world.store.release_background(turn, Clock.now()).await.unwrap();
    }
    stepped
}

/// How many deliveries of the organization wait.
async fn pending(world: &World) -> i64 {
    world.store.pending_count(10_000).await.unwrap()
}

async fn press(browser: &Browser<'_>, page: &str) -> String {
    let response = browser.post("/resend", &button(page)).await;
    assert_eq!(response.status(), StatusCode::SEE_OTHER);
    location(&response).to_owned()
}

async fn only_selected_deliveries_are_counted_and_sent(world: World) {
    let (acme, acmes) = failing(&world, "Acme", 7).await;
    failing(&world, "Globex", 3).await;
    let message = world.message(&acme, "even", "{}", world.ago(MINUTE * 2)).await;
    let due = world.now.plus(MINUTE * 30);
    world.tries(&message, &acmes, [Try::answered(world.ago(MINUTE * 2), 503, "", retry(due, 1))]).await;
    let browser = world.sign_in().await;
    let empty = browser.page("/resend").await;
    assert!(empty.contains("No resends yet") && !empty.contains("class=\"match-count\""));
    let (app, endpoint) = (acme.id, acmes.id);
    let since = world.ago(MINUTE * 5).to_string();
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
        ("status=dead&since=1h".to_owned(), "10 deliveries"),
        ("status=dead&type=none".to_owned(), ""),
    ] {
        let page = browser.page(&format!("/resend?{query}").replace('+', "%2B")).await;
        match wanted {
            "" => assert!(page.contains("Nothing to resend"), "{query}: {}", words(&page)),
            wanted => assert!(page.contains(&format!(">Resend {wanted}</button>")), "{query}: {}", words(&page)),
        }
    }
    let page = browser.page(&format!("/resend?status=dead&app={app}&type=odd")).await;
    let path = press(&browser, &page).await;
    let running = browser.page(&path).await;
    let said = words(&running);
    for part in [
        "Resending 3 deliveries",
        "0 of about 3 queued",
        "by an operator",
        "event type odd",
        "Cancel remaining 3",
        "Refresh",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    for part in ["<progress value=\"0\" max=\"3\"", "data-refresh=\"2\"", "<noscript><meta http-equiv=\"refresh\""] {
        assert!(running.contains(part), "{part}: {running}");
    }
    let before = pending(&world).await;
    assert!(matches!(step(&world).await, StepResult::Ended(TaskStage::Finished)));
    assert_eq!(pending(&world).await - before, 3);
    let done = browser.page(&path).await;
    assert!(words(&done).contains("Resent 3 deliveries"), "{}", words(&done));
    assert!(!done.contains("Cancel remaining") && done.contains("data-refresh"), "they are sent soon: {done}");
    crate::world::execute(&world, "UPDATE due SET due_at = due_at + 3600000000").await;
    let done = browser.page(&path).await;
    assert!(!done.contains("data-refresh") && !done.contains("http-equiv"), "it is over: {done}");
    let list = words(&browser.page("/resend").await);
    assert!(list.contains("dead deliveries") && list.contains("finished") && list.contains(" 3 "), "{list}");
}

async fn missing_messages_of_an_application_are_sent(world: World) {
    let acme = world.app("Acme").await;
    for n in 0..4 {
        world.message(&acme, "a.b", "{}", world.ago(MINUTE * (n + 1))).await;
    }
    world.endpoint(&acme, "https://a.example/hook").await;
    let browser = world.sign_in().await;
    let (status, page) = browser.get("/resend?status=missing").await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(page.contains("id=\"w-app\">Choose an application"), "{page}");
    let page = browser.page(&format!("/resend?status=missing&app={}&since=24h", acme.id)).await;
    assert!(page.contains(">Send 4 deliveries</button>") && page.contains("for the first time"));
    press(&browser, &page).await;
    assert!(matches!(step(&world).await, StepResult::Ended(TaskStage::Finished)));
    assert_eq!(pending(&world).await, 4);
}

async fn a_resend_is_canceled_once_and_what_it_did_stands(world: World) {
    let (acme, _) = failing(&world, "Acme", 210).await;
    let browser = world.sign_in().await;
    let page = browser.page(&format!("/resend?status=dead&app={}&since=24h", acme.id)).await;
    assert!(page.contains("Resend 210 deliveries"));
    let path = press(&browser, &page).await;
    assert!(matches!(step(&world).await, StepResult::More(_)));
    let page = browser.page(&path).await;
    assert!(page.contains(">Cancel remaining 10</button>") && page.contains("<progress value=\"200\" max=\"210\""));
    let cancel = format!("{path}/cancel");
    assert_eq!(browser.post(&cancel, &[("csrf", "x".into())]).await.status(), StatusCode::FORBIDDEN);
    let csrf = crate::world::field(&page, "csrf");
    let response = browser.post(&cancel, &[("csrf", csrf.clone())]).await;
    let said = words(&browser.page(location(&response)).await);
    assert!(
        said.contains("Canceled after 200 deliveries") && said.contains("No further deliveries are queued"),
        "{said}"
    );
    let response = browser.post(&cancel, &[("csrf", csrf)]).await;
    assert!(words(&browser.page(location(&response)).await).contains("It had already ended"));
    assert!(world.store.lease_background(Clock.now()).await.unwrap().is_none());
    assert_eq!(pending(&world).await, 200);
}

async fn wrong_choices_are_named_and_kept(world: World) {
    let (acme, _) = failing(&world, "Acme", 1).await;
    let asleep = EndpointSpec { url: "https://asleep.example/".into(), disabled: true, ..EndpointSpec::default() };
    let asleep = world.endpoint_with(&acme, asleep).await;
    let browser = world.sign_in().await;
    for (query, field, kept) in [
        ("status=odd".to_owned(), "status", ""),
        ("type=a.b".to_owned(), "status", "value=\"a.b\""),
        ("status=dead&app=nobody".to_owned(), "app", "value=\"nobody\""),
        ("status=dead&endpoint=nothing".to_owned(), "endpoint", "value=\"nothing\""),
        (format!("status=missing&app={}&endpoint={}", acme.id, asleep.id), "endpoint", ""),
        ("status=dead&type=%3Cb%3E".to_owned(), "type", "&#60;b&#62;"),
        ("status=dead&class=6xx".to_owned(), "class", ""),
        ("status=dead&since=yesterday".to_owned(), "since", "yesterday"),
        ("status=dead&since=2026-01-02T00:00&until=2026-01-01T00:00".to_owned(), "until", "2026-01-02T00:00"),
        (format!("status=missing&app={}&class=5xx", acme.id), "class", ""),
        (format!("status=missing&app={}&q=x", acme.id), "q", ""),
        ("status=missing".to_owned(), "app", ""),
    ] {
        let (status, page) = browser.get(&format!("/resend?{query}")).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{query}");
        assert!(page.contains(&format!("id=\"w-{field}\"")), "{query}: {page}");
        assert!(page.contains(kept), "{query} keeps {kept}: {page}");
        let mut form: Vec<(&str, String)> = vec![("csrf", crate::world::field(&page, "csrf"))];
        let pairs: Vec<(String, String)> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        form.extend(pairs.iter().map(|(name, value)| (name.as_str(), value.clone())));
        assert_eq!(browser.post("/resend", &form).await.status(), StatusCode::UNPROCESSABLE_ENTITY, "{query}");
    }
    let none = world.store.backgrounds(&world.tenant(), &[], None, &PageRequest::first(9, Order::Ascending)).await;
    assert!(none.unwrap().data.is_empty(), "nothing was begun");
}

async fn only_so_many_run_at_once_and_others_work_is_not_seen(world: World) {
    let (acme, _) = failing(&world, "Acme", 2).await;
    let browser = world.sign_in().await;
    let path = format!("/resend?status=dead&app={}", acme.id);
    for _ in 0..5 {
        press(&browser, &browser.page(&path).await).await;
    }
    let response = browser.post("/resend", &button(&browser.page(&path).await)).await;
    assert_eq!(response.status(), StatusCode::CONFLICT);
    assert!(response.text().await.unwrap().contains("5 resends are already running"));

    let strangers = Tenant::org("org_strangers".parse::<OrgId>().unwrap());
    let theirs = world.app_of(&strangers, "Theirs").await;
    world.endpoint(&theirs, "https://theirs.example/").await;
    let scope = sendoff::domain::deliveries::background::TaskScope::Application(theirs.id);
    let spec = sendoff::store::jobs::background::BackgroundSpec {
        kind: sendoff::domain::deliveries::background::TaskKind::Recover,
        scope,
        selection: sendoff::store::jobs::background::TaskSelection::Messages(Default::default()),
        by: "a stranger".into(),
        total: None,
    };
    let begun = world.store.start_background(&strangers, spec, Clock.now()).await.unwrap();
    let sendoff::store::jobs::background::StartResult::Started(work) = begun else { panic!("{begun:?}") };
    assert_eq!(browser.get(&format!("/resend/{}", work.id)).await.0, StatusCode::NOT_FOUND);
    assert!(!browser.page("/resend").await.contains("a stranger"));
    let (status, page) = browser.get(&format!("/resend?status=dead&app={}", theirs.id)).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{page}");
    let csrf = crate::world::field(&page, "csrf");
    browser.post(&format!("/resend/{}/cancel", work.id), &[("csrf", csrf)]).await;
    let still = world.store.background(&strangers, work.id).await.unwrap().unwrap();
    assert_eq!(still.stage, TaskStage::Running);
}

/// Acme's deliveries: 4 dead, 2 being retried, 1 scheduled, in three event types; and one of another application.
async fn mixed(world: &World) -> (Application, Endpoint) {
    let (acme, globex) = (world.app("Acme").await, world.app("Globex").await);
    let endpoint = world.endpoint(&acme, "https://acme.example/hook").await;
    let elsewhere = world.endpoint(&globex, "https://globex.example/hook").await;
    let due = world.now.plus(MINUTE * 30);
    for (n, (name, minutes, next)) in [
        ("a", 5, dead()),
        ("b", 6, dead()),
        ("c", 7, dead()),
        ("a", 90, dead()),
        ("b", 8, retry(due, 1)),
        ("c", 9, retry(due, 1)),
    ]
    .into_iter()
    .enumerate()
    {
        let at = world.ago(MINUTE * minutes);
        let message = world.message(&acme, name, format!("{{\"n\": {n}}}"), at).await;
        world.tries(&message, &endpoint, [Try::answered(at, if n == 1 { 404 } else { 500 }, "", next)]).await;
    }
    let at = world.ago(MINUTE * 5);
    let message = world.message(&globex, "a", "{\"n\": 0}", at).await;
    world.tries(&message, &elsewhere, [Try::answered(at, 500, "", dead())]).await;
    let spec =
        MessageSpec { event_type: "a".into(), payload: "{}".into(), deliver_at: Some(due), ..MessageSpec::default() };
    let (tenant, at) = (Some(world.tenant()), world.ago(MINUTE));
    let item =
        AcceptItem { tenant, app: acme.id.into(), only_endpoint: None, spec, at, idempotency_key: None, audit: None };
    world.store.accept(item).await.unwrap().unwrap();
    (acme, endpoint)
}

/// What the filter of a list shows, the button of its resend says, and the resend sends.
async fn a_list_and_its_resend_are_one_query(world: World) {
    let (acme, endpoint) = mixed(&world).await;
    let operator = world.sign_in().await;
    let customer = world.portal_session(&acme, None, &[]).await;
    let (id, at) = (acme.id, endpoint.id);
    for (portal, list, listed, button) in [
        (false, "/deliveries?status=dead&q=%22n%22%3A+0".to_owned(), 2, "Resend 2 deliveries"),
        (false, "/deliveries?status=dead&type=a&type=b".to_owned(), 4, "Resend 4 deliveries"),
        (false, "/deliveries?status=dead&type=a,+c&app=acme".to_owned(), 3, "Resend 3 deliveries"),
        (false, "/deliveries?status=dead&since=1h".to_owned(), 4, "Resend 4 deliveries"),
        (false, "/deliveries?status=dead&since=2h&until=1h".to_owned(), 1, "Resend 1 delivery"),
        (false, "/deliveries?status=dead&class=4xx".to_owned(), 1, "Resend 1 delivery"),
        (false, format!("/deliveries?status=failed&endpoint={at}"), 6, "Resend 6 deliveries"),
        (false, "/deliveries?status=retrying".to_owned(), 2, "Resend 2 deliveries"),
        (false, "/deliveries?status=pending".to_owned(), 1, "Send 1 delivery now"),
        (false, format!("/applications/{id}/deliveries?status=failed&type=b"), 2, "Resend 2 deliveries"),
        (true, "/portal/deliveries?status=failed&q=%22n%22%3A+0".to_owned(), 1, "Resend 1 delivery"),
        (true, "/portal/deliveries?status=dead".to_owned(), 4, "Resend 4 deliveries"),
        (true, "/portal/deliveries?status=pending".to_owned(), 1, "Send 1 delivery now"),
    ] {
        let browser = if portal { &customer } else { &operator };
        let page = browser.page(&list).await;
        assert_eq!(rows(&page), listed, "{list}");
        let name = if list.contains("pending") { "Send all now…" } else { "Resend all…" };
        let resend = link(&page, name).unwrap_or_else(|| panic!("{list}: no link in {page}"));
        let page = browser.page(&resend).await;
        assert!(page.contains(&format!(">{button}</button>")), "{list}, {resend}: {}", words(&page));
    }
    for list in ["/deliveries", "/deliveries?status=canceled", "/deliveries?status=dead&type=none"] {
        assert!(!operator.page(list).await.contains("all of these"), "{list}: nothing to send");
    }
    // What one of them sends is what was listed, and the page says what came of it.
    let page = operator.page("/resend?status=dead&type=a&type=b&since=1h").await;
    assert!(page.contains(">Resend 3 deliveries</button>"), "{}", words(&page));
    let path = press(&operator, &page).await;
    assert!(matches!(step(&world).await, StepResult::Ended(TaskStage::Finished)));
    let done = operator.page(&path).await;
    assert!(words(&done).contains("Outcome 3 waiting or retrying"), "{}", words(&done));
    let all = link(&done, "View deliveries").unwrap();
    let page = operator.page(&all).await;
    assert_eq!(rows(&page), 3, "{all}");
    assert!(page.contains("Resend: <span><bdi>qtask_"), "a chip takes it away: {page}");
    let id = all.split("resend=").nth(1).unwrap().to_owned();
    assert_eq!(rows(&operator.page(&format!("/deliveries?resend={id}&type=b")).await), 1);
    assert!(link(&done, "3 waiting or retrying").unwrap().ends_with("&status=retrying"));
    let stranger = world.portal_session(&world.app("Stranger").await, None, &[]).await;
    assert_eq!(stranger.get(&format!("/portal/deliveries?resend={id}")).await.0, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(operator.get("/deliveries?resend=qtask_x").await.0, StatusCode::UNPROCESSABLE_ENTITY);
}

/// Not all that is listed can be sent: the page says how many cannot, and why.
async fn deliveries_that_cannot_be_sent_are_named_and_not_counted(world: World) {
    let (acme, endpoint) = failing(&world, "Acme", 3).await;
    let gone = world.message(&acme, "even", "{}", world.ago(MINUTE * 20)).await;
    world.tries(&gone, &endpoint, [Try::answered(world.ago(MINUTE * 20), 500, "", dead())]).await;
    assert!(world.store.delete_content(&world.tenant(), acme.id, gone.id, world.now).await.unwrap());
    failing(&world, "Globex", 2).await;
    let browser = world.sign_in().await;
    let said = words(&browser.page("/resend?status=dead").await);
    assert!(
        said.contains("6 deliveries match. Not included: 1 deleted: the content or the endpoint no longer exists"),
        "{said}"
    );
    assert!(said.contains("Resend 5 deliveries"), "{said}");
    let off = EndpointSpec { disabled: true, ..endpoint.spec.clone() };
    world.store.update_endpoint(&world.tenant(), &endpoint, off, world.now).await.unwrap();
    let said = words(&browser.page("/resend?status=dead").await);
    assert!(said.contains("3 on hold: the endpoint is disabled") && said.contains("Resend 2 deliveries"), "{said}");
    world.message(&world.app("Initech").await, "a", "{}", world.now).await;
    let said = words(&browser.page(&format!("/resend?status=dead&app={}", acme.id)).await);
    assert!(said.contains("Nothing to resend") && !said.contains("Resend 0"), "{said}");
}

/// Rows of a list that are pending are canceled together, and the list says what became of each.
async fn selected_deliveries_are_canceled_together(world: World) {
    let acme = world.app("Acme").await;
    let endpoint = world.endpoint(&acme, "https://a.example/hook").await;
    let mut rows = Vec::new();
    for tries in [
        vec![],
        vec![Try::answered(world.now, 503, "", retry(world.now.plus(MINUTE), 1))],
        vec![Try::answered(world.now, 500, "", dead())],
        vec![],
    ] {
        let message = world.message(&acme, "a.b", "{}", world.now).await;
        world.tries(&message, &endpoint, tries).await;
        rows.push(format!("{}.{}", message.id, endpoint.id));
    }
    let left_alone = rows.pop().unwrap();
    let browser = world.sign_in().await;
    let list = browser.page("/deliveries").await;
    assert!(
        list.contains("formaction=\"/cancel\" data-counted=\"Cancel {} selected…\">Cancel selected…")
            && list.contains(&format!("value=\"{}\"", rows[0]))
    );
    let query = rows.iter().map(|row| format!("row={row}")).collect::<Vec<_>>().join("&");
    let page = browser.page(&format!("/cancel?{query}")).await;
    let said = words(&page);
    assert!(said.contains("Cancel 2 deliveries?") && said.contains("stay as they are: 1 delivery."), "{said}");
    let form = |page: &str, rows: &[String]| {
        let rows = rows.iter().map(|row| ("row", row.clone()));
        rows.chain([("csrf", field(page, "csrf"))]).collect::<Vec<_>>()
    };
    // Another customer cancels nothing of Acme's.
    let globex = world.app("Globex").await;
    let stranger = world.portal_session(&globex, None, &[]).await;
    let theirs = stranger.page("/portal/deliveries").await;
    let refused = stranger.post("/portal/cancel", &form(&theirs, &rows)).await;
    assert!(location(&refused).ends_with("&notice=selection-not-canceled"), "{}", location(&refused));
    let empty = stranger.page(&format!("/portal/cancel?{query}")).await;
    assert!(empty.contains("Nothing to cancel") && !empty.contains("a.b"), "{empty}");
    assert_eq!(pending(&world).await, 3);

    let done = browser.post("/cancel", &form(&page, &rows)).await;
    assert_eq!((done.status(), pending(&world).await), (StatusCode::SEE_OTHER, 1));
    let outcome = browser.page(location(&done)).await;
    assert_eq!((self::rows(&outcome), outcome.matches("badge canceled").count()), (3, 2), "{outcome}");
    assert!(
        outcome.contains("badge dead") && words(&outcome).contains("Canceled. These are the selected"),
        "{outcome}"
    );
    let again = browser.post("/cancel", &form(&page, &rows)).await;
    assert!(location(&again).ends_with("&notice=selection-not-canceled"), "{}", location(&again));
    assert!(words(&browser.page(location(&again)).await).contains("Nothing canceled."));
    assert!(browser.page(&format!("/cancel?{query}")).await.contains("Nothing to cancel"));
    for wrong in ["/cancel", "/cancel?row=x", "/cancel?row="] {
        assert_eq!(browser.get(wrong).await.0, StatusCode::BAD_REQUEST, "{wrong}");
    }
    let customer = world.portal_session(&acme, None, &[]).await;
    let page = customer.page(&format!("/portal/cancel?row={left_alone}")).await;
    let done = customer.post("/portal/cancel", &form(&page, &[left_alone])).await;
    assert!(location(&done).starts_with("/portal/deliveries?row=") && pending(&world).await == 0);
}
