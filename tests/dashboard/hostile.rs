//! Foreign text in every field that is shown anywhere: nothing of it becomes an element, an attribute or a link, and nothing hides.
//! Each page is read by [`crate::html::check`], which knows what may be in it.

use reqwest::StatusCode;
use sendoff::domain::catalog::endpoint::EndpointSpec;
use sendoff::domain::deliveries::attempt::{Failure, Outcome};
use sendoff::store::ingest::outbox::RelayRequest;

use crate::support::on_both;
use crate::world::{MINUTE, Try, World, dead, execute, retry};

on_both! {
    text_from_outside_is_shown_as_text_everywhere
    text_of_a_url_is_not_written_into_a_page
    filter_input_stays_text
    a_payload_of_any_shape_is_shown_within_bounds
}

/// What people try, and what happens by itself.
const TEXTS: [&str; 42] = [
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg/onload=alert(1)>",
    "<svg><animate onbegin=alert(1) attributeName=x>",
    "\"><img src=x onerror=alert(1)>",
    "'><img src=x onerror=alert(1)>",
    "\" onmouseover=\"alert(1)",
    "' onfocus='alert(1)' autofocus='",
    "</title><h1>x",
    "</pre></code><h1>x</h1>",
    "</bdi></td></tr></table><h1>x",
    "<!-- ",
    "--><h1>x",
    "<![CDATA[ ]]>",
    "<iframe src=javascript:alert(1)>",
    "javascript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "//evil.example/",
    "<a href=\"https://evil.example\">click</a>",
    "<form action=https://evil.example><button>Resend</button></form>",
    "<meta http-equiv=refresh content=0;url=https://evil.example>",
    "<base href=https://evil.example>",
    "<link rel=stylesheet href=https://evil.example/x.css>",
    "<style>*{display:none}</style>",
    "<textarea>",
    "<plaintext>",
    "<math><mtext></mtext><mglyph><style><img src=x onerror=alert(1)>",
    "&lt;script&gt; &#60;script&#62; &amp;quot;",
    "{{ 7 * 7 }} {% include \"base.html\" %} ${7*7} #{7*7}",
    "\u{1b}[31mred\u{7}\u{8}\u{8}\u{8}",
    "\r\nset-cookie: a=b\r\n\r\n<h1>x",
    "abc\u{202e}gnp.exe",
    "\u{2066}isolate\u{2069}\u{2069}\u{2069}\u{202c}",
    "\u{feff}\u{200b}\u{200e}\u{200f}\u{ad}",
    "\u{85}\u{2028}\u{2029}next",
    "Z\u{338}\u{321}\u{31b}\u{32a}\u{353}\u{353}\u{348}\u{354}\u{331}\u{317}a\u{337}\u{327}\u{31b}\u{33a}",
    "مرحبا <b>بالعالم</b> 日本語 👩‍💻",
    "a\tb\nc\u{b}d\u{c}e",
    "%3Cscript%3Ealert(1)%3C/script%3E",
    "+ADw-script+AD4-alert(1)+ADw-/script+AD4-",
    "{\"__proto__\":{\"x\":1},\"<b>\":\"</b>\"}",
];

