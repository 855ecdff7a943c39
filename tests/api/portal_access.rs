//! A token and a link for a customer: what they are good for, and for how long.

use std::time::Duration;

use sendoff::domain::Time;
use sendoff::domain::access::api_key;
use sendoff::domain::access::portal::{Capability, PortalOptions, PortalPage};
use sendoff::domain::access::theme::{Palette, ThemeMode};
use serde_json::{Value, json};

use crate::support::on_both;
use crate::world::World;

on_both! {
    a_customer_gets_a_token_and_a_link
    an_application_is_made_on_the_way
    a_portal_session_is_limited_to_its_options
    event_types_behind_flags
    bad_options
    the_portal_looks_as_the_team_says
    expiring_a_customer_s_access
}

async fn access(world: &World, app: &str, body: Value) -> Value {
    let answer = world.call("POST", &format!("/auth/app-portal-access/{app}"), body).await;
    assert_eq!(answer.headers["cache-control"], "no-store");
    answer.expect(200)
}

async fn token(world: &World, app: &str, body: Value) -> String {
    access(world, app, body).await["token"].as_str().expect("a token").to_owned()
}

/// The seconds for which a token is good, as it says itself.
fn span(token: &str) -> i64 {
    use base64::Engine;
    let claims = token.split('.').nth(1).unwrap();
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(claims).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap()
}

async fn a_customer_gets_a_token_and_a_link(world: World) {
    let app = world.app("acme").await;
    world.app("other").await;
    let before = world.now();
    let body = json!({"featureFlags": ["beta"], "sessionId": "s-1", "capabilities": ["ViewBase"], "expiry": 7200});
    let out = access(&world, "acme", body).await;
    let token = out["token"].as_str().unwrap();
    assert_eq!(span(token), 7_200);
    world.call_as(token, "GET", "/app/acme", None).await.expect(200);
    world.call_as(token, "GET", "/app/other", None).await.expect(404);
    world.call_as(token, "POST", "/auth/app-portal-access/acme", Some("{}")).await.expect(403);

    let url = out["url"].as_str().unwrap();
    let code = url.strip_prefix("https://hooks.example.com/portal/enter/").expect("under the public URL");
    assert!(code.len() >= 40, "{code}");
    let quarter = Duration::from_secs(15 * 60);
    let late = world.now().plus(quarter);
    assert_eq!(world.store.redeem_portal_link(&api_key::hash(code), &[9; 32], late).await.unwrap(), None, "15 minutes");
    let link =
        world.store.redeem_portal_link(&api_key::hash(code), &[9; 32], world.now()).await.unwrap().expect("a link");
    assert_eq!((link.org, link.app_id.to_string()), (world.org(), app));
    assert!(link.expires_at >= before.plus(quarter));
    let until = Time::from_micros(link.options.until);
    assert!(until >= before.plus(Duration::from_secs(7_200)) && until <= world.now().plus(Duration::from_secs(7_200)));
    let options = PortalOptions {
        feature_flags: vec!["beta".into()],
        capabilities: Some(vec![Capability::ViewBase]),
        session_id: Some("s-1".into()),
        ..link.options.clone()
    };
    assert_eq!(link.options, options);
    assert_eq!(
        world.store.redeem_portal_link(&api_key::hash(code), &[9; 32], world.now()).await.unwrap(),
        None,
        "once"
    );

    let first = access(&world, "acme", json!({})).await;
    let second = access(&world, "acme", json!({})).await;
    assert_ne!(first["url"], second["url"]);
    let (first, second) = (first["token"].as_str().unwrap(), second["token"].as_str().unwrap());
    assert_eq!(span(first), 7 * 24 * 3_600);
    world.call_as(first, "POST", "/auth/logout", None).await.expect(204);
    world.call_as(second, "GET", "/app/acme", None).await.expect(200);
}

