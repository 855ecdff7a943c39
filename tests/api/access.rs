//! The access table of the REST API, `access.txt`: for each route, the status that each kind of caller gets. A route without a row
//! fails, and so does a row without a route.
//!
//! Each row has organizations of its own, so rows run concurrently. The callers that must be refused come first, and must leave no
//! trace: the audit log and the messages are as before. No answer to them contains the text that marks the place's data.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::{StreamExt, stream};
use sendoff::api::authn::jwt::Tokens;
use sendoff::domain::OrgId;
use sendoff::domain::access::api_key::{self, ApiKey, KeyScope, KeyScopes, KeySpec};
use sendoff::domain::access::portal::{Capability, PortalOptions};
use sendoff::store::access::audit::AuditFilter;
use sendoff::store::{Order, PageRequest, Tenant};
use serde_json::{Value, json};

use crate::conformance::{BASE, operations, resolved};
use crate::support::on_both;
use crate::support::routes::{Route, routes};
use crate::world::{HOUR, World, said};

on_both! {
    every_caller_gets_the_status_of_the_access_table
}

/// Is in every name, description and payload of a place's applications.
const MARK: &str = "hush-hush";
/// Is in the description of its event types, which all of its applications see.
const COMMON: &str = "within-the-organization";
/// How many rows run at once.
const ROWS: usize = 6;

/// Who calls: the columns of the table, after the first one, which stands for everybody without a valid token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Caller {
    /// An organization's token.
    Organization,
    /// Another organization's token.
    Foreign,
    /// The application's token.
    Application,
    /// The application's token, which may only look.
    ReadOnly,
    /// Another application's token.
    Other,
    /// Another application's token, below the path of its own application.
    Across,
    /// API keys of one scope.
    Key(KeyScope),
    /// A token of the polling endpoint.
    Poller,
    /// A token of the autoconfig subscription.
    Subscription,
}

const CALLERS: [(&str, Caller); 11] = [
    ("org", Caller::Organization),
    ("other-org", Caller::Foreign),
    ("app", Caller::Application),
    ("read-only", Caller::ReadOnly),
    ("other-app", Caller::Other),
    ("across", Caller::Across),
    ("key-read", Caller::Key(KeyScope::Read)),
    ("key-send", Caller::Key(KeyScope::Send)),
    ("key-write", Caller::Key(KeyScope::Write)),
    ("poller", Caller::Poller),
    ("subscription", Caller::Subscription),
];

/// The rows: what is asked, the status without a valid token, and those of [`CALLERS`].
fn rows() -> BTreeMap<(String, String), Vec<u16>> {
    let text = include_str!("access.txt");
    let mut lines = text.lines().filter(|line| !line.starts_with('#'));
    let head: Vec<&str> = lines.next().expect("a head").split_whitespace().skip(2).collect();
    let names: Vec<&str> = std::iter::once("nobody").chain(CALLERS.map(|(name, _)| name)).collect();
    assert_eq!(head, names, "the table's columns");
    let mut rows = BTreeMap::new();
    for line in lines {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [method, path, statuses @ ..] = &words[..] else { panic!("no row: {line}") };
        assert_eq!(statuses.len(), names.len(), "{line}");
        let statuses = statuses.iter().map(|status| status.parse().expect("a status")).collect();
        let before = rows.insert(((*method).to_owned(), (*path).to_owned()), statuses);
        assert!(before.is_none(), "twice in the table: {line}");
    }
    rows
}

/// An organization with one of everything that a path names, called `x`, and another one.
struct Place<'w> {
    world: &'w World,
    org: OrgId,
    other: OrgId,
    /// The id of the application `mine`.
    app: String,
    /// The id of the application `other` of the same organization.
    other_app: String,
    /// The parts of the path, and what they are here.
    parts: Vec<(&'static str, String)>,
}

