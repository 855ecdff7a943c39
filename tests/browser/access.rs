//! What holds for every page, on a phone and on a wide screen, light and dark: axe-core finds nothing, nothing is wider than the
//! screen, style sheets and scripts are small, and the browser complains of nothing. The pages come from the table of routes, and so do the answers to forms.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::driver::{ALL_WIDTHS, Browser, Kind, WIDTHS};
use crate::site::{CAREFUL, PASSWORD, Page, Site};
use crate::story::Story;
use crate::support::SOON;

/// The source of axe-core, of the npm packages that `make npm` installs.
fn axe() -> String {
    let npm = std::env::var("SENDOFF_TEST_NPM").map_or_else(|_| PathBuf::from("target/npm"), PathBuf::from);
    let file = npm.join("node_modules/axe-core/axe.min.js");
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}. `make npm` installs it", file.display()))
}

/// The rules about colours, which is all that dark pages can break and light ones do not.
const COLOURS: &str = "runOnly: {type: 'rule', values: ['color-contrast', 'link-in-text-block']}";

/// What axe-core says of the page: the rule, what it means, and the elements.
async fn violations(browser: &Browser, rules: &str) -> Vec<String> {
    let run = format!(
        "const done = arguments[arguments.length - 1];
        axe.run(document, {{resultTypes: ['violations'], {rules}}}).then((found) => done(found.violations.map((one) =>
            `${{one.id}}: ${{one.help}}: ${{one.nodes.slice(0, 4).map((node) => node.target.join(' ')).join(' | ')}}`)));"
    );
    let found = browser.execute_async(&run, Vec::new()).await.expect("axe-core runs");
    let list: Vec<Value> = found.json().as_array().cloned().unwrap_or_default();
    list.iter().map(|one| one.as_str().unwrap_or_default().to_owned()).collect()
}

/// What is wider than the screen.
async fn too_wide(browser: &Browser) -> Option<String> {
    const WIDEST: &str = "[...document.querySelectorAll('main *, header *')].filter((one) => one.getBoundingClientRect().right > innerWidth + 1 && !one.closest('.scroll, pre, nav'))
        .slice(0, 3).map((one) => one.tagName + '.' + one.className).join(' ')";
    let wide = browser.eval("document.documentElement.scrollWidth - innerWidth").await.as_i64().unwrap_or(0);
    if wide <= 0 {
        return None;
    }
    Some(format!("{wide} px wider than the screen: {}", browser.eval(WIDEST).await))
}

/// Rows of a table whose texts differ in size and, on a wide screen, requests that do not stand beside their responses.
async fn uneven(browser: &Browser, wide: bool) -> Vec<String> {
    const SIZES: &str = "[...document.querySelectorAll('.rows tbody tr')].map((row) => {
            const walker = document.createTreeWalker(row, NodeFilter.SHOW_TEXT), sizes = new Set();
            while (walker.nextNode()) {
                const text = walker.currentNode, of = text.parentElement;
                if (text.data.trim() && of.offsetParent && !of.closest('.unseen, option, pre')) sizes.add(getComputedStyle(of).fontSize);
            }
            return [...sizes].sort().join(' and ');
        }).filter((sizes) => sizes.includes(' and ')).slice(0, 1).map((sizes) => `texts of ${sizes} in one row`)";
    const SIDES: &str = "[...document.querySelectorAll('details[open] .sides')]
        .filter(({ children: [one, other] }) => other && one.getBoundingClientRect().top !== other.getBoundingClientRect().top)
        .slice(0, 1).map(() => 'a response below its request')";
    let found = async |script: &str| serde_json::from_value::<Vec<String>>(browser.eval(script).await).expect("texts");
    let mut all = found(SIZES).await;
    if wide {
        all.extend(found(SIDES).await);
    }
    all
}

/// The most bytes of style sheets, and of scripts, that a page loads.
const MOST: [(&str, u64); 2] = [("css", 25_000), ("js", 60 * 1024)];

