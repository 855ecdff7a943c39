//! What others wrote, in each field that is shown anywhere: 200 payloads of each family. In a browser nothing of it runs, asks the
//! network for anything, becomes an element, or makes a page wider than its screen.

use std::time::Duration;

use sendoff::domain::deliveries::attempt::{Failure, Outcome};
use sendoff::domain::deliveries::delivery::Transition;

use crate::driver::{Browser, Kind, WIDTHS};
use crate::story::Story;
use crate::world::{MINUTE, Try, World, at, dead, execute, retry};

/// What would be seen if anything of it ran.
const CANARY: &str = "window.__ran=1;document.title='ran'";

/// The payloads: each family in as many disguises as make 200.
pub fn payloads() -> Vec<String> {
    let tags = ["script", "img", "svg", "iframe", "style", "object", "math", "body", "video", "details"];
    let events = [
        "onerror",
        "onload",
        "onclick",
        "onfocus autofocus tabindex=1",
        "ontoggle open",
        "onanimationstart",
        "onmouseover",
    ];
    let breaks = ["", "\">", "'>", "-->", "</title>", "</textarea>", "</script>", "]]>", "\u{0}", "`>"];
    let mut all: Vec<String> = Vec::new();
    for (n, tag) in tags.iter().enumerate() {
        all.extend(breaks.iter().map(|out| format!("{out}<{tag}>{CANARY}</{tag}>")));
        all.push(format!("<{tag} src=x {}=\"{CANARY}\">", events[n % events.len()]));
    }
    for event in events {
        all.push(format!("\" {event}={CANARY} x=\""));
        all.push(format!("<svg/{event}={CANARY}//"));
        all.push(format!("' {event}='{CANARY}"));
    }
    for scheme in [
        "javascript:",
        "JaVaScRiPt:",
        "java\tscript:",
        " javascript:",
        "data:text/html,",
        "vbscript:",
        "\u{1}javascript:",
    ] {
        all.push(format!("{scheme}{CANARY}"));
        all.push(format!("<a href=\"{scheme}{CANARY}\">x</a>"));
    }
    for template in
        ["{{ 7 * 7 }}", "{% raw %}", "${7*7}", "#{7*7}", "<%= 7*7 %>", "{{constructor.constructor('x')()}}", "[[7*7]]"]
    {
        all.push(template.to_owned());
    }
    for control in
        ["\u{1b}[31mred", "a\u{7}b", "a\u{8}\u{8}b", "a\r\nb", "\u{feff}a", "a\u{2028}b", "\u{85}", "a\u{0}b"]
    {
        all.push(control.to_owned());
    }
    for turn in
        ["\u{202e}exe.gnp", "\u{2066}\u{202e}abc", "\u{200f}abc", "a\u{202d}b", "\u{61c}abc", "مرحبا \u{202e}abc"]
    {
        all.push(turn.to_owned());
    }
    for count in [1, 40, 400] {
        all.push(format!("Z{}", "\u{310}\u{35b}".repeat(count)));
        all.push("W".repeat(count));
        all.push("\u{fdfd}".repeat(count));
        all.push("ش".repeat(count));
    }
    all.push("<meta http-equiv=refresh content=0;url=//evil.example>".into());
    all.push("<link rel=stylesheet href=//evil.example>".into());
    all.push("<base href=//evil.example>".into());
    all.push("<form action=//evil.example><button autofocus>x</form>".into());
    all.push("<div data-refresh=\"0\">x</div>".into());
    let known = all.len();
    for n in 0..200usize.saturating_sub(known) {
        let (tag, out) = (tags[n % tags.len()], breaks[n % breaks.len()]);
        all.push(format!("{out}&lt;{tag}&gt;%3C{tag}%3E\\u003c{tag}\\x3e<{tag}/x={n}>{CANARY}"));
    }
    all
}

/// Text as SQL writes it; PostgreSQL is not asked here, and SQLite takes everything but NUL.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\0', "").replace('\'', "''"))
}

/// A world in which every text that came from outside is one of the payloads.
async fn infest(payloads: &[String]) -> Story {
    let story = Story::told().await;
    let world = &story.world;
    for (n, payload) in payloads.iter().enumerate() {
        let at = world.ago(MINUTE + Duration::from_millis(n as u64));
        let body = serde_json::json!({ "a": payload, payload.as_str(): [payload] }).to_string();
        let message = world.message(&story.acme, "order.shipped", body, at).await;
        let header = |name: &str| (name.to_owned(), payload.chars().filter(|c| !c.is_control()).collect::<String>());
        let outcome = Outcome {
            status: (n % 2 == 0).then_some(500),
            response_headers: vec![header("x-a"), header("content-type")],
            response_body: payload.clone().into(),
            ..Outcome::failed(if n % 2 == 0 { Failure::Status } else { Failure::Tls }, payload.clone(), Duration::ZERO)
        };
        let next: Transition = if n % 3 == 0 { retry(world.now.plus(MINUTE * 30), 1) } else { dead() };
        world.tries(&message, &story.endpoint, [Try { at, outcome, next, rests_until: None }]).await;
        if n % 8 == 0 {
            let text = quoted(payload);
            let row = format!(
                "INSERT INTO outbox (application, event_type, payload, stuck_reason, stuck_since, look_at)
                 VALUES ({text}, {text}, {text}, {text}, {}, {})",
                world.now.micros(),
                world.now.plus(MINUTE).micros()
            );
            execute(world, &row).await;
        }
    }
    story
}