impl<'w> Place<'w> {
    /// With what `path` needs.
    async fn make(world: &'w World, path: &str) -> Place<'w> {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let org = |letter: char| format!("org_{letter}{number}").parse::<OrgId>().expect("an id");
        let mut place = Place {
            world,
            org: org('a'),
            other: org('b'),
            app: String::new(),
            other_app: String::new(),
            parts: vec![("app", "mine".into()), ("endpoint", "x".into()), ("msg", "x".into())],
        };
        place.parts.extend([("event_type", "x".into()), ("sink", "x".into()), ("consumer", "x".into())]);
        place.parts.push(("listener", "x".into()));
        let (text, url) = (|value: &Value| value["id"].as_str().expect("an id").to_owned(), "http://127.0.0.1:9/");
        let app = |uid: &str| json!({"name": MARK, "uid": uid});
        place.app = text(&place.post("/app", app("mine"), 201).await);
        place.other_app = text(&place.post("/app", app("other"), 201).await);
        let schemas = json!({"1": {"type": "object", "example": {"a": 1}}});
        place.post("/event-type", json!({"name": "x", "description": COMMON, "schemas": schemas}), 201).await;
        let endpoint = json!({"uid": "x", "url": url, "description": MARK});
        if path.starts_with("/operational-webhook") {
            place.post("/operational-webhook/endpoint", endpoint, 201).await;
            return place;
        }
        let has = |part: &str| path.contains(&format!("{{{part}}}"));
        let task = path == "/background-task/{id}";
        let mut made = String::new();
        if has("endpoint") || has("attempt") || task {
            made = text(&place.post("/app/mine/endpoint", endpoint, 201).await);
        }
        if has("msg") {
            let message = json!({"eventType": "x", "eventId": "x", "payload": {"text": MARK}});
            let message = text(&place.post("/app/mine/msg", message, 202).await);
            if has("attempt") {
                let once = (1, Some(500));
                let attempt = world.attempt_in(place.org.clone(), &place.app, &message, &made, once).await;
                place.parts.push(("attempt", attempt.to_string()));
            }
        }
        if has("sink") {
            place.polling_endpoint().await;
        }
        if path.ends_with("/token") {
            place.token(Caller::Poller).await;
        }
        if path.ends_with("/commit") {
            let leased = "/app/mine/polling-endpoint/x/consumer/x?starting_position=earliest";
            place.post("/app/mine/msg", json!({"eventType": "x", "payload": {"text": MARK}}), 202).await;
            world.call_as(&place.org_token(), "GET", leased, None).await.expect(200);
        }
        if has("autoconfig") {
            let made = place.post("/app/mine/autoconfig", json!({}), 200).await;
            place.parts.push(("autoconfig", text(&made)));
            place.parts.push(("token", subscription_token(&made)));
        }
        if task {
            let since = json!({"since": world.now().minus(HOUR).to_string()});
            let made = place.post("/app/mine/endpoint/x/recover", since, 202).await;
            place.parts.push(("id", text(&made)));
        }
        place
    }

    fn org_token(&self) -> String {
        self.world.tokens.mint_org(&self.org, self.world.now(), HOUR).unwrap()
    }

    async fn post(&self, path: &str, body: Value, status: u16) -> Value {
        self.world.call_as(&self.org_token(), "POST", path, Some(&body.to_string())).await.expect(status)
    }

    async fn polling_endpoint(&self) {
        let body = json!({"type": "pollingEndpoint", "metadata": {"text": MARK}}).to_string();
        self.world.call_as(&self.org_token(), "PUT", "/app/mine/destination/x", Some(&body)).await;
    }

    /// A new token of `caller`.
    async fn token(&self, caller: Caller) -> String {
        let (tokens, now) = (&self.world.tokens, self.world.now());
        let of_app = |app: &str| tokens.mint_app(&self.org, app.parse().unwrap(), now, HOUR).unwrap();
        match caller {
            Caller::Organization => self.org_token(),
            Caller::Foreign => tokens.mint_org(&self.other, now, HOUR).unwrap(),
            Caller::Application => of_app(&self.app),
            Caller::Other | Caller::Across => of_app(&self.other_app),
            Caller::ReadOnly => {
                let options = PortalOptions { capabilities: Some(vec![Capability::ViewBase]), ..PortalOptions::all(0) };
                tokens.mint_portal(&self.org, self.app.parse().unwrap(), &options, now, HOUR).unwrap()
            }
            Caller::Key(scope) => {
                let spec = KeySpec { name: "k".into(), scopes: KeyScopes::of([scope]), expires_at: None };
                let (key, text) = ApiKey::make(self.org.clone(), spec, now).unwrap();
                self.world.store.add_api_key(&key, &api_key::hash(&text)).await.unwrap();
                text.to_string()
            }
            Caller::Poller => {
                self.polling_endpoint().await;
                let made = self.post("/auth/app/mine/poller/x/token/rotate", json!({}), 200).await;
                made["token"].as_str().expect("a token").to_owned()
            }
            Caller::Subscription => match self.parts.iter().find(|(name, _)| *name == "token") {
                Some((_, token)) => token.clone(),
                None => subscription_token(&self.post("/app/mine/autoconfig", json!({}), 200).await),
            },
        }
    }

    /// The route's path here; below the other application's for [`Caller::Across`].
    fn path(&self, route: &Route, caller: Caller) -> String {
        let part = |part: &str| match part.strip_prefix('{').and_then(|one| one.strip_suffix('}')) {
            Some("app") if caller == Caller::Across => "other".to_owned(),
            Some(name) => {
                let found = self.parts.iter().find(|(known, _)| *known == name);
                found.unwrap_or_else(|| panic!("{} has a new part: {name}", route.path)).1.clone()
            }
            None => part.to_owned(),
        };
        route.path.split('/').map(part).collect::<Vec<_>>().join("/")
    }

    /// What a call that had an effect would change.
    async fn traces(&self) -> (Vec<String>, Value) {
        let page = PageRequest::first(250, Order::Ascending);
        let tenant = Tenant::org(self.org.clone());
        let log = self.world.store.audit_log(&tenant, &AuditFilter::default(), &page).await.unwrap().data;
        let messages = self.world.call_as(&self.org_token(), "GET", "/app/mine/msg", None).await.expect(200);
        (log.iter().map(|entry| format!("{entry:?}")).collect(), messages)
    }
}

/// The token in the text of a subscription.
fn subscription_token(made: &Value) -> String {
    use base64::Engine as _;
    let text = made["token"].as_str().unwrap().strip_prefix("auto_v2_").expect("the second version");
    let text = base64::engine::general_purpose::STANDARD_NO_PAD.decode(text).unwrap();
    let told: Value = serde_json::from_slice(&text).unwrap();
    told["tok"].as_str().expect("a token").to_owned()
}

/// A body that the operation takes: the document's example, or one for what the place has.
fn body(world: &World, route: &Route) -> Option<String> {
    let (method, path) = (route.method, &*route.path);
    if method == "GET" {
        return None;
    }
    let url = "http://127.0.0.1:9/";
    let since = || json!({"since": world.now().minus(HOUR).to_string()});
    let special = match (method, path) {
        ("POST", "/app/{app}/msg") => json!({"eventType": "x", "payload": {}}),
        ("POST", path) if path.ends_with("/send-example") => json!({"eventType": "x"}),
        ("POST", path)
            if ["/recover", "/replay-missing", "/bulk-replay", "/reconcile"].iter().any(|end| path.ends_with(end)) =>
        {
            since()
        }
        ("POST", path) if path.ends_with("/commit") => json!({"offset": 1}),
        ("POST", path) if path.ends_with("/seek") => json!({"after": world.now().to_string()}),
        ("POST", "/auth/app/{app}/expire-all" | "/auth/app-portal-access/{app}") => json!({}),
        ("POST", path) if path.ends_with("/rotate") => json!({}),
        ("POST" | "PUT" | "PATCH", path) if path.ends_with("/endpoint") || path.ends_with("/endpoint/{endpoint}") => {
            json!({"url": url})
        }
        ("POST" | "PUT", path) if path.ends_with("/destination") || path.ends_with("/destination/{sink}") => {
            json!({"type": "pollingEndpoint"})
        }
        ("POST", path) if path.contains("/development-endpoint/") => json!({"url": "http://localhost:3000/"}),
        ("POST", "/app") => json!({"name": "n", "uid": "new"}),
        ("PUT" | "PATCH", "/app/{app}") => json!({"name": "n"}),
        _ => example(method, path).unwrap_or_else(|| json!({})),
    };
    Some(special.to_string())
}

/// The example of the body in the OpenAPI document, where the parts of a path have other names.
fn example(method: &str, path: &str) -> Option<Value> {
    let shape = |path: &str| -> Vec<String> {
        path.split('/').map(|part| if part.starts_with('{') { "{}".to_owned() } else { part.to_owned() }).collect()
    };
    let found = operations().into_iter().find(|(one, other, _)| one == method && shape(other) == shape(path))?;
    let schema = found.2.pointer("/requestBody/content/application~1json/schema")?;
    Some(resolved(schema)["example"].clone())
}

/// The status, and the text where the answer has an end.
async fn ask(world: &World, token: Option<&str>, route: &Route, path: &str) -> (u16, String) {
    let mut request = world.request(route.method, &format!("{BASE}{path}"));
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    if let Some(body) = body(world, route) {
        request = request.header("content-type", "application/json").body(body);
    }
    if path.ends_with("/stream") {
        return (request.send().await.expect("an answer").status().as_u16(), String::new());
    }
    let answer = said(request).await;
    (answer.status, answer.text)
}

/// Tokens that are not, no longer, or not yet valid; the first is none.
async fn invalid_tokens(world: &World) -> Vec<Option<String>> {
    let (org, now) = (world.org(), world.now());
    let app = world.app("of-nobody").await.parse().unwrap();
    let (_, expired) = world.key(&[KeyScope::Write], Some(now)).await;
    let (key, revoked) = world.key(&[KeyScope::Write], None).await;
    world.store.revoke_api_key(&Tenant::org(org.clone()), key.id, now).await.unwrap();
    let logged_out = world.tokens.mint_org(&org, now, HOUR).unwrap();
    world.call_as(&logged_out, "POST", "/auth/logout", None).await.expect(204);
    let tokens = [
        "nonsense".to_owned(),
        Tokens::new(b"another secret").mint_org(&org, now, HOUR).unwrap(),
        world.tokens.mint_org(&org, now.minus(2 * HOUR), HOUR).unwrap(),
        world.tokens.mint_org(&org, now.plus(HOUR), HOUR).unwrap(),
        world.tokens.mint_app(&org, app, now.minus(2 * HOUR), HOUR).unwrap(),
        logged_out,
        format!("sk_{}", "a".repeat(43)),
        format!("sk_poll_{}", "a".repeat(43)),
        expired,
        revoked,
    ];
    std::iter::once(None).chain(tokens.map(Some)).collect()
}

/// The statuses of one route: without a valid token, and of [`CALLERS`]; and what was wrong beside them.
async fn walk(world: &World, route: &Route, invalid: &[Option<String>], wanted: &[u16]) -> (Vec<u16>, Vec<String>) {
    let mut place = Place::make(world, &route.path).await;
    let (mut statuses, mut wrong) = (vec![0; wanted.len()], Vec::new());
    let what = format!("{} {}", route.method, route.path);
    for token in invalid {
        let (status, text) = ask(world, token.as_deref(), route, &place.path(route, Caller::Organization)).await;
        if ![0, status].contains(&statuses[0]) {
            wrong.push(format!("{what}: {} without a token, and {status} with {token:?}", statuses[0]));
        }
        statuses[0] = status;
        if text.contains(MARK) || text.contains(COMMON) {
            wrong.push(format!("{what}: tells {token:?} {text}"));
        }
    }
    // Those first that must change nothing.
    let passes = |n: usize| wanted[n + 1] < 400 && CALLERS[n].1 != Caller::Foreign || CALLERS[n].1 == Caller::Across;
    let (open, refused): (Vec<usize>, Vec<usize>) = (0..CALLERS.len()).partition(|n| passes(*n));
    let mut tokens = Vec::new();
    for n in refused {
        tokens.push((n, place.token(CALLERS[n].1).await));
    }
    let before = place.traces().await;
    for (n, token) in tokens {
        let (status, text) = ask(world, Some(&token), route, &place.path(route, CALLERS[n].1)).await;
        statuses[n + 1] = status;
        let (name, caller) = CALLERS[n];
        if text.contains(MARK) || (caller == Caller::Foreign && text.contains(COMMON)) {
            wrong.push(format!("{what}: tells {name} {text}"));
        }
    }
    let after = place.traces().await;
    if before != after {
        wrong.push(format!("{what}: somebody who was refused has changed something: {:?}", after.0.last()));
    }
    for (turn, n) in open.into_iter().enumerate() {
        if turn > 0 && route.method != "GET" {
            place = Place::make(world, &route.path).await;
        }
        let (name, caller) = CALLERS[n];
        let token = place.token(caller).await;
        let (status, text) = ask(world, Some(&token), route, &place.path(route, caller)).await;
        statuses[n + 1] = status;
        if caller == Caller::Across && text.contains(MARK) && !text.contains(&place.other_app) {
            wrong.push(format!("{what}: tells {name} {text}"));
        }
    }
    (statuses, wrong)
}

async fn every_caller_gets_the_status_of_the_access_table(world: World) {
    let (rows, all) = (rows(), routes());
    let key = |route: &Route| (route.method.to_owned(), route.path.clone());
    for (method, path) in rows.keys() {
        assert!(all.iter().any(|route| key(route) == (method.clone(), path.clone())), "no such route: {method} {path}");
    }
    let invalid = invalid_tokens(&world).await;
    // A route without a row is walked too, to print the row that it would have.
    let none = vec![0; CALLERS.len() + 1];
    let walks = all.iter().map(|route| {
        let wanted = rows.get(&key(route)).unwrap_or(&none);
        let walked = walk(&world, route, &invalid, wanted);
        async move { (route, wanted, walked.await) }
    });
    let walked: Vec<_> = stream::iter(walks).buffered(ROWS).collect().await;
    let (mut wrong, mut pairs) = (String::new(), 0);
    for (route, wanted, (statuses, faults)) in &walked {
        pairs += statuses.len() + invalid.len() - 1;
        if statuses != *wanted {
            let words: Vec<String> = statuses.iter().map(u16::to_string).collect();
            writeln!(wrong, "{:6} {:66} {}", route.method, route.path, words.join(" ")).unwrap();
        }
        for fault in faults {
            writeln!(wrong, "# {fault}").unwrap();
        }
    }
    println!("{} routes, {pairs} pairs of a route and a caller", walked.len());
    assert!(wrong.is_empty(), "not as in tests/api/access.txt:\n{wrong}");
}