async fn an_application_is_made_on_the_way(world: World) {
    let path = "/auth/app-portal-access/new";
    world.call("POST", path, json!({})).await.expect(404);
    let app = json!({"name": "New", "uid": "new", "metadata": {"a": "b"}});
    let made = token(&world, "new", json!({"application": app})).await;
    assert_eq!(world.call_as(&made, "GET", "/app/new", None).await.expect(200)["metadata"], json!({"a": "b"}));
    token(&world, "new", json!({"application": {"name": "Renamed", "uid": "new"}})).await;
    assert_eq!(world.get("/app/new").await.expect(200)["name"], "New", "what is there is left as it is");

    let refused = |body| world.call("POST", "/auth/app-portal-access/newer", body);
    assert_eq!(refused(json!({"application": {"name": "N", "uid": "x"}})).await.refused(), ["body.application.uid"]);
    let wrong = json!({"application": {"name": "", "throttleRate": 0, "uid": "a b"}});
    let fields = ["uid", "name", "throttleRate"].map(|field| format!("body.application.{field}"));
    assert_eq!(refused(wrong).await.refused(), fields);
    let both = ["body.application.uid", "body.application.name"];
    assert_eq!(refused(json!({"application": {}})).await.refused(), both);
    assert_eq!(refused(json!({"application": 7})).await.refused(), ["body.application"]);
    world.get("/app/newer").await.expect(404);
    let unknown = "/auth/app-portal-access/app_00000000000000000000000000";
    world.call("POST", unknown, json!({"application": {"name": "N", "uid": "n"}})).await.expect(404);
    let at_once = (0..6).map(|_| token(&world, "raced", json!({"application": {"name": "R", "uid": "raced"}})));
    futures_util::future::join_all(at_once).await;
    assert_eq!(world.get("/app/raced").await.expect(200)["name"], "R");
}

async fn a_portal_session_is_limited_to_its_options(world: World) {
    world.app("a").await;
    let endpoint = world.endpoint("a").await;
    let message = world.message("a", "t").await;
    let one = format!("/app/a/endpoint/{endpoint}");
    let (secret, rotate) = (format!("{one}/secret"), format!("{one}/secret/rotate"));
    let resend = format!("/app/a/msg/{message}/endpoint/{endpoint}/resend");
    let operations = [("GET", &*one), ("GET", &*secret), ("POST", &*rotate), ("POST", &*resend), ("PATCH", &*one)];
    for (options, allowed) in [
        (json!({}), [true, true, true, true, true]),
        (json!({"readOnly": false, "capabilities": null}), [true, true, true, true, true]),
        (json!({"readOnly": true}), [true, false, false, false, false]),
        (json!({"capabilities": ["ViewBase", "ViewEndpointSecret"]}), [true, true, false, false, false]),
        (json!({"capabilities": ["ViewBase", "ManageEndpointSecret"]}), [true, true, true, false, false]),
        (json!({"capabilities": ["ViewBase", "CreateAttempts"]}), [true, false, false, true, false]),
        (json!({"capabilities": ["ViewBase", "ManageEndpoint"]}), [true, true, true, false, true]),
        (
            json!({"readOnly": true, "capabilities": ["ViewBase", "ViewEndpointSecret", "ManageEndpoint"]}),
            [true, true, false, false, false],
        ),
    ] {
        let token = token(&world, "a", options.clone()).await;
        for ((method, path), allowed) in operations.iter().zip(allowed) {
            let body = (*method != "GET").then_some("{}");
            let answer = world.call_as(&token, method, path, body).await;
            assert_eq!(answer.status < 300, allowed, "{options} {method} {path}: {}", answer.text);
            assert!(allowed || answer.status == 403, "{options} {method} {path}: {}", answer.text);
        }
    }
}

