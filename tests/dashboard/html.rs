//! Reads HTML strictly enough to notice what does not belong: tags and attributes that no template has, quotes that are not closed,
//! elements that overlap. Foreign text that broke out of its place would be one of these.

/// Every element a template uses.
const ELEMENTS: &[&str] = &[
    "!doctype",
    "html",
    "head",
    "meta",
    "title",
    "link",
    "body",
    "a",
    "header",
    "div",
    "svg",
    "path",
    "circle",
    "rect",
    "polyline",
    "line",
    "text",
    "g",
    "span",
    "nav",
    "form",
    "input",
    "button",
    "main",
    "p",
    "strong",
    "b",
    "h1",
    "h2",
    "h3",
    "ul",
    "li",
    "ol",
    "bdi",
    "section",
    "table",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "time",
    "code",
    "pre",
    "dl",
    "dt",
    "dd",
    "details",
    "summary",
    "figure",
    "figcaption",
    "i",
    "article",
    "em",
    "br",
    "hr",
    "script",
    "template",
];

/// Every attribute a template uses. No `style`, no `on…`.
const ATTRIBUTES: &[&str] = &[
    "html",
    "data-theme",
    "data-clock",
    "aria-pressed",
    "lang",
    "charset",
    "name",
    "content",
    "rel",
    "href",
    "type",
    "class",
    "id",
    "title",
    "datetime",
    "method",
    "action",
    "value",
    "aria-label",
    "aria-labelledby",
    "aria-current",
    "aria-hidden",
    "role",
    "tabindex",
    "viewbox",
    "width",
    "height",
    "d",
    "cx",
    "cy",
    "r",
    "x",
    "y",
    "x1",
    "x2",
    "y1",
    "y2",
    "text-anchor",
    "scope",
    "open",
    "hidden",
    "colspan",
    "for",
    "autofocus",
    "disabled",
    "fill",
    "stroke",
    "points",
    "preserveaspectratio",
    "translate",
    "src",
    "defer",
    "data-as",
    "data-at",
    "data-step",
    "data-zone",
    "data-key",
    "data-theme",
    "data-clock",
];

/// What forms, progress and scripts need besides.
const MORE_ELEMENTS: &[&str] =
    &["label", "select", "option", "datalist", "textarea", "fieldset", "legend", "progress", "noscript", "script"];
const MORE_ATTRIBUTES: &[&str] = &[
    "selected",
    "checked",
    "placeholder",
    "autocomplete",
    "spellcheck",
    "step",
    "max",
    "http-equiv",
    "aria-invalid",
    "aria-describedby",
    "data-refresh",
    "src",
    "defer",
    "data-id",
    "data-events",
    "data-key",
    "data-confirm",
    "list",
    "data-href",
    "data-filter",
    "data-key",
    "data-copy",
    "data-copies",
    "data-select",
    "data-label",
    "data-counted",
    "data-word",
    "form",
    "formaction",
    "aria-required",
    "rows",
    "min",
    "novalidate",
    "data-enter",
    "alt",
    "referrerpolicy",
    "autocapitalize",
    "required",
    "readonly",
];

const VOID: [&str; 8] = ["!doctype", "meta", "link", "input", "br", "hr", "path", "img"];

/// A tag, taken apart.
#[derive(Debug)]
pub struct Tag {
    pub name: String,
    pub closing: bool,
    pub attributes: Vec<(String, String)>,
}

