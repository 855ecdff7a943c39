//! "A customer misses `invoice.paid` since an hour": how many clicks and words it takes to find the cause, and then to send
//! everything again and see the outcome. For the operator and the customer, with JavaScript and without.

use std::cell::Cell;

use serde_json::json;

use crate::driver::{Browser, Kind};
use crate::flows::{Team, reload_until};

/// At most so many.
const CLICKS_TO_THE_CAUSE: u32 = 3;
const WORDS_TO_THE_CAUSE: usize = 2;
const CLICKS_TO_THE_OUTCOME: u32 = 2;
/// The messages that the customer misses.
const MISSED: usize = 3;

/// Somebody in front of a browser, whose clicks and words are counted.
struct Person<'b> {
    browser: &'b Browser,
    clicks: Cell<u32>,
    words: Cell<usize>,
}

impl Person<'_> {
    async fn click(&self, css: &str) {
        self.clicks.set(self.clicks.get() + 1);
        self.browser.element(css).await.click().await.unwrap();
    }

    /// Types into the field; that one clicks into it first is not counted, as the tab key leads there too.
    async fn types(&self, css: &str, words: &str) {
        self.words.set(self.words.get() + words.split_whitespace().count());
        self.browser.element(css).await.send_keys(words).await.unwrap();
    }
}

#[tokio::test]
async fn what_a_customer_misses_is_found_in_three_clicks_and_sent_again_in_two() {
    for (customer, javascript) in [(false, true), (false, false), (true, true), (true, false)] {
        let team = Team::well().await;
        let types = ["order.shipped"].into_iter().chain(["invoice.paid"; MISSED]);
        team.dead_messages(types.map(|name| (name, json!({"amount": 4200})))).await;
        let browser = Browser::open(Kind { javascript, ..Kind::WIDE }).await;
        if customer {
            team.let_in(&browser).await
        } else {
            team.sign_in(&browser).await
        }
        let person = Person { browser: &browser, clicks: Cell::new(0), words: Cell::new(0) };

        person.click(".top nav a[href$='/deliveries']").await;
        browser.until_it_says("One message to one endpoint").await;
        if !customer {
            person.types("#f-app", "acme").await;
        }
        person.types("#f-type", "invoice.paid").await;
        person.click(".filters button").await;
        browser.until_it_says("Clear filters").await;
        assert_eq!(browser.eval("document.querySelectorAll('tbody tr').length").await, MISSED, "only what is missed");
        person.click(".c-main a").await;
        browser.until_it_says("500 Internal Server Error").await;
        let page = browser.text().await;
        assert!(page.contains("the database is locked"), "the receiver's answer says why:\n{page}");
        let (clicks, words) = (person.clicks.take(), person.words.take());
        println!("customer: {customer}, JavaScript: {javascript}: {clicks} clicks and {words} words to the cause");
        assert!(clicks <= CLICKS_TO_THE_CAUSE && words <= WORDS_TO_THE_CAUSE, "{clicks} clicks, {words} words");

        person.click(".card a[href*='/resend?']").await;
        browser.until_it_says("Latest resends").await;
        person.click("button.primary").await;
        // Without a script, the page reloads by itself every few seconds; the test need not wait for that.
        let outcome = format!("{} delivered", MISSED + 1);
        if javascript {
            browser.until_it_says(&outcome).await;
        } else {
            reload_until(&browser, &outcome).await;
        }
        let clicks = person.clicks.take();
        println!("customer: {customer}, JavaScript: {javascript}: {clicks} clicks to the outcome");
        assert!(clicks <= CLICKS_TO_THE_OUTCOME, "{clicks} clicks");
        assert_eq!(browser.complaints().await, Vec::<String>::new());
        browser.close().await;
    }
}
