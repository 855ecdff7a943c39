//! Many organizations, one of which has nearly all data: the response times of another one's lists.

use std::time::{Duration, Instant};

use super::bench_store::{BenchStore, rest};
use super::common::median;
use super::common::pages::Operator;
use super::common::rest::Rest;
use super::past_messages::PastMessages;
use super::plan::{Case, Plan};
use super::support::Kind;
use super::table::{Check, Row};

const DAY: Duration = Duration::from_secs(86_400);

/// The dashboard's lists. `{app}` is the organization's application.
const PAGES: [&str; 11] = [
    "/",
    "/deliveries",
    "/deliveries?status=dead",
    "/deliveries?status=retrying",
    "/deliveries?status=failed&class=5xx",
    "/messages",
    "/messages?app={app}",
    "/applications",
    "/endpoints",
    "/tail",
    "/operational",
];

/// The REST API's lists.
const LISTS: [&str; 5] = [
    "/app/",
    "/app/{app}/endpoint/",
    "/app/{app}/msg/",
    "/app/{app}/attempt/endpoint/{endpoint}/",
    "/app/{app}/stats/attempts/",
];

pub async fn measure(plan: &Plan, store: Kind) -> Row {
    let bench = BenchStore::on(plan, store).await;
    // No receiver: nothing is sent.
    bench.customers(plan.organizations, 1, 1).await;
    let large = plan.rows / 100 * 99;
    let small = (plan.rows - large).div_ceil(plan.organizations - 1);
    let past = |of, messages| PastMessages { of, messages, oldest: DAY * 28, youngest: DAY, some_failed: true };
    let mut statements = vec!["UPDATE application SET org = 'org_' || substr(uid, 5)".to_owned()];
    statements.extend(past("a.uid = 'app-0'", large).statements(bench.is_sqlite()));
    statements.extend(past("a.uid <> 'app-0'", small).statements(bench.is_sqlite()));
    bench.fill(&statements).await;
    let (server, _) = bench.start();

    let quiet = plan.organizations / 2;
    let id = |table: &str, column: &str| {
        let text = if bench.is_sqlite() { "lower(hex(x.id))" } else { "CAST(x.id AS text)" };
        format!("SELECT {text} FROM {table} x JOIN application a ON a.id = x.{column} WHERE a.uid = 'app-{quiet}'")
    };
    let app: uuid::Uuid = bench.value(&id("application", "id")).await.expect("one").parse().expect("an id");
    let endpoint: uuid::Uuid = bench.value(&id("endpoint", "app_id")).await.expect("one").parse().expect("an id");
    let (app, endpoint) = (sendoff::domain::AppId(app), sendoff::domain::EndpointId(endpoint));
    let place = |path: &str| path.replace("{app}", &app.to_string()).replace("{endpoint}", &endpoint.to_string());

    let org = format!("org_{quiet}");
    let operator = Operator::of(&server, &org).await;
    let mut took = Vec::new();
    for page in PAGES {
        took.push((page, operator.measure(&place(page), plan.requests).await.median_ms()));
    }
    let token = server.binary().run(&["token", "--org", &org]).stdout;
    let theirs = Rest::new(&rest(&server).authority, token.trim());
    for list in LISTS {
        took.push((list, ask(&theirs, &place(list), plan.requests).await));
    }
    took.iter().for_each(|(path, took)| println!("  {took:>8.1} ms {path}"));
    let slowest = took.iter().max_by(|one, other| one.1.total_cmp(&other.1)).expect("lists");
    Row {
        case: Case::Organizations.name(),
        store: store.name(),
        size: format!("{} organizations; one has {large} messages, the others {small} each", plan.organizations),
        checks: vec![
            Check::at_most(&format!("slowest list's median (`{}`)", slowest.0), slowest.1, 20.0, " ms"),
            Check::note("median of all lists", median(took.iter().map(|(_, took)| *took).collect()), " ms"),
        ],
    }
}

/// The median response time in milliseconds, after one warm-up.
async fn ask(rest: &Rest, path: &str, requests: usize) -> f64 {
    rest.get(path).await;
    let mut took = Vec::new();
    for _ in 0..requests {
        let began = Instant::now();
        rest.get(path).await;
        took.push(began.elapsed().as_secs_f64() * 1_000.0);
    }
    median(took)
}
