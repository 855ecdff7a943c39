//! `make screenshots`: pictures of the pages, into target/screenshots: with a story on them, and with nothing.
//! `make pictures`: those of the README, of the running demo.

use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use crate::driver::{ALL_WIDTHS, Browser, Kind};
use crate::site::{Page, Site};
use crate::story::Story;
use crate::support::{Binary, SOON, eventually_blocking, sqlite_file};

/// The tallest picture.
const TALLEST: u64 = 2_400;

#[tokio::test]
#[ignore = "makes pictures: `make screenshots`"]
async fn screenshots() {
    let (story, nothing) = (Story::told().await, Site::new().await);
    take(&story, story.pages(), true, "").await;
    take(&story, story.open_pages(), false, "").await;
    take(&nothing, nothing.pages(), true, "empty-").await;
}

async fn take(site: &Site, pages: Vec<Page>, inside: bool, prefix: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/screenshots");
    std::fs::create_dir_all(&folder).expect("a folder");
    // SENDOFF_TEST_SCREENSHOTS=overview: only pages with that in their name.
    let wanted = std::env::var("SENDOFF_TEST_SCREENSHOTS").unwrap_or_default();
    let browser = Browser::open(Kind::WIDE).await;
    if inside {
        site.enter(&browser).await;
    }
    for page in pages {
        let name = format!("{prefix}{}", page.name);
        if !name.contains(&wanted) {
            continue;
        }
        browser.goto(site.url(&page.path)).await.unwrap();
        for width in ALL_WIDTHS {
            browser.resize(width).await;
            for dark in [false, true] {
                browser.dark(dark).await;
                let file = format!("{name}-{width}{}.png", if dark { "-dark" } else { "" });
                std::fs::write(folder.join(&file), browser.picture(TALLEST).await).expect("a picture");
            }
        }
        println!("target/screenshots/{name}-*.png");
    }
    browser.close().await;
}

/// How long the demo runs before its pictures: long enough for retries and a rest.
const DEMO: Duration = Duration::from_secs(90);

#[tokio::test]
#[ignore = "makes the README's pictures: `make pictures`"]
async fn demo_pictures() {
    let (unused, temporary) = (sqlite_file(), TempDir::new().unwrap());
    let binary = Binary::on(&unused.url()).set("TMPDIR", temporary.path().to_str().unwrap());
    let server = binary.unset("SENDOFF_JWT_SECRET").unset("SENDOFF_MASTER_KEY").start(&["demo"]);
    let greeting = eventually_blocking("the greeting", SOON, || {
        Some(server.output()).filter(|output| output.contains("First delivery"))
    });
    tokio::time::sleep(DEMO).await;
    let browser = Browser::open(Kind { width: 1_280, ..Kind::WIDE }).await;
    let link = greeting.split_whitespace().find(|word| word.contains("/login?")).expect("a link").to_owned();
    let at = |path: &str| format!("{}{path}", server.url());
    browser.goto(link).await.unwrap();
    browser.element("main form button").await.click().await.unwrap();
    browser.until_it_says("In the last hour").await;

    browser.goto(at("/?range=24h")).await.unwrap();
    keep(&browser, "overview", 1_150).await;
    browser.dark(true).await;
    keep(&browser, "overview-dark", 1_150).await;
    browser.dark(false).await;
    browser.goto(at("/deliveries?status=dead")).await.unwrap();
    browser.element(".c-main a").await.click().await.unwrap();
    browser.until_it_is_at("/messages/msg_").await;
    keep(&browser, "message", 900).await;
    browser.goto(at("/endpoints")).await.unwrap();
    browser.element("a[href*='/endpoints/']:has([title*='/pine-and-paper/shop'])").await.click().await.unwrap();
    browser.until_it_is_at("/endpoints/ep_").await;
    keep(&browser, "endpoint", 1_100).await;
    browser.resize_in(390, 2).await;
    browser.goto(at("/deliveries")).await.unwrap();
    keep(&browser, "deliveries-phone", 844).await;
    browser.resize(1_280).await;
    browser.goto(at("/applications")).await.unwrap();
    browser.element(".c-main a").await.click().await.unwrap();
    browser.element("button[name=open]").await.click().await.unwrap();
    browser.until_it_is_at("^/portal").await;
    if browser.eval("!!document.querySelector('[data-enter] button')").await == true {
        browser.element("main form button").await.click().await.unwrap();
    }
    browser.until_it_says("Endpoints of").await;
    keep(&browser, "portal", 1_000).await;
    browser.close().await;
}

/// Writes a picture of the README.
async fn keep(browser: &Browser, name: &str, height: u64) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("docs/screenshots/{name}.png"));
    std::fs::write(&file, browser.picture(height).await).expect("a picture");
    println!("docs/screenshots/{name}.png");
}
