//! `make screenshots`: pictures of the pages, into target/screenshots; the few that the README shows go to docs/screenshots.

use std::path::Path;

use crate::driver::{Browser, Kind, ROLLUP_LEVELS};
use crate::story::Story;

#[tokio::test]
#[ignore = "makes pictures: `make screenshots`"]
async fn screenshots() {
    let story = Story::told().await;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/screenshots");
    std::fs::create_dir_all(&folder).expect("a folder");
    for width in ROLLUP_LEVELS {
        for dark in [false, true] {
            let browser = Browser::open(Kind { dark, ..Kind::of_width(width) }).await;
            story.enter(&browser).await;
            for page in story.pages() {
                browser.goto(story.url(&page.path)).await.unwrap();
                let name = format!("{}-{width}{}.png", story.name(&page.path), if dark { "-dark" } else { "" });
                std::fs::write(folder.join(&name), browser.picture().await).expect("a picture");
                println!("target/screenshots/{name}");
            }
            browser.close().await;
        }
    }
}
