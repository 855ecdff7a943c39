//! The numbers that pages begin with: each is what its link lists, and two of one page agree.

use sendoff::domain::catalog::application::Application;
use sendoff::domain::catalog::endpoint::Endpoint;
use uuid::Uuid;

use crate::pages::{rows, words};
use crate::support::on_both;
use crate::world::{MINUTE, Try, World, dead, number, retry};

on_both! {
    every_number_is_what_its_link_lists
    every_number_is_that_of_the_database
    response_times_of_a_page_agree
}

/// The numbers of a page with the lists that they lead to.
fn numbers(page: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for rest in page.split("<a ").skip(1) {
        let (tag, text) = rest.split_once('>').unwrap();
        let href = tag.split("href=\"").nth(1).and_then(|href| href.split('"').next()).unwrap_or_default();
        let text = words(text.split("</a>").next().unwrap());
        let number = text.split(' ').next().and_then(|number| number.parse().ok());
        if let (Some(number), true) = (number, href.contains("/deliveries?") && !href.contains("until=")) {
            found.push((number, href.replace("&#38;", "&")));
        }
    }
    found
}

/// Two applications with three endpoints, whose deliveries went by chance.
async fn by_chance(world: &World, mut seed: u64, messages: usize) -> (Application, Application, Vec<Endpoint>) {
    let (acme, globex) = (world.app("Acme").await, world.app("Globex").await);
    let mut endpoints = Vec::new();
    for (app, host) in [(&acme, "a"), (&acme, "b"), (&globex, "c")] {
        endpoints.push(world.endpoint(app, &format!("https://{host}.example/")).await);
    }
    let mut random = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    for _ in 0..messages {
        let at = world.ago(MINUTE * (1 + random(100) as u32));
        let app = if random(2) == 0 { &acme } else { &globex };
        let message = world.message(app, "a.b", "{}", at).await;
        for endpoint in endpoints.iter().filter(|endpoint| endpoint.app_id == app.id) {
            let due = world.now.plus(MINUTE * 9);
            let tries = match random(6) {
                0 => Vec::new(),
                1 | 2 => vec![Try::delivered(at, 9)],
                3 => vec![Try::answered(at, 500, "", retry(at, 1)), Try::delivered(at, 9)],
                4 => vec![Try::answered(at, 500, "", retry(due, 1))],
                _ => vec![Try::answered(at, 500, "", retry(at, 1)), Try::answered(at, 500, "", dead())],
            };
            let untried = tries.is_empty();
            world.tries(&message, endpoint, tries).await;
            if untried && random(2) == 0 {
                world.store.cancel(&world.tenant(), app.id, (message.id, endpoint.id), world.now).await.unwrap();
            }
        }
    }
    (acme, globex, endpoints)
}

/// A store that is filled by chance: every number of the first page is the number of rows behind its link.
async fn every_number_is_what_its_link_lists(world: World) {
    let (acme, ..) = by_chance(&world, 7, 14).await;
    let (operator, customer) = (world.sign_in().await, world.portal_session(&acme, None, &[]).await);
    let place = format!("/applications/{}", acme.id);
    for (browser, path, least) in [
        (&operator, "/".to_owned(), 9),
        (&operator, "/?range=24h".to_owned(), 9),
        (&customer, "/portal?range=1h".to_owned(), 4),
        (&customer, "/portal?range=7d".to_owned(), 4),
        (&operator, place, 4),
    ] {
        let page = browser.page(&path).await;
        let numbers = numbers(&page);
        assert!(numbers.len() >= least, "{path}: {numbers:?}");
        for (number, href) in numbers {
            assert_eq!(rows(&browser.page(&href).await), number, "{path}: {href}");
        }
        let sentence = page.split("class=\"switch\"").next().unwrap();
        let sum: Vec<usize> = self::numbers(sentence).iter().map(|(n, _)| *n).collect();
        assert_eq!(sum[0], sum[1..].iter().sum::<usize>(), "{path}: each stands in one way");
    }
}

/// What the database has of an application, an endpoint, or all.
struct Counted {
    delivered: i64,
    retrying: i64,
    dead: i64,
    pending: i64,
    canceled: i64,
    /// Attempts that delivered, that failed and will be retried, and that were the last.
    attempts: [i64; 3],
}

impl Counted {
    async fn of(world: &World, scope: &str) -> Counted {
        let deliveries = async |which: &str| {
            number(world, &format!("SELECT count(*) FROM delivery d WHERE {which} AND {scope}")).await
        };
        let attempts = async |which: &str| {
            number(world, &format!("SELECT count(*) FROM attempt d WHERE {which} AND {scope}")).await
        };
        Counted {
            delivered: deliveries("state = 2").await,
            retrying: deliveries("state = 1").await,
            dead: deliveries("state = 3 AND reason <> 'canceled'").await,
            pending: deliveries("state = 0").await,
            canceled: deliveries("state = 3 AND reason = 'canceled'").await,
            attempts: [
                attempts("failure IS NULL").await,
                attempts("failure IS NOT NULL AND next_at IS NOT NULL").await,
                attempts("failure IS NOT NULL AND next_at IS NULL").await,
            ],
        }
    }

    fn sentence(&self) -> String {
        let Counted { delivered, retrying, dead, pending, canceled, .. } = self;
        let rare = [(pending, "pending"), (canceled, "canceled")].map(|(n, word)| match n {
            0 => String::new(),
            n => format!(", {n} {word}"),
        });
        let all = delivered + retrying + dead + pending + canceled;
        format!("{all} deliveries: {delivered} delivered, {retrying} being retried, {dead} dead{}{}.", rare[0], rare[1])
    }