/// Checks a whole page; gives back its tags.
pub fn check(page: &str, whence: &str) -> Vec<Tag> {
    let tags = tags(page);
    let mut open: Vec<&str> = Vec::new();
    for tag in &tags {
        let known = ELEMENTS.contains(&tag.name.as_str()) || MORE_ELEMENTS.contains(&tag.name.as_str());
        let logo = tag.name == "img" && tag.attributes.contains(&("class".to_owned(), "logo".to_owned()));
        assert!(known || logo, "{whence}: a foreign element: {tag:?}");
        for (name, value) in &tag.attributes {
            let known = ATTRIBUTES.contains(&name.as_str()) || MORE_ATTRIBUTES.contains(&name.as_str());
            assert!(known, "{whence}: a foreign attribute: {tag:?}");
            if name == "src" {
                let ours = tag.name == "script" && value.starts_with("/static/");
                assert!(ours || (logo && value.starts_with("https://")), "{whence}: it loads something: {tag:?}");
            }
            if matches!(name.as_str(), "href" | "action" | "formaction" | "data-events") {
                let ours = value.starts_with('/') && !value.starts_with("//") || value.starts_with('#');
                assert!(ours, "{whence}: a link that leads away: {tag:?}");
            }
        }
        match (tag.closing, VOID.contains(&tag.name.as_str()) || is_shape(&tag.name)) {
            (_, true) => {}
            (false, false) => open.push(&tag.name),
            (true, false) => assert_eq!(open.pop(), Some(tag.name.as_str()), "{whence}: elements overlap: {tag:?}"),
        }
    }
    assert!(open.is_empty(), "{whence}: left open: {open:?}");
    check_landmarks(&tags, whence);
    let scripts = tags.iter().filter(|tag| tag.name == "script" && !tag.closing).count();
    assert_eq!(page.matches("\" defer></script>").count(), scripts, "{whence}: a script that is not one of our files");
    let hides = |c: char| matches!(c, '\u{0}'..='\u{8}' | '\u{b}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    assert_eq!(page.find(hides), None, "{whence}: a character that hides or rearranges");
    tags
}

/// Who moves from landmark to landmark has to be able to tell them apart.
fn check_landmarks(tags: &[Tag], whence: &str) {
    let mut seen = std::collections::HashSet::new();
    for tag in tags.iter().filter(|tag| !tag.closing) {
        let value = |name: &str| tag.attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let label = value("aria-label").or(value("aria-labelledby"));
        let role = match (tag.name.as_str(), label) {
            ("nav", _) => "navigation",
            ("form", _) if value("role") == Some("search") => "search",
            ("form", Some(_)) => "form",
            ("section", Some(_)) => "region",
            _ => continue,
        };
        assert!(seen.insert((role, label)), "{whence}: two landmarks of one name: {tag:?}");
    }
}

/// Shapes close themselves.
fn is_shape(name: &str) -> bool {
    matches!(name, "circle" | "rect" | "line" | "polyline")
}

/// Every tag, read as a browser does: a quote belongs to its attribute until it closes.
fn tags(page: &str) -> Vec<Tag> {
    let mut tags = Vec::new();
    let mut rest = page;
    while let Some(place) = rest.find('<') {
        let (tag, after) = read(&rest[place + 1..]);
        tags.push(tag);
        rest = after;
    }
    tags
}

fn read(text: &str) -> (Tag, &str) {
    let closing = text.starts_with('/');
    let text = text.strip_prefix('/').unwrap_or(text);
    let end = text.find(|c: char| c.is_whitespace() || c == '>' || c == '/').expect("a tag that ends");
    let mut tag = Tag { name: text[..end].to_lowercase(), closing, attributes: Vec::new() };
    let mut rest = text[end..].trim_start();
    loop {
        rest = rest.trim_start().trim_start_matches('/').trim_start();
        if let Some(after) = rest.strip_prefix('>') {
            return (tag, after);
        }
        let end = rest.find(|c: char| c.is_whitespace() || "=>/".contains(c)).expect("an attribute that ends");
        let name = rest[..end].to_lowercase();
        rest = &rest[end..];
        let mut value = String::new();
        if let Some(after) = rest.strip_prefix('=') {
            let inner = after.strip_prefix('"').unwrap_or_else(|| panic!("an attribute without quotes: {name}"));
            let close = inner.find('"').expect("a quote that closes");
            value = inner[..close].to_owned();
            rest = &inner[close + 1..];
        }
        tag.attributes.push((name, value));
    }
}

#[test]
fn the_check_of_pages_rejects_bad_markup() {
    const OURS: &str = "<script src=\"/static/a\" defer></script><script src=\"/static/b\" defer></script>";
    check(&format!("<!doctype html>{OURS}<p class=\"a\">x &lt;script&gt;</p><br>"), "good");
    for bad in [
        "<script>alert(1)</script>",
        "<script src=\"//evil.example\" defer></script>",
        "<p src=\"/static/a\">x</p>",
        "<p onclick=\"x\">y</p>",
        "<p style=\"x\">y</p>",
        "<a href=\"javascript:alert(1)\">y</a>",
        "<a href=\"//evil.example\">y</a>",
        "<p><b>x</p></b>",
        "<p>x",
        "<p>\u{202e}x</p>",
        "<p>\u{8}x</p>",
    ] {
        let bad = format!("{OURS}{bad}");
        assert!(std::panic::catch_unwind(|| check(&bad, "bad")).is_err(), "{bad}");
    }
}