/// Puts one payload into what there is one of: whatever validation would say.
async fn inscribe(world: &World, payload: &str) {
    let text = quoted(payload);
    let list = quoted(&serde_json::json!([payload]).to_string());
    for statement in [
        format!(
            "UPDATE application SET name = {text}, contact_email = {text}, metadata = {}",
            quoted(&serde_json::json!({payload: payload}).to_string())
        ),
        format!(
            "UPDATE endpoint SET url = {text}, description = {text}, channels = {list}, metadata = {}",
            quoted(&serde_json::json!({payload: payload}).to_string())
        ),
        format!("UPDATE event_type SET description = {text}, group_name = {text}"),
        format!("UPDATE message SET event_type = {text}, event_id = {text}, channels = {list}, tags = {list}"),
        format!("UPDATE attempt SET url = {text}"),
    ] {
        execute(world, &statement).await;
    }
}

/// What has happened on a page that should not have; empty: nothing. A page that is not there shows nothing and proves nothing.
async fn harm(browser: &Browser, url: &str, ok: bool) -> Vec<String> {
    // A dialog that somebody opened makes this fail.
    browser.goto(url).await.unwrap_or_else(|error| panic!("{url}: {error}"));
    let mut harm = seen(browser).await;
    let refused = |line: &String| line.contains("the server responded with");
    harm.extend(browser.complaints().await.into_iter().filter(|line| ok || !refused(line)));
    harm.iter().map(|what| format!("{url}: {what}")).collect()
}

/// The same of what is on the screen.
async fn seen(browser: &Browser) -> Vec<String> {
    const LOOK: &str = "({ran: !!window.__ran || document.title === 'ran',
        wide: document.documentElement.scrollWidth - innerWidth,
        strange: document.querySelectorAll('main script, main iframe, main object, main style, main img, main video, main math, main link, main meta, main base, [data-refresh]:not(#work, #story), main *[onerror], main *[onload]').length,
        asked: performance.getEntriesByType('resource').filter((one) => !one.name.startsWith(location.origin)).map((one) => one.name)})";
    let seen = browser.eval(LOOK).await;
    let mut harm = Vec::new();
    if seen["ran"] == true {
        harm.push("something ran".into());
    }
    if seen["wide"].as_i64().unwrap_or(0) > 0 {
        harm.push(format!("{} px wider than the screen", seen["wide"]));
    }
    if seen["strange"].as_u64().unwrap_or(0) > 0 {
        harm.push(format!("{} elements that we did not write", seen["strange"]));
    }
    if seen["asked"].as_array().is_some_and(|list| !list.is_empty()) {
        harm.push(format!("asked elsewhere: {}", seen["asked"]));
    }
    harm
}

#[tokio::test]
async fn text_from_outside_neither_runs_nor_breaks_a_page() {
    let payloads = payloads();
    assert!(payloads.len() >= 200, "{}", payloads.len());
    let story = infest(&payloads).await;
    let mut found = Vec::new();
    for width in WIDTHS {
        let browser = Browser::open(Kind::of_width(width)).await;
        story.enter(&browser).await;
        browser.complaints().await;
        // Lists and pages that show many of them at once.
        for page in story.pages() {
            found.extend(harm(&browser, &story.url(&page.path), page.ok).await);
        }
        browser.close().await;
    }
    // One by one in what there is one of: on the wide screen each on the pages that show its fields, on the phone every tenth on all.
    let (wide, phone) = (Browser::open(Kind::WIDE).await, Browser::open(Kind::of_width(WIDTHS[0])).await);
    let paths = story.single_pages();
    story.enter(&wide).await;
    story.enter(&phone).await;
    for browser in [&wide, &phone] {
        browser.complaints().await;
    }
    for (n, payload) in payloads.iter().enumerate() {
        inscribe(&story.world, payload).await;
        let named = |harm: Vec<String>| harm.into_iter().map(|harm| format!("{payload:?}: {harm}")).collect::<Vec<_>>();
        for path in story.telling_pages() {
            found.extend(named(harm(&wide, &story.url(&path), true).await));
        }
        if n % 10 == 0 {
            for path in &paths {
                found.extend(named(harm(&phone, &story.url(path), true).await));
            }
        }
    }
    wide.close().await;
    phone.close().await;
    assert!(found.is_empty(), "{} faults:\n{}", found.len(), found.join("\n"));
}

#[tokio::test]
async fn harm_is_seen_where_there_is_some() {
    let world = at("http://localhost").await;
    let browser = Browser::open(Kind::WIDE).await;
    let login = world.url.join("/login").unwrap();
    browser.goto(login.as_str()).await.unwrap();
    assert_eq!(seen(&browser).await, Vec::<String>::new(), "our own page");
    let wide = "document.querySelector('main').style.overflowWrap = 'normal'";
    let page =
        format!("{wide}; document.querySelector('main').innerHTML = '<img src=x><p>' + 'W'.repeat(4000); {CANARY}");
    browser.execute(&page, Vec::new()).await.unwrap();
    let harm = seen(&browser).await.join(", ");
    for what in ["something ran", "px wider", "1 elements that we did not write"] {
        assert!(harm.contains(what), "{what}: {harm}");
    }
    let missing = world.url.join("/nowhere").unwrap();
    browser.complaints().await;
    assert!(!crate::hostile::harm(&browser, missing.as_str(), true).await.is_empty(), "a page that is not there");
    browser.close().await;
}
