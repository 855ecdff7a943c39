//! For people who change how the pages look: `cargo test --test dashboard preview -- --ignored --nocapture` serves a dashboard with a
//! month of made-up history, prints links that sign in, and goes on until it is interrupted.

use std::time::Duration;

use sendoff::domain::catalog::endpoint::EndpointSpec;
use sendoff::domain::catalog::event_type::EventTypeSpec;
use sendoff::domain::deliveries::attempt::Failure;
use sendoff::domain::deliveries::delivery::{DeadReason, Transition};
use sendoff::store::queue::pending_deliveries::LaneRequest;

use crate::world::{MINUTE, Try, World, at, dead, execute, retry};

#[tokio::test]
#[ignore = "serves until it is interrupted"]
async fn preview() {
    let full = at("http://localhost").await;
    seed(&full).await;
    listen(&full).await;
    describe(&full).await;
    let empty = at("http://localhost").await;
    for (name, world) in [("full", &full), ("empty", &empty)] {
        for _ in 0..4 {
            println!("{name}: {}{}", world.url.as_str().trim_end_matches('/'), world.link().await);
        }
        println!("{name}: {}, signed in: {}", world.url, world.sign_in().await.cookie);
    }
    std::future::pending::<()>().await;
}

/// A catalog, and things with long names in several scripts.
async fn describe(world: &World) {
    let schema = serde_json::json!({"type": "object", "required": ["id", "amount"], "properties": {
        "id": {"type": "string", "example": "in_1PqZ7e2eZvKYlo2C"}, "amount": {"type": "integer", "minimum": 4200},
        "customer": {"type": "object", "properties": {"name": {"type": "string", "example": "Ada Lovelace"}}}}});
    let long = "subscription.payment_method.verification_by_microdeposits.requires_another_attempt_by_the_customer";
    for (name, description, group, flag) in [
        ("invoice.paid", "An invoice was paid in full.", "invoice", None),
        (
            "invoice.voided",
            "請求書が取り消されました。تم إلغاء الفاتورة بعد إرسالها إلى العميل",
            "invoice",
            Some("beta"),
        ),
        (
            long,
            "A long name, and a description that goes on for so long that no column has room for all of it at once",
            "subscription",
            None,
        ),
    ] {
        let spec = EventTypeSpec {
            name: name.into(),
            description: description.into(),
            group_name: Some(group.into()),
            feature_flags: flag.map(str::to_owned).into_iter().collect(),
            deprecated: name == long,
            schemas: Some([("1".to_owned(), schema.clone())].into_iter().collect()),
            ..EventTypeSpec::default()
        };
        world.store.put_event_type(&world.tenant(), spec, world.now).await.unwrap();
    }
    let app = world.app("Überlandwerke Großkönigsdorf & Söhne GmbH – 東京支店 – شركة الكهرباء المحدودة").await;
    let spec = EndpointSpec {
        url: format!(
            "https://webhooks.eu-central-1.überlandwerke.example/{}/生産?tenant=42",
            "very-long-path".repeat(6)
        ),
        description: "本番環境 – der Empfänger in Königsdorf – المستقبل الرئيسي".into(),
        event_types: Some(vec!["invoice.paid".into(), long.into()]),
        headers: [("authorization".to_owned(), "Bearer x".to_owned()), ("x-team".to_owned(), "billing".to_owned())]
            .into(),
        ..EndpointSpec::default()
    };
    world.endpoint_with(&app, spec).await;
    world.app("Nobody yet").await;
}

const PAYLOAD: &str = r#"{"id":"in_1PqZ7e2eZvKYlo2C","object":"invoice","amount_due":4200,"currency":"eur","paid":true,"discount":null,
"customer":{"name":"Ada Lovelace","email":"ada@example.com","address":{"line1":"12 St James's Square","city":"London","country":"GB"}},
"lines":[{"description":"Team plan, November","quantity":3,"unit_amount":1200.50,"period":{"start":1761955200,"end":1764547200}},
{"description":"Überstunden / 残業","quantity":1,"unit_amount":600,"tags":[]}]}"#;

