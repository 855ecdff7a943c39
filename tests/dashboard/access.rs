//! The access table of the dashboard and the portal, `access.txt`: for each page and form, what each kind of user gets. A route
//! without a row fails, and so does a row without a route.
//!
//! Users that must be refused come first, with the form token of their own session, and must leave no trace in the audit log. No
//! answer to them contains the text that marks the organization's data. No page of the portal names the product.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::LazyLock;

use reqwest::Method;
use sendoff::domain::access::api_key::{self, ApiKey, KeyScope, KeyScopes, KeySpec};
use sendoff::domain::access::operator::{Operator, OperatorRole};
use sendoff::domain::access::password::PasswordHash;
use sendoff::domain::access::portal::{Capability, PortalLink, PortalOptions, PortalPage};
use sendoff::domain::catalog::application::Application;
use sendoff::domain::catalog::endpoint::EndpointSpec;
use sendoff::domain::catalog::event_type::EventTypeSpec;
use sendoff::domain::catalog::polling::PollingEndpointSpec;
use sendoff::domain::deliveries::background::{TaskKind, TaskScope, TaskStage};
use sendoff::domain::time::Clock;
use sendoff::domain::{OperatorId, OrgId, Time, Uid};
use sendoff::store::access::audit::AuditFilter;
use sendoff::store::access::operator_sessions::{NewSession, PasswordSignIn, SessionClient};
use sendoff::store::access::second_factors::SecondFactorProof;
use sendoff::store::ingest::outbox::RelayRequest;
use sendoff::store::jobs::background::{BackgroundSpec, StartResult, TaskSelection};
use sendoff::store::{Order, PageRequest, Tenant};

use crate::support::on_both;
use crate::support::pages::{Page, pages};
use crate::world::{MINUTE, World, execute, field, location};

on_both! {
    every_user_gets_the_answer_of_the_access_table
}

/// Is in the descriptions, URLs and payloads of the organization.
const MARK: &str = "hush-hush";
/// The columns for pages of the dashboard. The first one stands for everybody without a session of an operator.
const OPERATORS: [&str; 4] = ["nobody", "other-org", "own-org", "all-orgs"];
/// The columns for pages of the portal. The first one stands for everybody without a session of a customer.
const CUSTOMERS: [&str; 5] = ["nobody", "other-app", "other-pages", "read-only", "customer"];

/// The rows: what is asked, and what each of the columns gets.
fn rows() -> BTreeMap<(String, String), Vec<String>> {
    let (mut rows, mut columns) = (BTreeMap::new(), 0);
    for line in include_str!("access.txt").lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [method, path, cells @ ..] = &words[..] else { panic!("no row: {line}") };
        if *method == "method" {
            assert!(cells == OPERATORS || cells == CUSTOMERS, "the table's columns: {line}");
            columns = cells.len();
            continue;
        }
        assert_eq!(cells.len(), columns, "{line}");
        let cells = cells.iter().map(|cell| (*cell).to_owned()).collect();
        let before = rows.insert(((*method).to_owned(), (*path).to_owned()), cells);
        assert!(before.is_none(), "twice in the table: {line}");
    }
    rows
}

/// A session: its cookie, and the token of its forms.
#[derive(Clone, Debug, Default)]
struct Session {
    cookie: String,
    csrf: String,
}

fn new_session(hash: &[u8; 32], until: Time) -> NewSession<'_> {
    static CLIENT: LazyLock<SessionClient> = LazyLock::new(SessionClient::default);
    NewSession { hash, client: &CLIENT, until }
}

/// Makes sessions and the things that paths name.
struct Scene<'w> {
    world: &'w World,
    /// The customers' application, and another one.
    app: Application,
    other_app: Application,
    /// An operator of the default organization, one of another, and their password.
    accounts: [Operator; 2],
    password: PasswordHash,
    /// How many paths were made.
    made: u64,
    /// The endpoint of the last path, for forms that name one.
    endpoint: String,
}