/// Style sheets and scripts that weigh too much, and requests elsewhere.
async fn too_heavy(browser: &Browser) -> Vec<String> {
    const LOADED: &str = "performance.getEntriesByType('resource').map((one) => [one.name, one.decodedBodySize])";
    let own = browser.eval("location.origin").await.as_str().unwrap_or_default().to_owned();
    let loaded: Vec<(String, u64)> = serde_json::from_value(browser.eval(LOADED).await).expect("names and sizes");
    let mut found = Vec::new();
    for (kind, most) in MOST {
        let files = loaded.iter().filter(|(name, _)| name.ends_with(&format!(".{kind}")));
        let bytes: u64 = files.map(|(_, bytes)| bytes).sum();
        if bytes == 0 || bytes >= most {
            found.push(format!("{bytes} bytes of {kind}"));
        }
    }
    found
        .extend(loaded.into_iter().filter(|(name, _)| !name.starts_with(&own)).map(|(name, _)| format!("asks {name}")));
    found
}

/// The status of the page's response.
async fn status(browser: &Browser) -> u64 {
    browser.eval("performance.getEntriesByType('navigation')[0].responseStatus").await.as_u64().unwrap_or(0)
}

/// Everything that is wrong with the page that the browser shows, in all widths and both colours.
async fn faults(browser: &Browser, axe: &str, ok: bool) -> Vec<String> {
    // An error's page comes with its status, which the console tells as well.
    let complaints = browser.complaints().await;
    let mut faults: Vec<String> =
        complaints.into_iter().filter(|line| ok || !line.contains("the server responded with")).collect();
    faults.extend(too_heavy(browser).await);
    browser.execute(axe, Vec::new()).await.expect("axe-core loads");
    for width in ALL_WIDTHS {
        browser.resize(width).await;
        let mut found: Vec<String> = too_wide(browser).await.into_iter().collect();
        found.extend(uneven(browser, width >= 1_200).await);
        if WIDTHS.contains(&width) {
            found.extend(violations(browser, "").await);
            browser.dark(true).await;
            found.extend(violations(browser, COLOURS).await.into_iter().map(|fault| format!("dark: {fault}")));
            browser.dark(false).await;
        }
        faults.extend(found.into_iter().map(|fault| format!("{width} px: {fault}")));
    }
    faults
}

/// The faults of these pages.
async fn look(site: &Site, browser: &Browser, axe: &str, pages: &[Page]) -> Vec<String> {
    let mut found = Vec::new();
    for page in pages {
        browser.goto(site.url(&page.path)).await.unwrap();
        let status = status(browser).await;
        if (status == 200) != page.ok {
            found.push(format!("{}: {status}", page.path));
        }
        found.extend(faults(browser, axe, page.ok).await.into_iter().map(|fault| format!("{}: {fault}", page.path)));
    }
    found
}

#[tokio::test]
async fn axe_finds_nothing_and_everything_fits() {
    let (story, axe) = (Story::told().await, axe());
    let browser = Browser::open(Kind::WIDE).await;
    story.enter(&browser).await;
    browser.complaints().await;
    let pages = story.pages();
    let found = look(&story, &browser, &axe, &pages).await;
    browser.close().await;
    println!("axe-core looked at {} pages", pages.len());
    assert!(pages.len() > 90, "the table of routes is read");
    assert!(found.is_empty(), "{} faults:\n{}", found.len(), found.join("\n"));
}

#[tokio::test]
async fn pages_with_nothing_on_them_are_as_good() {
    let (site, axe) = (Site::new().await, axe());
    let browser = Browser::open(Kind::WIDE).await;
    site.enter(&browser).await;
    browser.complaints().await;
    let found = look(&site, &browser, &axe, &site.pages()).await;
    browser.close().await;
    assert!(found.is_empty(), "{} faults:\n{}", found.len(), found.join("\n"));
}