/// What the organization is told: two operational endpoints, one of them gone.
async fn listen(world: &World) {
    let told = world.store.ensure_operational_application(&world.tenant(), world.now).await.unwrap();
    let ops = world.endpoint(&told, "https://ops.acme.example/sendoff/told").await;
    let spec = EndpointSpec {
        url: "https://pager.acme.example/".into(),
        description: "Wakes whoever is on call".into(),
        event_types: Some(vec!["endpoint.disabled".into(), "message.attempt.exhausted".into()]),
        disabled: true,
        ..EndpointSpec::default()
    };
    world.endpoint_with(&told, spec).await;
    let new = world.app("Initech").await;
    for n in 0..4u64 {
        world.endpoint(&new, &format!("https://initech.example/{n}")).await;
    }
    let slot = world.store.slot_of_endpoint(ops.id).await.unwrap() as u8;
    let wants = LaneRequest {
        endpoint: ops.id,
        slot,
        fresh: 9,
        retries: 9,
        fresh_from: sendoff::domain::Time::ZERO,
        retries_from: sendoff::domain::Time::ZERO,
        ordered: false,
    };
    let ids: Vec<_> =
        world.store.pending_deliveries(&[wants]).await.unwrap().iter().map(|one| one.message_id).collect();
    for (n, message) in world.store.load_messages(&ids).await.unwrap().iter().enumerate() {
        let ago = |minutes: u32| world.ago(MINUTE * (40 - minutes - n as u32 * 5));
        let failed = |at, next| Try::answered(at, 503, "try again", next);
        match n {
            0 => world.tries(message, &ops, [failed(ago(0), dead())]).await,
            1 => world.tries(message, &ops, [failed(ago(0), retry(ago(1), 1)), Try::delivered(ago(1), 40)]).await,
            _ => world.tries(message, &ops, [Try::delivered(ago(0), 31)]).await,
        }
    }
}

async fn seed(world: &World) {
    let acme = world.app("Acme GmbH").await;
    let globex = world.app("Globex Corporation").await;
    let long = world
        .app("株式会社とても長い名前の顧客 · شركة ذات اسم طويل جدا · Société Anonyme des Noms Interminables et Fils")
        .await;
    let hooks = world.endpoint(&acme, "https://hooks.acme.example/sendoff").await;
    let flaky = world.endpoint(&globex, "https://api.globex.example/v2/webhooks/incoming?tenant=eu-1").await;
    let slow = world
        .endpoint_with(
            &globex,
            EndpointSpec {
                url: "https://legacy.globex.example:8443/cgi-bin/receive.pl".into(),
                description: "The old ERP; ask Hank before changing anything".into(),
                ..EndpointSpec::default()
            },
        )
        .await;
    let path = "receive/".repeat(30);
    let far = world.endpoint(&long, &format!("https://very-long-host-name.of-a-customer.example/{path}")).await;

    long_story(world, &globex, &flaky, &slow).await;
    let types = ["invoice.paid", "invoice.created", "customer.updated", "order.shipped", "user.invited"];
    let mut seed = 11u64;
    let mut random = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    // A month, thinly; a day; and the last hour, with more.
    let month = (1_440..42_000u64).rev().step_by(170);
    for minute in month.chain((0..1_440).rev().step_by(3)).chain((0..60).rev()) {
        for _ in 0..1 + random(4) {
            let at = world.ago(MINUTE * minute as u32 + Duration::from_secs(random(55) + 2));
            let event_type = types[random(5) as usize];
            let to_globex = random(3) == 0;
            let (app, endpoint) = if to_globex { (&globex, &flaky) } else { (&acme, &hooks) };
            let message = world.message(app, event_type, PAYLOAD, at).await;
            let failed = to_globex && random(5) == 0;
            let tries = if failed {
                let again = at.plus(Duration::from_secs(5));
                vec![Try::answered(at, 503, "upstream connect error", retry(again, 1)), Try::delivered(again, 61)]
            } else {
                vec![Try::delivered(at, 12 + random(90))]
            };
            world.tries(&message, endpoint, tries).await;
            if to_globex {
                world.tries(&message, &slow, [Try::delivered(at, 400 + random(2_500))]).await;
            }
        }
    }
    let message = world
        .message(
            &long,
            "a.very.long.event.type.name.that.somebody.made.up.without.thinking.of.tables",
            HOSTILE.replace("\u{1b}", "\\u001b").replace("\u{7}", "\\u0007"),
            world.ago(MINUTE * 4),
        )
        .await;
    let step = |n: u32, minutes: u32| {
        let at = world.ago(MINUTE * minutes);
        Try::answered(
            at,
            500,
            HOSTILE,
            if minutes == 1 { retry(world.now.plus(MINUTE * 29), n as i32) } else { retry(at.plus(MINUTE), n as i32) },
        )
    };
    world.tries(&message, &far, [step(1, 3), step(2, 1)]).await;
    let waiting = world.message(&acme, "order.shipped", PAYLOAD, world.ago(Duration::from_secs(47))).await;
    println!("pending: /applications/{}/messages/{}", acme.id, waiting.id);
    println!("hostile: /applications/{}/messages/{}", long.id, message.id);
    stuck(world).await;
}

