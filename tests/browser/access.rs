//! What holds for every page, on a phone and on a wide screen, light and dark: axe-core finds nothing, nothing is wider than the
//! screen, and the browser complains of nothing.

use std::path::PathBuf;

use serde_json::Value;

use crate::driver::{Browser, Kind, ROLLUP_LEVELS};
use crate::story::Story;

/// The source of axe-core, of the npm packages that `make npm` installs.
fn axe() -> String {
    let npm = std::env::var("SENDOFF_TEST_NPM").map_or_else(|_| PathBuf::from("target/npm"), PathBuf::from);
    let file = npm.join("node_modules/axe-core/axe.min.js");
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}. `make npm` installs it", file.display()))
}

/// What axe-core says of the page: the rule, what it means, and the elements.
async fn violations(browser: &Browser) -> Vec<String> {
    const RUN: &str = "const done = arguments[arguments.length - 1];
        axe.run(document, {resultTypes: ['violations']}).then((found) => done(found.violations.map((one) =>
            `${one.id}: ${one.help}: ${one.nodes.slice(0, 4).map((node) => node.target.join(' ')).join(' | ')}`)));";
    let found = browser.execute_async(RUN, Vec::new()).await.expect("axe-core runs");
    let list: Vec<Value> = found.json().as_array().cloned().unwrap_or_default();
    list.iter().map(|one| one.as_str().unwrap_or_default().to_owned()).collect()
}

/// Everything that is wrong with the page that the browser shows.
async fn faults(browser: &Browser, axe: &str) -> Vec<String> {
    let mut faults = browser.complaints().await;
    let wide = browser.eval("document.documentElement.scrollWidth - innerWidth").await.as_i64().unwrap_or(0);
    if wide > 0 {
        const WIDEST: &str = "[...document.querySelectorAll('main *, header *')].filter((one) => one.getBoundingClientRect().right > innerWidth + 1 && !one.closest('.scroll, pre, nav'))
            .slice(0, 3).map((one) => one.tagName + '.' + one.className).join(' ')";
        faults.push(format!("{wide} px wider than the screen: {}", browser.eval(WIDEST).await));
    }
    browser.execute(axe, Vec::new()).await.expect("axe-core loads");
    faults.extend(violations(browser).await);
    faults
}

#[tokio::test]
async fn axe_finds_nothing_and_everything_fits() {
    let (story, axe) = (Story::told().await, axe());
    let mut found = Vec::new();
    let mut looked = 0;
    for width in ROLLUP_LEVELS {
        let browser = Browser::open(Kind::of_width(width)).await;
        story.enter(&browser).await;
        browser.complaints().await;
        for page in story.pages() {
            for dark in [false, true] {
                browser.dark(dark).await;
                browser.goto(story.url(&page.path)).await.unwrap();
                looked += 1;
                let colours = if dark { "dark" } else { "light" };
                let faults = faults(&browser, &axe).await;
                // An error's page comes with its status, which the console tells as well.
                let faults = faults.into_iter().filter(|fault| page.ok || !fault.contains("the server responded with"));
                found.extend(faults.map(|fault| format!("{} ({width} px, {colours}): {fault}", page.path)));
            }
        }
        browser.close().await;
    }
    println!("axe-core looked at {looked} pages");
    assert!(found.is_empty(), "{} faults:\n{}", found.len(), found.join("\n"));
}