async fn text_from_outside_is_shown_as_text_everywhere(world: World) {
    let browser = world.sign_in().await;
    for (n, text) in TEXTS.iter().enumerate() {
        let app = world.app(text).await;
        let spec = EndpointSpec {
            url: format!("https://{n}.example/{text}"),
            description: (*text).to_owned(),
            ..EndpointSpec::default()
        };
        let (endpoint, other) = (world.endpoint_with(&app, spec.clone()).await, world.endpoint_with(&app, spec).await);
        let payload = serde_json::json!({ *text: [text], "nested": { "x": text } }).to_string();
        let message = world.message(&app, "a.b", payload, world.ago(MINUTE * 3)).await;
        let outcome = Outcome {
            status: Some(500),
            detail: (*text).to_owned(),
            response_headers: vec![("server".into(), (*text).to_owned()), ((*text).to_owned(), "x".into())],
            response_body: [text.as_bytes(), b"\xff\xfe\x00", text.as_bytes()].concat().into(),
            ..Outcome::failed(Failure::Protocol, "", MINUTE / 100)
        };
        let next = if n % 2 == 0 { dead() } else { retry(world.now.plus(MINUTE), 1) };
        world.tries(&message, &endpoint, [Try { at: world.ago(MINUTE), outcome, next, rests_until: None }]).await;
        let failed = Try::failed(world.ago(MINUTE), Failure::Dns, text, 3, next);
        world.tries(&message, &other, [failed]).await;
        let page = browser.page(&format!("/applications/{}/messages/{}", app.id, message.id)).await;
        let place = format!("/applications/{}", app.id);
        let of_it = format!("{place}/endpoints/{}", endpoint.id);
        for path in [
            place.clone(),
            format!("{place}/edit"),
            format!("{place}/delete"),
            format!("{place}/send"),
            format!("{place}/endpoints?status={n}"),
            of_it.clone(),
            format!("{of_it}/edit"),
            format!("{of_it}/delete"),
            format!("{of_it}/rotate"),
        ] {
            let other = browser.page(&path).await;
            assert!(!other.contains("<script>") && !other.contains("<img"), "{path}");
        }
        // Beside the structure, which the reader checks: the text is there, at least its harmless letters.
        if *text == "<script>alert(1)</script>" {
            assert!(page.matches("&#60;script&#62;alert(1)&#60;/script&#62;").count() > 8, "{page}");
        }
        let column = if n % 2 == 0 { "application" } else { "event_type" };
        let quoted = text.replace('\'', "''");
        execute(&world, &format!("INSERT INTO outbox ({column}, payload) VALUES ('{quoted}', '{quoted}')")).await;
    }
    world.store.relay(RelayRequest { limit: 100, now: world.ago(MINUTE) }).await.unwrap();
    for path in [
        "/",
        "/?show=failed&range=24h",
        "/deliveries?status=dead",
        "/deliveries?status=retrying",
        "/outbox",
        "/endpoints",
        "/applications",
    ] {
        let page = browser.page(path).await;
        assert!(page.contains("evil.example"), "{path} shows the text: {page}");
        assert!(!page.contains("<script>") && !page.contains("<img") && !page.contains("<iframe"), "{path}");
    }
}

async fn text_of_a_url_is_not_written_into_a_page(world: World) {
    let browser = world.sign_in().await;
    for text in TEXTS {
        let odd: String = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
        for path in [
            format!("/?range={odd}&show={odd}&before={odd}"),
            format!("/deliveries?after={odd}&notice={odd}"),
            format!("/login?token={odd}"),
            format!("/applications?q={odd}&after={odd}"),
            format!("/endpoints?q={odd}&app={odd}&status={odd}&after={odd}"),
            format!("/event-types?after={odd}&archived={odd}"),
            format!("/event-types/{odd}"),
            format!("/applications/{odd}/messages/{odd}?before={odd}"),
            format!("/{odd}"),
        ] {
            let (status, page) = browser.get(&path).await;
            assert!(status.is_success() || status.is_client_error(), "{status} {path}");
            assert!(status != StatusCode::INTERNAL_SERVER_ERROR && !page.contains("<script>"), "{path}: {page}");
            // What is looked for stays in its search field, and nowhere else.
            let said = page.matches("alert(1)").count();
            let held = page.split("value=\"").skip(1).filter_map(|rest| rest.split('"').next());
            let held: usize = held.map(|value| value.matches("alert(1)").count()).sum();
            assert!(said == 0 || path.contains("?q=") && said == held, "{path}: {page}");
        }
    }
}

/// What is typed into a filter stands there as text, and in links that keep it.
async fn filter_input_stays_text(world: World) {
    let browser = world.sign_in().await;
    for text in TEXTS {
        let odd: String = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
        for path in ["/deliveries", "/messages"] {
            for query in [
                format!("q={odd}"),
                format!("q={odd}&status={odd}&app={odd}&endpoint={odd}&type={odd}&class={odd}&since={odd}&until={odd}"),
            ] {
                let (status, page) = browser.get(&format!("{path}?{query}")).await;
                let expected = matches!(status, StatusCode::OK | StatusCode::UNPROCESSABLE_ENTITY);
                assert!(expected && !page.contains("<script>") && !page.contains("<img"), "{status} {query}: {page}");
            }
        }
    }
}

async fn a_payload_of_any_shape_is_shown_within_bounds(world: World) {
    let browser = world.sign_in().await;
    let acme = world.app("Acme").await;
    world.endpoint(&acme, "https://a.example/").await;
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(100), "]".repeat(100));
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(900_000));
    let wide = format!("{{\"a\":[{}0]}}", "0,".repeat(100_000));
    for (payload, most) in [(deep, 100_000), (long, 700_000), (wide, 3_000_000)] {
        let message = world.message(&acme, "a.b", payload, world.ago(MINUTE)).await;
        let page = browser.page(&format!("/applications/{}/messages/{}", acme.id, message.id)).await;
        assert!(page.len() < most, "{} bytes", page.len());
    }
}
