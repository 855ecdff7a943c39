//! The numbers that pages begin with: each is what its link lists, and two of one page agree.

use crate::pages::{rows, words};
use crate::support::on_both;
use crate::world::{MINUTE, Try, World, dead, retry};

on_both! {
    every_number_is_what_its_link_lists
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

/// A store that is filled by chance: every number of the first page is the number of rows behind its link.
async fn every_number_is_what_its_link_lists(world: World) {
    let (acme, globex) = (world.app("Acme").await, world.app("Globex").await);
    let mut endpoints = Vec::new();
    for (app, host) in [(&acme, "a"), (&acme, "b"), (&globex, "c")] {
        endpoints.push((app, world.endpoint(app, &format!("https://{host}.example/")).await));
    }
    let mut seed = 7u64;
    let mut random = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    for _ in 0..14 {
        let at = world.ago(MINUTE * (1 + random(100) as u32));
        let app = if random(2) == 0 { &acme } else { &globex };
        let message = world.message(app, "a.b", "{}", at).await;
        for (_, endpoint) in endpoints.iter().filter(|(of, _)| of.id == app.id) {
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