/// A message whose one delivery walked the whole schedule and died, while the other is still being tried.
async fn long_story(
    world: &World,
    app: &sendoff::domain::catalog::application::Application,
    flaky: &sendoff::domain::catalog::endpoint::Endpoint,
    slow: &sendoff::domain::catalog::endpoint::Endpoint,
) {
    let begun = world.ago(MINUTE * 1_300);
    let message = world.message(app, "invoice.paid", PAYLOAD, begun).await;
    let waits = [5u64, 300, 1_800, 7_200, 18_000, 20_000, 12_000];
    let mut at = begun.plus(Duration::from_millis(40));
    let mut tries = Vec::new();
    for (n, wait) in waits.iter().enumerate() {
        let due = at.plus(Duration::from_secs(*wait));
        let next = retry(due, n as i32 + 1);
        tries.push(match n {
            0 | 1 => Try::answered(at, 503, "<html><head><title>503 Service Temporarily Unavailable</title></head>\n<body><center><h1>503</h1></center><hr><center>nginx</center></body></html>\n", next),
            2 => Try::failed(at, Failure::Timeout, "no whole answer within 15 s", 15_001, next),
            3 => Try::failed(at, Failure::Tls, "the certificate expired on 2026-11-21", 83, next),
            4 => Try::failed(at, Failure::Dns, "api.globex.example does not resolve", 12, next),
            5 => Try::answered(at, 301, "", next),
            _ => Try::failed(at, Failure::Refused, "the connection was refused: nothing listens there", 3, next),
        });
        at = due;
    }
    tries.push(Try::answered(at, 500, r#"{"error":"database is locked","trace":"4bf92f3577b34da6"}"#, dead()));
    world.tries(&message, flaky, tries).await;
    let at = world.ago(MINUTE * 6);
    let next = retry(world.now.plus(Duration::from_secs(250)), 2);
    world
        .tries(
            &message,
            slow,
            [
                Try::failed(
                    world.ago(MINUTE * 12),
                    Failure::Timeout,
                    "no whole answer within 15 s",
                    15_002,
                    retry(at, 1),
                ),
                Try::answered(at, 429, "slow down, please", next),
            ],
        )
        .await;
    println!("story: /applications/{}/messages/{}", app.id, message.id);
    for n in 0..6u64 {
        let at = world.ago(MINUTE * (7 * n as u32 + 2));
        let message = world.message(app, "customer.updated", PAYLOAD, at).await;
        let next = if n % 2 == 0 { dead() } else { Transition::Dead(DeadReason::Gone) };
        world.tries(&message, flaky, [Try::answered(at, if n % 2 == 0 { 502 } else { 410 }, "gone", next)]).await;
        let next = retry(world.now.plus(MINUTE * (n as u32 * 9 + 1)), 1);
        world
            .tries(
                &message,
                slow,
                [Try::failed(at, Failure::Closed, "the connection was closed before an answer", 40, next)],
            )
            .await;
    }
}

const HOSTILE: &str = "{\"html\":\"<script>alert(1)</script><img src=x onerror=alert(2)>\",\"bidi\":\"abc \u{202e}gnp.exe\u{2066}\",\
\"control\":\"\u{1b}[31mred\u{7}\",\"template\":\"{{ 7 * 7 }} {% raw %}\",\"zalgo\":\"Z̸̡̛̪͓͖̘͇͔̱̗̳̺͖̈́̅͂a̷̧̛̺̮͇̤l̶̢͓͔̳̟̐͊̈́g̸̢̢̝̗̏̿o̴͖̟͝\",\"arabic\":\"مرحبا بالعالم\",\
\"long\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}";

/// Rows that could not be routed, put there by hand and looked at by the relay.
async fn stuck(world: &World) {
    for (application, event_type, payload) in [
        ("customer-4711", "invoice.paid", r#"{"a":1}"#),
        ("acme", "order.shipped", "not json"),
        ("<b>bold</b>\u{202e}", "", "{}"),
    ] {
        let row = format!(
            "INSERT INTO outbox (application, event_type, payload) VALUES ('{application}', '{event_type}', '{payload}')"
        );
        execute(world, &row).await;
    }
    let request = sendoff::store::ingest::outbox::RelayRequest { limit: 10, now: world.ago(MINUTE * 3) };
    world.store.relay(request).await.expect("the relay's step");
}