#[tokio::test]
async fn pages_without_a_session_are_as_good() {
    let (story, axe) = (Story::told().await, axe());
    let browser = Browser::open(Kind::WIDE).await;
    let mut found = look(&story, &browser, &axe, &story.open_pages()).await;
    // A wrong password, a right one, and a wrong code.
    browser.goto(story.url("/login")).await.unwrap();
    for (typed, says) in [
        (&[("name", CAREFUL), ("password", "wrong")][..], "Sign in with Example"),
        (&[("name", CAREFUL), ("password", PASSWORD)], "Enter your code"),
        (&[("code", "000000")], "This code is wrong"),
    ] {
        for (field, text) in typed {
            let field = browser.element(&format!("input[name={field}]")).await;
            field.clear().await.unwrap();
            field.send_keys(*text).await.unwrap();
        }
        browser.element("form.fields button, form button.primary").await.click().await.unwrap();
        browser.until_it_says(says).await;
        found.extend(faults(&browser, &axe, false).await.into_iter().map(|fault| format!("{says}: {fault}")));
    }
    browser.close().await;
    assert!(found.is_empty(), "{} faults:\n{}", found.len(), found.join("\n"));
}

/// A form of the table of access that is answered with a page.
struct Answer {
    action: String,
    /// The page that has the form.
    page: String,
    /// It is wrong input that is answered.
    wrong: bool,
}

/// Forms that are answered with a page, by the table of access.
fn answers(site: &Site) -> Vec<Answer> {
    let rows = include_str!("../dashboard/access.txt").lines().filter(|line| line.starts_with("POST "));
    rows.filter_map(|row| {
        let words: Vec<&str> = row.split_whitespace().skip(1).collect();
        let (route, cells) = words.split_first()?;
        let wrong = cells.contains(&"422");
        if !wrong && !cells.contains(&"200") || *route == "/account/password" {
            return None;
        }
        let last = route.rsplit('/').next()?;
        let parent = route.strip_suffix(&format!("/{last}"))?;
        // These have a button on the page of their thing.
        let page = if ["secret", "test", "reset"].contains(&last) { parent } else { route };
        Some(Answer { action: site.path(route)?, page: site.path(page)?, wrong })
    })
    .collect()
}

/// Sends the form of the page whose action it is: with what is wanted, or with text that no field takes.
async fn send(browser: &Browser, action: &str, wrong: bool) {
    let script = format!(
        "const form = [...document.forms].find((form) => form.method === 'post' && new URL(form.action).pathname === {});
        for (const one of form.querySelectorAll('input:not([type=hidden]), textarea, select')) {{
            if (one.options) {{ if ({wrong}) one.add(new Option('', 'no such thing!', true, true)); continue; }}
            if (['checkbox', 'radio'].includes(one.type)) {{ one.checked ||= one.required; continue; }}
            if ({wrong}) one.value = one.type === 'number' ? '' : '\\u0007 no such thing!';
            else if (one.required && !one.value) one.value = 'sample';
        }}
        form.noValidate = true;
        window.__sent = true;
        form.submit();",
        json!(action)
    );
    browser.execute(&script, Vec::new()).await.unwrap_or_else(|error| panic!("{action}: {error}"));
    let start = std::time::Instant::now();
    while browser.eval("!window.__sent && document.readyState === 'complete'").await != true {
        assert!(start.elapsed() < SOON, "{action} is not answered");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn answers_to_forms_are_as_good() {
    let (story, axe) = (Story::told().await, axe());
    let browser = Browser::open(Kind::WIDE).await;
    story.enter(&browser).await;
    browser.complaints().await;
    let answers = answers(&story);
    assert!(answers.len() > 20, "the table of access is read");
    let mut found = Vec::new();
    for Answer { action, page, wrong } in answers {
        browser.goto(story.url(&page)).await.unwrap();
        browser.complaints().await;
        send(&browser, &action, wrong).await;
        let status = status(&browser).await;
        if status != if wrong { 422 } else { 200 } {
            found.push(format!("{action}: {status}\n{}", browser.text().await));
        }
        found.extend(faults(&browser, &axe, !wrong).await.into_iter().map(|fault| format!("{action}: {fault}")));
    }
    browser.close().await;
    assert!(found.is_empty(), "{} faults:\n{}", found.len(), found.join("\n"));
}
