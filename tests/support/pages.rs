//! The route table of the dashboard and the portal, read from the source: a test for every page covers new pages too.

use std::collections::BTreeSet;

/// The files with the tables, and the module by which other tables name theirs.
const FILES: [(&str, &str); 3] = [
    ("", include_str!("../../src/dashboard/mod.rs")),
    ("portal", include_str!("../../src/dashboard/portal/mod.rs")),
    ("polling", include_str!("../../src/dashboard/endpoints/polling/mod.rs")),
];

/// One route of the table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Page {
    /// `GET` or `POST`.
    pub method: &'static str,
    /// With its `{parts}`.
    pub path: String,
}

impl Page {
    pub fn in_portal(&self) -> bool {
        self.path == "/portal" || self.path.starts_with("/portal/")
    }

    /// The path with `value` for each of its parts.
    pub fn path_with(&self, value: &str) -> String {
        let parts = self.path.split('{').enumerate();
        parts.map(|(i, part)| if i == 0 { part.to_owned() } else { format!("{value}{}", after(part, "}")) }).collect()
    }
}

/// Every route of the dashboard and of the portal.
pub fn pages() -> Vec<Page> {
    let mut found = Vec::new();
    read("", "mount", "", &mut found);
    read("portal", "routes", "/portal", &mut found);
    assert!(found.len() > 100, "only {} routes: the tables are not where they were", found.len());
    let different: BTreeSet<&Page> = found.iter().collect();
    assert_eq!(different.len(), found.len(), "twice in the tables");
    found
}

/// Adds the routes that the function `name` of a table mounts below `prefix`.
fn read(module: &str, name: &str, prefix: &str, found: &mut Vec<Page>) {
    let (_, source) = FILES.iter().find(|(file, _)| *file == module).unwrap_or_else(|| panic!("no table {module}"));
    let (_, body) = source.split_once(&format!("fn {name}(config")).unwrap_or_else(|| panic!("no {module} {name}"));
    let body = body.split("\n}\n").next().unwrap_or_default();
    for step in body.split("\n        .").flat_map(|line| line.split(";\n")) {
        if let Some((_, route)) = step.split_once("page(") {
            add(body, route, prefix, found);
        } else if let Some((_, scope)) = step.split_once("web::scope(\"/") {
            let prefix = format!("{prefix}/{}", scope.split('"').next().unwrap_or_default());
            follow(module, after(scope, "configure("), &prefix, found);
        } else if let Some((_, configure)) = step.split_once("configure(") {
            follow(module, configure, prefix, found);
        } else if let Some(called) = step.trim().trim_end_matches(';').strip_suffix("(config)") {
            follow(module, called, prefix, found);
        }
    }
}

/// Reads the function that `text` begins with: `pages)`, `polling::routes)`, `super::pages)`.
fn follow(module: &str, text: &str, prefix: &str, found: &mut Vec<Page>) {
    let name = text.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).next().unwrap_or_default();
    match name.rsplit_once("::") {
        // The parameter of `mount`: the portal, which is read by itself.
        None if name == "portal" => {}
        None if module == "portal" => read("", name, prefix, found),
        None => read(module, name, prefix, found),
        Some(("super", name)) => read("", name, prefix, found),
        Some((other, name)) => read(other, name, prefix, found),
    }
}

/// Adds the routes of one path: `"/keys", read().to(…)).route(web::post().to(…))`, or `&act("edit"), …`.
fn add(body: &str, route: &str, prefix: &str, found: &mut Vec<Page>) {
    let path = after(route, "\"").split('"').next().unwrap_or_default();
    let path = match route.strip_prefix('&').and_then(|named| named.split('(').next()) {
        Some(closure) => {
            let pattern = after(body, &format!("let {closure} = |path: &str| format!(\""));
            let pattern = pattern.split('"').next().unwrap_or_default();
            pattern
                .replace("{{", "\u{1}")
                .replace("}}", "\u{2}")
                .replace("{path}", path)
                .replace('\u{1}', "{")
                .replace('\u{2}', "}")
        }
        None => path.to_owned(),
    };
    let methods =
        [("GET", route.contains("read()") || route.contains("web::get()")), ("POST", route.contains("web::post()"))];
    let before = found.len();
    for (method, _) in methods.into_iter().filter(|(_, there)| *there) {
        found.push(Page { method, path: format!("{prefix}{path}") });
    }
    assert!(found.len() > before, "no method at {prefix}{path}");
}

fn after<'t>(text: &'t str, mark: &str) -> &'t str {
    text.split_once(mark).unwrap_or_else(|| panic!("no {mark:?} in {text}")).1
}
