//! The route table of the API, as it stands in the source: what must be tested for all routes is then tested for one that is
//! added, without anybody thinking of it.

use std::collections::BTreeSet;

/// One operation of the table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    pub method: &'static str,
    /// With its `{parts}`, and without `/api/v1`.
    pub path: String,
    /// Whether it does something; else it says 501.
    pub answered: bool,
}

/// The operations in `src/api/mod.rs`.
pub fn routes() -> Vec<Route> {
    const METHODS: [(&str, &str); 5] =
        [(".get(", "GET"), (".post(", "POST"), (".put(", "PUT"), (".patch(", "PATCH"), (".delete(", "DELETE")];
    let source = include_str!("../../src/api/mod.rs");
    let mut found = Vec::new();
    for line in source.split("at(\"/").skip(1) {
        let (path, rest) = line.split_once('"').expect("the end of a path");
        // Up to the next line of the table, the end of a statement or a comment.
        let handlers = rest.split(".service(").next().unwrap_or_default();
        let handlers = handlers.split([';', '/']).next().unwrap_or_default();
        let before = found.len();
        for (call, method) in METHODS {
            if let Some((_, handler)) = handlers.split_once(call) {
                let answered = !handler.trim_start().starts_with("not_supported");
                found.push(Route { method, path: format!("/{path}"), answered });
            }
        }
        assert!(found.len() > before, "no method at /{path}: {handlers}");
    }
    assert!(found.len() > 60, "the table is not where it was: {found:?}");
    let different: BTreeSet<(&str, &str)> = found.iter().map(|route| (route.method, &*route.path)).collect();
    assert_eq!(different.len(), found.len(), "twice in the table");
    found
}