    /// Of the deliveries that were tried.
    fn rate(&self) -> String {
        share(self.delivered, self.retrying + self.dead)
    }

    /// Of the attempts.
    fn attempt_rate(&self) -> String {
        share(self.attempts[0], self.attempts[1] + self.attempts[2])
    }

    fn chart(&self, per: &str) -> String {
        let [delivered, retried, dead] = self.attempts;
        format!("Attempts per {per}: {delivered} delivered, {retried} failed and retried, {dead} dead")
    }
}

/// In whole tenths of a percent, rounded down.
fn share(good: i64, bad: i64) -> String {
    let tenths = good * 1_000 / (good + bad);
    if bad == 0 { "100 %".to_owned() } else { format!("{}.{} %", tenths / 10, tenths % 10) }
}

/// A store that is filled by chance: the numbers of the overview, of applications and of endpoints are those of the database.
async fn every_number_is_that_of_the_database(world: World) {
    let (acme, globex, endpoints) = by_chance(&world, 41, 24).await;
    let literal = |id: Uuid| match world.database.starts_with("sqlite:") {
        true => format!("x'{}'", id.simple()),
        false => format!("CAST('{id}' AS uuid)"),
    };
    let of_app = |app: &Application| format!("d.app_id = {}", literal(app.id.0));
    let of_endpoint = |endpoint: &Endpoint| format!("d.endpoint_id = {}", literal(endpoint.id.0));
    let operator = world.sign_in().await;
    let says = |page: &str, path: &str, wanted: &[String]| {
        let said = words(page);
        for part in wanted {
            assert!(said.contains(part), "{path}: {part}: {said}");
        }
    };
    let all = Counted::of(&world, "1 = 1").await;
    let shares = [all.delivered, all.retrying, all.dead, all.pending, all.canceled];
    assert!(shares.iter().all(|n| *n > 0), "chance has left something out: {shares:?}");
    let page = operator.page("/?range=24h").await;
    let (waiting, dead) = (all.pending + all.retrying, all.dead);
    says(
        &page,
        "/",
        &[
            format!("In the last 24 hours {}", all.sentence()),
            format!("Success rate {} ", all.rate()),
            format!("Waiting {waiting}: {} pending, {} being retried ", all.pending, all.retrying),
            format!("Dead, total {dead} "),
            all.chart("hour"),
        ],
    );
    for endpoint in &endpoints {
        let counted = Counted::of(&world, &of_endpoint(endpoint)).await;
        let failed = counted.retrying + counted.dead;
        if failed > 0 {
            let app = if endpoint.app_id == acme.id { "Acme" } else { "Globex" };
            let line =
                format!("{} {app} {failed} failed {} of attempts delivered", endpoint.spec.url, counted.attempt_rate());
            says(&page, "/", &[line]);
        }
    }
    for app in [&acme, &globex] {
        let counted = Counted::of(&world, &of_app(app)).await;
        let path = format!("/applications/{}?range=24h", app.id);
        let wanted = [
            format!("In the last 24 hours {}", counted.sentence()),
            format!("Success rate {} ", counted.rate()),
            counted.chart("hour"),
        ];
        says(&operator.page(&path).await, &path, &wanted);
        let customer = world.portal_session(app, None, &[]).await;
        says(&customer.page("/portal?range=24h").await, "/portal", &wanted);
    }
    for endpoint in &endpoints {
        let counted = Counted::of(&world, &of_endpoint(endpoint)).await;
        let [delivered, retried, dead] = counted.attempts;
        let waiting = counted.pending + counted.retrying;
        let path = format!("/applications/{}/endpoints/{}", endpoint.app_id, endpoint.id);
        let page = operator.page(&path).await;
        let rate = counted.attempt_rate();
        let wanted = [
            format!("Last 24 hours {rate} success rate: {delivered} delivered, {} failed ", retried + dead),
            format!("Waiting {waiting} "),
            counted.chart("hour"),
        ];
        says(&page, &path, &wanted);
        let lists = ["/endpoints".to_owned(), format!("/applications/{}/endpoints", endpoint.app_id)];
        for list in &lists {
            let page = operator.page(list).await;
            let row = page.split("<tr>").find(|row| row.contains(&endpoint.id.to_string())).expect("a row");
            let row = words(row);
            assert!(
                row.contains(&format!(" {rate} ")) && row.contains(&format!(" {waiting} waiting")),
                "{list}: {row}"
            );
        }
    }
}

/// A number that is said twice on a page is the same twice; one of few attempts is not said.
async fn response_times_of_a_page_agree(world: World) {
    let acme = world.app("Acme").await;
    let endpoint = world.endpoint(&acme, "https://a.example/hook").await;
    let browser = world.sign_in().await;
    let place = format!("/applications/{}/endpoints/{}", acme.id, endpoint.id);
    let mut sent = 0;
    for (count, wanted) in [(3, "p50 37 ms"), (20, "p50 37 ms · p95 48 ms"), (100, "p50 37 ms · p95 48 ms · p99 49 ms")]
    {
        while sent < count {
            let message = world.message(&acme, "a.b", "{}", world.ago(MINUTE)).await;
            world.tries(&message, &endpoint, [Try::delivered(world.ago(MINUTE), 30)]).await;
            sent += 1;
        }
        for path in ["/", &place] {
            let page = words(&browser.page(path).await);
            assert!(page.contains(&format!("Response time {wanted} ")), "{path} with {count}: {page}");
            assert_eq!(page.contains("p99 4"), count == 100, "{path} with {count}");
        }
        let page = words(&browser.page("/").await);
        assert!(page.contains(&format!("Response time per minute. Total: {wanted} ")), "{count}: {page}");
    }
}
