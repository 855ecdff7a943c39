//! What holds for every page and template: the headers that keep a browser safe, no script, no style of its own, and files that are
//! small and kept for good.

use std::path::{Path, PathBuf};

use reqwest::{Method, StatusCode};

use crate::support::on_both;
use crate::world::World;

on_both! {
    every_answer_carries_the_headers
    static_files_are_kept_for_good_under_their_hash
}

const CSP: &str = "default-src 'none'; style-src 'self'; img-src 'self'; script-src 'self'; connect-src 'self'; \
     form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

async fn every_answer_carries_the_headers(world: World) {
    let link = world.link().await;
    let browser = world.sign_in().await;
    for path in ["/", "/deliveries", "/outbox", "/nowhere", "/login", &link, "/static/x/app.css"] {
        for (cookie, host) in [(browser.cookie.as_str(), None), ("", None), ("", Some("evil.example"))] {
            let mut request = world.request(Method::GET, path).header("cookie", cookie);
            if let Some(host) = host {
                request = request.header("host", host);
            }
            let response = request.send().await.unwrap();
            let header = |name: &str| response.headers().get(name).map_or("", |value| value.to_str().unwrap());
            assert_eq!(header("content-security-policy"), CSP, "{path}");
            assert_eq!(header("x-content-type-options"), "nosniff", "{path}");
            assert_eq!(header("referrer-policy"), "same-origin", "{path}");
            assert!(!header("permissions-policy").is_empty(), "{path}");
            assert_eq!(header("x-request-id").len(), 12, "{path}");
            let cached = if path.starts_with("/static") && host.is_none() { "no-cache" } else { "no-store" };
            assert_eq!(header("cache-control"), cached, "{path}");
        }
    }
}

async fn static_files_are_kept_for_good_under_their_hash(world: World) {
    let page = world.request(Method::GET, "/login").send().await.unwrap().text().await.unwrap();
    let files: Vec<&str> = page.split('"').filter(|url| url.starts_with("/static/")).collect();
    assert_eq!(files.len(), 8, "{page}");
    for file in files {
        let response = world.request(Method::GET, file).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{file}");
        assert_eq!(response.headers()["cache-control"], "public, max-age=31536000, immutable");
        let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
        let wanted = match file.rsplit('.').next() {
            Some("css") => "text/css; charset=utf-8",
            Some("js") => "text/javascript; charset=utf-8",
            _ => "image/svg+xml",
        };
        assert_eq!(kind, wanted);
        let body = response.bytes().await.unwrap();
        assert!(file.contains(&sha(&body)), "{file}: the hash is not of what is served");
    }
}

fn sha(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    hex::encode(sha2::Sha256::digest(bytes))[..16].to_owned()
}

fn files(folder: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let text = std::fs::read_to_string(&path).expect("text");
                found.push((path, text));
            }
        }
    }
    assert!(!found.is_empty());
    found
}

/// What a page loads of these files, with what every page does, is less than `most` bytes.
fn weigh(files_of_kind: &[(PathBuf, String)], most: usize) {
    let size =
        |name: &str| files_of_kind.iter().find(|(path, _)| path.ends_with(name)).map_or(0, |(_, text)| text.len());
    let linked = |page: &str| -> usize {
        page.split("layout.asset(\"").skip(1).filter_map(|rest| rest.split('"').next()).map(size).sum()
    };
    let templates = files("templates");
    let base = templates.iter().find(|(path, _)| path.ends_with("base.html")).map_or(0, |(_, text)| linked(text));
    assert!(base > 4_000, "what every page loads is found");
    for (path, text) in &templates {
        let bytes = base + if path.ends_with("base.html") { 0 } else { linked(text) };
        assert!(bytes < most, "{}: {bytes} bytes", path.display());
    }
}

/// The scripts that the layout and the live page load, as they do.
const SCRIPTS: [&str; 5] = [
    "<script src=\"{{ layout.asset(\"list.js\") }}\" defer></script>",
    "<script src=\"{{ layout.asset(\"chart.js\") }}\" defer></script>",
    "<script src=\"{{ layout.asset(\"tail.js\") }}\" defer></script>",
    "<script src=\"{{ layout.asset(\"refresh.js\") }}\" defer></script>",
    "<script src=\"{{ layout.asset(\"app.js\") }}\" defer></script>",
];

#[test]
fn no_template_has_a_script_of_its_own_a_style_or_an_event_handler() {
    for (path, text) in files("templates") {
        let text = SCRIPTS.into_iter().fold(text, |text, script| text.replace(script, ""));
        assert_eq!(faults(&text), Vec::<String>::new(), "{}", path.display());
    }
    for bad in [
        "<script>x</script>",
        "<script src=\"{{ x }}\"></script>",
        "<style>p{}</style>",
        "<p style=\"x\">",
        "<p onclick=\"x\">",
        "<p\n  ONLOAD='x'>",
        "{{ x|safe }}",
        "<a href=\"https://a.example\">",
        "<a href={{ x }}>",
    ] {
        assert!(!faults(bad).is_empty(), "{bad}");
    }
}

/// What must not be in a template.
fn faults(text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    let mut found: Vec<String> = ["<script", "<style", "|safe", "| safe", "javascript:", "http://", "https://"]
        .into_iter()
        .filter(|word| lower.contains(word))
        .map(str::to_owned)
        .collect();
    for (place, _) in lower.match_indices('=') {
        let name = lower[..place].rsplit(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).next().unwrap_or_default();
        let before = lower[..place - name.len()].chars().next_back();
        if before.is_some_and(char::is_whitespace) && lower[place + 1..].starts_with('{') {
            found.push(format!("{name} without quotes"));
        }
        if name == "style" || (name.starts_with("on") && name.len() > 3) {
            found.push(name.to_owned());
        }
    }
    found
}

#[test]
fn style_sheets_are_small_and_ask_for_nothing_from_outside() {
    let sheets: Vec<_> =
        files("static").into_iter().filter(|(path, _)| path.extension().is_some_and(|e| e == "css")).collect();
    weigh(&sheets, 25_000);
    for (path, text) in sheets {
        assert!(!text.contains("url(") && !text.contains("@import"), "{}", path.display());
    }
}

#[test]
fn scripts_are_small_and_make_no_html_of_text() {
    let scripts: Vec<_> =
        files("static").into_iter().filter(|(path, _)| path.extension().is_some_and(|e| e == "js")).collect();
    weigh(&scripts, 60 * 1024);
    for (path, text) in &scripts {
        for way in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function("] {
            assert!(!text.contains(way), "{}: {way}: foreign text could become HTML or code", path.display());
        }
    }
}