async fn event_types_behind_flags(world: World) {
    world.app("a").await;
    for (name, flags, archived) in [
        ("open", json!([]), false),
        ("beta", json!(["beta"]), false),
        ("both", json!(["beta", "gamma"]), false),
        ("old", json!(["beta"]), true),
    ] {
        let body = json!({"name": name, "description": "", "featureFlags": flags, "archived": archived});
        world.call("POST", "/event-type", body).await.expect(201);
    }
    for (flags, seen) in [
        (json!([]), &["open"][..]),
        (json!(["beta"]), &["beta", "open"]),
        (json!(["gamma"]), &["open"]),
        (json!(["gamma", "beta"]), &["beta", "both", "open"]),
    ] {
        let token = token(&world, "a", json!({"featureFlags": flags})).await;
        let list = world.call_as(&token, "GET", "/event-type?include_archived=true", None).await.expect(200);
        let names: Vec<&str> =
            list["data"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
        assert_eq!(names, seen, "{flags}");
        for name in ["open", "beta", "both", "old"] {
            let status = if seen.contains(&name) { 200 } else { 404 };
            world.call_as(&token, "GET", &format!("/event-type/{name}"), None).await.expect(status);
        }
    }
    // What is hidden is not told from what is not there, and what was chosen for a customer stays.
    let types = json!({"url": "http://127.0.0.1:9/", "uid": "made", "eventTypes": ["both"]});
    world.call("POST", "/app/a/endpoint", types).await.expect(201);
    let token = token(&world, "a", json!({"featureFlags": ["beta"]})).await;
    for (path, body) in [
        ("/app/a/endpoint", json!({"url": "http://127.0.0.1:9/"})),
        ("/app/a/destination", json!({"type": "pollingEndpoint"})),
    ] {
        let ask = async |method: &str, path: &str, name: &str| {
            let mut body = body.clone();
            body["eventTypes"] = json!([name]);
            world.call_as(&token, method, path, Some(&body.to_string())).await
        };
        let made = ask("POST", path, "beta").await.expect(201);
        let made = format!("{path}/{}", made["id"].as_str().unwrap());
        for (method, path) in [("POST", path), ("PUT", &*made), ("PATCH", &*made)] {
            let told = ask(method, path, "unknown").await.expect(422).to_string();
            for hidden in ["both", "old"] {
                let hidden_told = ask(method, path, hidden).await.expect(422).to_string();
                assert_eq!(hidden_told.replace(hidden, "unknown"), told, "{method} {path}");
            }
        }
    }
    let text = json!({"description": "theirs"}).to_string();
    let changed = world.call_as(&token, "PATCH", "/app/a/endpoint/made", Some(&text)).await.expect(200);
    assert_eq!(changed["eventTypes"], json!(["both"]));
}

async fn bad_options(world: World) {
    world.app("a").await;
    for (body, field) in [
        (json!({"expiry": 3_599}), "expiry"),
        (json!({"expiry": 604_801}), "expiry"),
        (json!({"expiry": -1}), "expiry"),
        (json!({"expiry": "1h"}), "expiry"),
        (json!({"featureFlags": ["a b"]}), "featureFlags"),
        (json!({"featureFlags": "a"}), "featureFlags"),
        (json!({"featureFlags": vec!["f"; 51]}), "featureFlags"),
        (json!({"capabilities": ["Fly"]}), "capabilities"),
        (json!({"capabilities": ["ManageEndpoint"]}), "capabilities"),
        (json!({"capabilities": []}), "capabilities"),
        (json!({"sessionId": ""}), "sessionId"),
        (json!({"sessionId": "a".repeat(257)}), "sessionId"),
        (json!({"readOnly": "yes"}), "readOnly"),
        (json!({"navigation": "hidden"}), "navigation"),
        (json!({"pages": []}), "pages"),
        (json!({"pages": ["statistics"]}), "pages"),
        (json!({"pages": "endpoints"}), "pages"),
        (json!({"theme": "dark"}), "theme"),
    ] {
        let refused = world.call("POST", "/auth/app-portal-access/a", body.clone()).await.refused();
        assert_eq!(refused, [format!("body.{field}")], "{body}");
    }
    assert_eq!(world.call("POST", "/auth/app-portal-access/app_1", json!({})).await.refused(), ["path.app_id"]);
    world.raw("POST", "/auth/app-portal-access/a", "{").await.expect(400);
    for good in [json!({"expiry": 3_600}), json!({"expiry": 604_800, "unknown": 1})] {
        access(&world, "a", good).await;
    }
}

async fn the_portal_looks_as_the_team_says(world: World) {
    world.app("a").await;
    let theme = json!({
        "accent": "#0B6E4F", "light": {"surface": "#fffdf8", "ink": "#2d1f12"}, "dark": null, "radius": 10,
        "logo": "https://cdn.example.com/logo.svg", "mode": "light",
    });
    let body = json!({"theme": theme, "pages": ["endpoints", "event-types"], "navigation": false, "readOnly": true});
    let out = access(&world, "a", body).await;
    let code = out["url"].as_str().unwrap().rsplit('/').next().unwrap();
    let options =
        world.store.valid_portal_link(&api_key::hash(code), world.now()).await.unwrap().expect("a link").options;
    assert_eq!((options.pages, options.navigation), (Some(vec![PortalPage::Endpoints, PortalPage::EventTypes]), false));
    let theme = options.theme.expect("a theme");
    assert_eq!((theme.radius, theme.mode, theme.dark), (Some(10), ThemeMode::Light, Palette::default()));
    assert_eq!(theme.accent.map(|accent| accent.to_string()).as_deref(), Some("#0b6e4f"));
    // The token is what it was: the pages are not its business.
    let token = out["token"].as_str().unwrap();
    world.call_as(token, "GET", "/app/a/msg", None).await.expect(200);

    for (theme, field) in [
        (json!({"accent": "green"}), "accent"),
        (json!({"accent": "#fff"}), "accent"),
        (json!({"accent": "#ffffff;} body{display:none"}), "accent"),
        (json!({"accent": 7}), "accent"),
        (json!({"light": {"surface": "#888888"}}), "light.surface"),
        (json!({"dark": {"ground": "#ffffff"}}), "dark.ground"),
        (json!({"light": {"font": "Comic Sans"}}), "light.font"),
        (json!({"light": "#ffffff"}), "light"),
        (json!({"radius": 17}), "radius"),
        (json!({"radius": -1}), "radius"),
        (json!({"radius": "6px"}), "radius"),
        (json!({"logo": "http://cdn.example.com/logo.svg"}), "logo"),
        (json!({"logo": "javascript:alert(1)"}), "logo"),
        (json!({"logo": "https://a;script-src 'unsafe-inline'/x"}), "logo"),
        (json!({"mode": "sepia"}), "mode"),
        (json!({"css": "body{}"}), "css"),
    ] {
        let refused = world.call("POST", "/auth/app-portal-access/a", json!({"theme": theme.clone()})).await.refused();
        assert_eq!(refused, [format!("body.theme.{field}")], "{theme}");
    }
    let many = json!({"theme": {"accent": "x", "radius": 99, "dark": {"ink": "y"}}});
    let refused = world.call("POST", "/auth/app-portal-access/a", many).await.refused();
    assert_eq!(refused.len(), 3, "all at once: {refused:?}");
}

/// A customer's access ends at once: tokens, links and sessions, of that application alone and not what is given out from then on.
async fn expiring_a_customer_s_access(world: World) {
    let (acme, other) = (world.app("acme").await, world.app("other").await);
    let access = async |app: &str| {
        let made = world
            .call("POST", &format!("/auth/app-portal-access/{app}"), json!({"sessionId": "anna"}))
            .await
            .expect(200);
        let code = made["url"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
        (made["token"].as_str().unwrap().to_owned(), code)
    };
    let calls =
        async |token: &str, app: &str| world.call_as(token, "GET", &format!("/app/{app}/msg"), None).await.status;
    let good = async |code: &str| {
        world
            .store
            .valid_portal_link(&sendoff::domain::access::api_key::hash(code), world.now())
            .await
            .unwrap()
            .is_some()
    };
    let visit = async |code: &str, hash: [u8; 32]| {
        world
            .store
            .redeem_portal_link(&sendoff::domain::access::api_key::hash(code), &hash, world.now())
            .await
            .unwrap()
            .unwrap();
    };
    let lasts = async |hash: [u8; 32]| world.store.portal_session(&hash, world.now()).await.unwrap().is_some();

    let ((first, used), (second, unused), (theirs, link)) =
        (access("acme").await, access("acme").await, access("other").await);
    visit(&used, [1; 32]).await;
    for (token, app) in [(&first, "acme"), (&second, "acme"), (&theirs, "other")] {
        assert_eq!(calls(token, app).await, 200);
    }
    let tenant = sendoff::store::Tenant::org(world.org());
    let open = world.store.open_portal_sessions(&tenant, acme.parse().unwrap(), 10, world.now()).await.unwrap();
    assert_eq!(
        open.iter().map(|one| (one.hash, one.session_id.as_deref())).collect::<Vec<_>>(),
        [([1; 32], Some("anna"))]
    );

    let path = "/auth/app/acme/expire-all";
    for (body, field) in [
        (json!({"expiry": 604_801}), "body.expiry"),
        (json!({"expiry": -1}), "body.expiry"),
        (json!({"sessionIds": ["a b"]}), "body.sessionIds"),
        (json!({"sessionIds": (0..101).map(|n| format!("s{n}")).collect::<Vec<_>>()}), "body.sessionIds"),
    ] {
        assert_eq!(world.call("POST", path, body).await.refused(), [field]);
    }
    world.call_as(&first, "POST", path, Some("{}")).await.expect(403);
    world.call("POST", "/auth/app/none/expire-all", json!({})).await.expect(404);
    assert_eq!((calls(&first, "acme").await, lasts([1; 32]).await), (200, true), "nothing was done yet");

    for body in
        [json!({"sessionIds": ["bert"]}), json!({"expiry": 3_600}), json!({"expiry": 60, "sessionIds": ["anna"]})]
    {
        world.call("POST", path, body).await.expect(204);
        assert_eq!((calls(&first, "acme").await, calls(&second, "acme").await), (200, 200), "not yet");
    }
    world.call("POST", path, json!({"sessionIds": ["anna"]})).await.expect(204);
    assert_eq!((calls(&first, "acme").await, calls(&theirs, "other").await), (401, 200));
    world.call("POST", path, json!({})).await.expect(204);
    assert_eq!((calls(&first, "acme").await, calls(&second, "acme").await), (401, 401));
    assert!(!good(&unused).await && !lasts([1; 32]).await);
    assert_eq!((calls(&theirs, "other").await, good(&link).await), (200, true), "another customer's");

    let (after, code) = access("acme").await;
    assert_eq!(calls(&after, "acme").await, 200, "what is given out from then on");
    visit(&code, [2; 32]).await;
    // One session alone, and only by its own organization and application.
    let (acme, other) = (acme.parse().unwrap(), other.parse().unwrap());
    let strangers = sendoff::store::Tenant::org("org_strangers".parse().unwrap());
    for (tenant, app) in [(&strangers, acme), (&tenant, other)] {
        assert!(!world.store.revoke_portal_session(tenant, app, &[2; 32], world.now()).await.unwrap());
    }
    assert!(world.store.open_portal_sessions(&strangers, acme, 10, world.now()).await.unwrap().is_empty());
    assert!(lasts([2; 32]).await);
    assert!(world.store.revoke_portal_session(&tenant, acme, &[2; 32], world.now()).await.unwrap());
    assert!(
        !lasts([2; 32]).await
            && !world.store.revoke_portal_session(&tenant, acme, &[2; 32], world.now()).await.unwrap()
    );
}
