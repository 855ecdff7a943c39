//! How long the dashboard's pages take on a full store: `cargo bench --bench pages`.
//!
//! A store of each kind is filled with a month of made-up history ([`seed`]); then the real binary serves it, and an operator who is signed in
//! asks for each of [`PAGES`] several times, one after the other. What is measured is from the request to the last byte of the answer, over
//! loopback: the server's time and a little more. The engine runs meanwhile, as it would.
//!
//! `cargo bench --bench pages -- --deliveries 5000000 --requests 20 --store sqlite`; without `--store` it is both.

#[path = "../../tests/support/mod.rs"]
mod support;

mod seed;

use std::time::{Duration, Instant};

use reqwest::{Client, StatusCode, redirect};
use seed::Seeded;
use support::{Binary, Durability, Postgres, Server, sqlite_file};

/// What is asked for. `{app}`, `{endpoint}` and `{message}` are ones that have much.
const PAGES: &[&str] = &[
    "/",
    "/?range=24h",
    "/?range=7d",
    "/?range=30d",
    "/deliveries",
    "/deliveries?status=dead",
    "/deliveries?status=retrying",
    "/deliveries?status=failed&class=5xx",
    "/deliveries?app={app}&status=failed",
    "/messages",
    "/messages?app={app}",
    "/applications",
    "/endpoints",
    "/applications/{app}",
    "/applications/{app}/endpoints/{endpoint}",
    "/applications/{app}/messages/{message}",
    "/resend?status=dead&range=24h",
    "/tail",
    "/operational",
    "/outbox",
];

/// What a run is made of.
#[derive(Clone, Copy, Debug)]
struct Plan {
    deliveries: u64,
    /// How often each page is asked for, after once that does not count.
    requests: usize,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let after = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name);
        at.and_then(|at| arguments.get(at + 1))
    };
    let number = |name: &str, default: u64| after(name).and_then(|value| value.parse().ok()).unwrap_or(default);
    // `cargo test` runs benches as well; there is nothing to test here. `make bench` measures deliveries.
    if arguments.iter().any(|argument| argument == "--test") {
        return;
    }
    let plan = Plan { deliveries: number("--deliveries", 5_000_000), requests: number("--requests", 20) as usize };
    let wanted = |name: &str| after("--store").is_none_or(|store| store == name);
    let _ = rustls::crypto::ring::default_provider().install_default();
    println!("{plan:?}");
    if wanted("sqlite") {
        let file = sqlite_file();
        measure("SQLite", &file.url(), plan);
    }
    if wanted("postgres") {
        // What is measured only reads: filling it need not be durable.
        let server = Postgres::start(Durability::Off);
        measure("PostgreSQL", &server.fresh_database(), plan);
    }
}

/// Fills the store behind `url`, serves it, and prints how long each page takes.
fn measure(name: &str, url: &str, plan: Plan) {
    let began = Instant::now();
    let seeded = seed::fill(url, plan.deliveries);
    println!("{name}: {} deliveries in {:.0} s", plan.deliveries, began.elapsed().as_secs_f64());
    let server = Binary::on(url).serve();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let client = Client::builder().no_proxy().redirect(redirect::Policy::none()).build().expect("a client");
        let cookie = sign_in(&client, &server).await;
        println!();
        println!("| {name} | min | median | max | bytes |");
        println!("|---|---:|---:|---:|---:|");
        for page in PAGES.iter().copied() {
            ask(&client, &cookie, &server, &seeded.place(page), page, plan.requests).await;
        }
        println!();
    });
}

/// Asks for one page and prints a row of the table.
async fn ask(client: &Client, cookie: &str, server: &Server, path: &str, page: &str, requests: usize) {
    let (mut took, mut bytes): (Vec<Duration>, usize) = (Vec::new(), 0);
    for round in 0..=requests {
        let began = Instant::now();
        let answer = client.get(format!("{}{path}", server.url())).header("cookie", cookie).send().await;
        let answer = answer.expect("an answer");
        let status = answer.status();
        bytes = answer.bytes().await.expect("the page").len();
        assert_eq!(status, StatusCode::OK, "{path}");
        if round > 0 {
            took.push(began.elapsed());
        }
    }
    took.sort();
    let millis = |at: usize| took.get(at).map_or(0.0, |one| one.as_secs_f64() * 1_000.0);
    let (least, middle, most) = (millis(0), millis(took.len() / 2), millis(took.len().saturating_sub(1)));
    println!("| `{page}` | {least:.1} ms | {middle:.1} ms | {most:.1} ms | {bytes} |");
}

/// Signs in as an operator would; gives back the cookie.
async fn sign_in(client: &Client, server: &Server) -> String {
    let printed = server.binary().run(&["login-link"]).stdout;
    let path = printed.trim().find("/login").map(|at| printed.trim()[at..].to_owned()).expect("a link");
    let page = client.get(format!("{}{path}", server.url())).send().await.expect("the page of the link");
    let page = page.text().await.expect("text");
    let field = |name: &str| {
        let marker = format!("name=\"{name}\" value=\"");
        let from = page.find(&marker).unwrap_or_else(|| panic!("no field {name} in {page}")) + marker.len();
        page[from..].split('"').next().unwrap_or_default().to_owned()
    };
    let form = [("token", field("token")), ("csrf", field("csrf"))];
    let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    let post = client.post(format!("{}/login", server.url()));
    let post = post.header("content-type", "application/x-www-form-urlencoded").header("origin", server.url());
    let answer = post.header("sec-fetch-site", "same-origin").body(body).send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::SEE_OTHER, "signing in");
    let cookie = answer.headers()["set-cookie"].to_str().expect("text");
    cookie.split(';').next().unwrap_or_default().to_owned()
}

impl Seeded {
    /// A path with the names in it replaced by ids.
    fn place(&self, page: &str) -> String {
        page.replace("{app}", &self.app).replace("{endpoint}", &self.endpoint).replace("{message}", &self.message)
    }
}