impl<'w> Scene<'w> {
    async fn open(world: &'w World) -> Scene<'w> {
        let other: OrgId = "org_other".parse().unwrap();
        let password = PasswordHash::make("password", "correct horse battery").unwrap();
        let account = |name: &str, org: &OrgId| {
            Operator::new(name, OperatorRole::Admin, Some(vec![org.clone()]), world.now).unwrap()
        };
        let accounts = [account("own", &world.org), account("other", &other)];
        for account in &accounts {
            world.store.create_operator(&world.org, account, &password, world.now).await.unwrap();
        }
        world.app_of(&Tenant::org(other.clone()), "Theirs").await;
        let (app, other_app) = (world.app("Acme").await, world.app("Globex").await);
        Scene { world, app, other_app, accounts, password, made: 0, endpoint: String::new() }
    }

    async fn session(&self, cookie: String, home: &str) -> Session {
        let page = self.world.request(Method::GET, home).header("cookie", &cookie).send().await.unwrap();
        assert!(page.status().is_success(), "{home}: {}", page.status());
        let csrf = field(&page.text().await.unwrap(), "csrf");
        Session { cookie, csrf }
    }

    /// A session of an operator: of both organizations, or with one of the accounts.
    async fn operator(&self, account: Option<&Operator>) -> Session {
        let (token, link, now) = (api_key::random_text(), [7; 32], Clock.now());
        let (hash, until) = (api_key::hash(&token), now.plus(MINUTE * 60));
        match account {
            Some(account) => {
                let second = &SecondFactorProof::NotNeeded;
                let sign_in = PasswordSignIn { operator: account, password: &self.password, second };
                assert!(self.world.store.open_session(sign_in, new_session(&hash, until), now).await.unwrap());
            }
            None => {
                self.by_link(&link, &hash, until).await;
            }
        }
        self.session(format!("sendoff_session={}", *token), "/").await
    }

    /// Opens a session by a one-time link.
    async fn by_link(&self, link: &[u8; 32], hash: &[u8; 32], until: Time) {
        let (store, now) = (&self.world.store, Clock.now());
        store.add_login_link(link, &self.world.org, now.plus(MINUTE)).await.unwrap();
        store.redeem_login_link(link, new_session(hash, until), now).await.unwrap().unwrap();
    }

    async fn customer(&self, app: &Application, options: PortalOptions) -> Session {
        let (token, link, now) = (api_key::random_text(), [8; 32], Clock.now());
        self.portal_link(app, &link, options).await;
        self.world.store.redeem_portal_link(&link, &api_key::hash(&token), now).await.unwrap().unwrap();
        self.session(format!("sendoff_portal={}", *token), "/portal").await
    }

    async fn portal_link(&self, app: &Application, hash: &[u8; 32], options: PortalOptions) {
        let now = Clock.now();
        let link = PortalLink { org: app.org.clone(), app_id: app.id, options, expires_at: now.plus(MINUTE * 15) };
        self.world.store.add_portal_link(hash, &link, now).await.unwrap();
    }

    fn hour(&self) -> PortalOptions {
        PortalOptions::all(Clock.now().plus(MINUTE * 60).micros())
    }

    /// Sessions of the columns but the first, for pages of the portal or the dashboard.
    async fn sessions(&self, portal: bool) -> Vec<Session> {
        if !portal {
            let [own, other] = &self.accounts;
            return vec![self.operator(Some(other)).await, self.operator(Some(own)).await, self.operator(None).await];
        }
        let looks = PortalOptions { capabilities: Some(vec![Capability::ViewBase]), ..self.hour() };
        let pages = PortalOptions { pages: Some(vec![PortalPage::Overview]), ..self.hour() };
        vec![
            self.customer(&self.other_app, self.hour()).await,
            self.customer(&self.app, pages).await,
            self.customer(&self.app, looks).await,
            self.customer(&self.app, self.hour()).await,
        ]
    }

    /// Cookies that are no session, or not of this part, with the form token of a real one.
    async fn invalid(&self, csrf: &str, portal: bool) -> Vec<Session> {
        let (store, now) = (&self.world.store, Clock.now());
        let value = |session: &Session| session.cookie.split_once('=').unwrap().1.to_owned();
        let (name, other_kind) = match portal {
            true => ("sendoff_portal", self.operator(None).await),
            false => ("sendoff_session", self.customer(&self.app, self.hour()).await),
        };
        let ended = match portal {
            true => self.customer(&self.app, self.hour()).await,
            false => self.operator(None).await,
        };
        let hash = api_key::hash(&value(&ended));
        let expired = api_key::random_text();
        let (past, link) = (now.minus(MINUTE), [9; 32]);
        if portal {
            store.end_portal_session(&hash).await.unwrap();
            self.portal_link(&self.app, &link, PortalOptions::all(past.micros())).await;
            store.redeem_portal_link(&link, &api_key::hash(&expired), now).await.unwrap();
        } else {
            store.end_session(&hash, now).await.unwrap();
            self.by_link(&link, &api_key::hash(&expired), past).await;
        }
        let cookies = [
            String::new(),
            format!("{name}=invented"),
            ended.cookie,
            format!("{name}={}", *expired),
            other_kind.cookie.clone(),
            format!("{name}={}", value(&other_kind)),
        ];
        cookies.map(|cookie| Session { cookie, csrf: csrf.to_owned() }).into()
    }

    /// The path of a page, with new things for its parts.
    async fn path(&mut self, page: &Page) -> String {
        self.made += 1;
        let (world, now, number) = (self.world, Clock.now(), self.made);
        let (store, tenant) = (&world.store, self.world.tenant());
        let app = if page.in_portal() { self.app.clone() } else { world.app("Acme").await };
        let mut path = page.path.replace("{app}", &app.id.to_string());
        let has = |part: &str| page.path.contains(&format!("{{{part}}}"));
        let name = format!("event.{number}");
        let spec = EventTypeSpec { name: name.clone(), description: MARK.into(), ..EventTypeSpec::default() };
        if has("name") && !has("hash") {
            store.put_event_type(&tenant, spec, now).await.unwrap();
            path = path.replace("{name}", &name);
        }
        if has("endpoint") || has("message") || has("work") {
            let url = format!("https://{MARK}.example/");
            let spec = EndpointSpec { url, description: MARK.into(), ..EndpointSpec::default() };
            self.endpoint = world.endpoint_with(&app, spec).await.id.to_string();
            path = path.replace("{endpoint}", &self.endpoint);
        }
        if has("message") {
            let message = world.message(&app, "a.b", format!("{{\"text\":\"{MARK}\"}}"), now).await;
            path = path.replace("{message}", &message.id.to_string());
        }
        if page.path.contains("/polling") {
            // An application has 20 at most.
            let some = PageRequest::first(50, Order::Ascending);
            for old in store.polling_endpoints(&tenant, app.id, &some).await.unwrap().data {
                store.delete_polling_endpoint(&tenant, &old, now).await.unwrap();
            }
        }
        if has("poller") {
            let uid = Some(Uid::parse("uid", &format!("{MARK}-{number}"), "poll_").unwrap());
            let spec = PollingEndpointSpec { uid, ..PollingEndpointSpec::default() };
            let made = store.create_polling_endpoint(&tenant, app.id, spec, now).await.unwrap();
            path = path.replace("{poller}", &made.id.to_string());
        }
        if has("listener") {
            let (name, url) = (format!("listener-{number}"), format!("http://{MARK}:3000/"));
            let about = (app.id, name.as_str(), url.as_str());
            store.report_local_attempt(&tenant, about, None, now.minus(MINUTE), now).await.unwrap();
            path = path.replace("{listener}", &name);
        }
        if has("work") {
            let spec = BackgroundSpec {
                kind: TaskKind::Recover,
                scope: TaskScope::Application(app.id),
                selection: TaskSelection::Messages(Default::default()),
                by: MARK.into(),
                total: None,
            };
            let StartResult::Started(work) = store.start_background(&tenant, spec, now).await.unwrap() else {
                panic!("too many resends")
            };
            path = path.replace("{work}", &work.id.to_string());
        }
        if has("key") {
            let spec = KeySpec { name: MARK.into(), scopes: KeyScopes::of([KeyScope::Read]), expires_at: None };
            let (key, text) = ApiKey::make(world.org.clone(), spec, now).unwrap();
            store.add_api_key(&key, &api_key::hash(&text)).await.unwrap();
            path = path.replace("{key}", &key.id.to_string());
        }
        if has("operator") {
            path = path.replace("{operator}", &self.account().await.to_string());
        }
        if has("session") && !has("app") {
            let hash = api_key::hash(&format!("session-{number}"));
            self.by_link(&[11; 32], &hash, now.plus(MINUTE * 60)).await;
            path = path.replace("{session}", &hex::encode(hash));
        }
        if has("session") && has("app") {
            let hash = [number as u8; 32];
            self.portal_link(&app, &[10; 32], self.hour()).await;
            store.redeem_portal_link(&[10; 32], &hash, now).await.unwrap().unwrap();
            path = path.replace("{session}", &hex::encode(hash));
        }
        if page.path.starts_with("/outbox") {
            execute(
                world,
                &format!("INSERT INTO outbox (application, event_type, payload) VALUES ('{MARK}', 'a', '{{}}')"),
            )
            .await;
            store.relay(RelayRequest { limit: 100, now }).await.unwrap();
            let rows = store.outbox_stuck(1_000).await.unwrap();
            let row = rows.iter().max_by_key(|row| row.id).expect("a stuck row");
            path = path.replace("{row}", &row.id.to_string()).replace("{since}", &row.stuck_since.micros().to_string());
        }
        if has("code") {
            let code = format!("code-{number}");
            self.portal_link(&self.app, &api_key::hash(&code), self.hour()).await;
            path = path.replace("{code}", &code);
        }
        path.replace("{hash}", "0").replace("{name}", "app.css")
    }

    async fn account(&self) -> OperatorId {
        let operator =
            Operator::new(&format!("{MARK}-{}", self.made), OperatorRole::Viewer, None, self.world.now).unwrap();
        self.world.store.create_operator(&self.world.org, &operator, &self.password, self.world.now).await.unwrap();
        operator.id
    }

    /// What a form that had an effect would change.
    async fn traces(&self) -> (Option<String>, i64) {
        let page = PageRequest::first(1, Order::Descending);
        let log = self.world.store.audit_log(&self.world.tenant(), &AuditFilter::default(), &page).await.unwrap();
        let pending = self.world.store.pending_count(100_000).await.unwrap();
        (log.data.first().map(|entry| format!("{entry:?}")), pending)
    }

    /// So that later rows can start others.
    async fn cancel_resends(&self) {
        let page = PageRequest::first(50, Order::Descending);
        let running = [TaskStage::Running];
        let works = self.world.store.backgrounds(&self.world.tenant(), &running, None, &page).await.unwrap();
        for work in works.data {
            self.world.store.cancel_background(&self.world.tenant(), work.id, Clock.now()).await.unwrap();
        }
    }
}

/// The status of the answer, or `login` where it leads to the sign-in page; and the text, where it has an end.
async fn ask(scene: &Scene<'_>, page: &Page, path: &str, session: &Session) -> (String, String) {
    let world = scene.world;
    let request = match page.method {
        "POST" => world.post(path, &form(scene, page, &session.csrf)),
        method => world.request(method.parse().unwrap(), path),
    };
    let response = request.header("cookie", &session.cookie).send().await.unwrap();
    let status = response.status();
    let word = match status.as_u16() {
        303 if location(&response) == "/login" => "login".to_owned(),
        number => number.to_string(),
    };
    let endless = page.path.ends_with("/tail/events") && status.is_success();
    (word, if endless { String::new() } else { response.text().await.unwrap() })
}

/// A form that most handlers take.
fn form(scene: &Scene<'_>, page: &Page, csrf: &str) -> Vec<(&'static str, String)> {
    let mut form = vec![
        ("csrf", csrf.to_owned()),
        ("name", format!("new.{}", scene.made)),
        ("url", "https://example.com/".to_owned()),
        ("eventType", "a.b".to_owned()),
        ("payload", "{}".to_owned()),
        ("expiry", "1d".to_owned()),
        ("scope", "read".to_owned()),
        ("life", "30d".to_owned()),
        ("org", OrgId::default_org().to_string()),
        ("status", "dead".to_owned()),
        ("theme", "dark".to_owned()),
    ];
    if page.path.contains("{message}") {
        form.push(("endpoint", scene.endpoint.clone()));
    }
    if ["/operators", "/account/password"].contains(&&*page.path) {
        form.extend(["password", "again", "new", "new_again"].map(|name| (name, "correct horse battery".to_owned())));
        form.push(("sees", "all".to_owned()));
    }
    form
}

/// What each column gets, and what was wrong beside that.
async fn walk(scene: &mut Scene<'_>, page: &Page, wanted: &[String]) -> (Vec<String>, Vec<String>) {
    let portal = page.in_portal();
    let columns = if portal { &CUSTOMERS[..] } else { &OPERATORS[..] };
    let sessions = scene.sessions(portal).await;
    let csrf = sessions.last().map(|session| session.csrf.clone()).unwrap_or_default();
    let invalid = scene.invalid(&csrf, portal).await;
    let mut path = scene.path(page).await;
    let (mut got, mut wrong) = (vec![String::new(); columns.len()], Vec::new());
    // A link's code is all that its page needs.
    let open = page.path.contains("{code}");
    let before = scene.traces().await;
    for session in &invalid {
        let (word, text) = ask(scene, page, &path, session).await;
        if ![String::new(), word.clone()].contains(&got[0]) {
            wrong.push(format!("{page:?}: {} without a session, and {word} with {}", got[0], session.cookie));
        }
        got[0] = word;
        if text.contains(MARK) && !open {
            wrong.push(format!("{page:?}: tells {} {text}", session.cookie));
        }
        wrong.extend(named(page, &text));
    }
    let stranger = |column: usize| ["other-org", "other-app", "other-pages"].contains(&columns[column]);
    let names_a_thing = page.path.replace("{app}", "").contains('{') && !open;
    let refused = |column: usize| {
        let word = wanted.get(column).map_or("", String::as_str);
        ["login", "401", "403", "404"].contains(&word) || (stranger(column) && names_a_thing && page.method == "POST")
    };
    let (first, last): (Vec<usize>, Vec<usize>) = (1..columns.len()).partition(|column| refused(*column));
    for column in first {
        let (word, text) = ask(scene, page, &path, &sessions[column - 1]).await;
        got[column] = word;
        if text.contains(MARK) {
            wrong.push(format!("{page:?}: tells {} {text}", columns[column]));
        }
        wrong.extend(named(page, &text));
    }
    let after = scene.traces().await;
    if before != after && !["/login", "/logout"].contains(&&*page.path) {
        wrong.push(format!("{page:?}: somebody who was refused has changed something: {:?}", after.0));
    }
    for (turn, column) in last.into_iter().enumerate() {
        if turn > 0 && page.method != "GET" {
            path = scene.path(page).await;
        }
        let (word, text) = ask(scene, page, &path, &sessions[column - 1]).await;
        got[column] = word;
        // All applications of the organization see its event types.
        let common = page.path.starts_with("/portal/event-types") && columns[column] == "other-app";
        if text.contains(MARK) && stranger(column) && !open && !common {
            wrong.push(format!("{page:?}: tells {} {text}", columns[column]));
        }
        wrong.extend(named(page, &text));
    }
    scene.cancel_resends().await;
    (got, wrong)
}

/// A page of the portal that names Sendoff, one of its settings or its commands. The team's customers know only the team.
fn named(page: &Page, text: &str) -> Option<String> {
    let small = text.to_ascii_lowercase();
    let at = small.find("sendoff").filter(|_| page.in_portal())?;
    let near = small.get(at.saturating_sub(80)..(at + 40).min(small.len())).unwrap_or_default().to_owned();
    Some(format!("{page:?}: names the product: {near}"))
}

async fn every_user_gets_the_answer_of_the_access_table(world: World) {
    let (rows, all) = (rows(), pages());
    let key = |page: &Page| (page.method.to_owned(), page.path.clone());
    for (method, path) in rows.keys() {
        assert!(all.iter().any(|page| key(page) == (method.clone(), path.clone())), "no such page: {method} {path}");
    }
    let mut scene = Scene::open(&world).await;
    let (mut wrong, mut pairs) = (String::new(), 0);
    for page in &all {
        let none = Vec::new();
        let wanted = rows.get(&key(page)).unwrap_or(&none);
        let (got, faults) = walk(&mut scene, page, wanted).await;
        pairs += got.len() + 5;
        if got != *wanted {
            writeln!(wrong, "{:6} {:50} {}", page.method, page.path, got.join(" ")).unwrap();
        }
        for fault in faults {
            writeln!(wrong, "# {fault}").unwrap();
        }
    }
    println!("{} pages, {pairs} pairs of a page and a user", all.len());
    assert!(wrong.is_empty(), "not as in tests/dashboard/access.txt:\n{wrong}");
}
