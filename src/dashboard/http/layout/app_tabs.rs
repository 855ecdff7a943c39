//! The tabs of an application: its own page and its lists.

use crate::dashboard::http::current_user::{AppContext, CurrentUser};
use crate::dashboard::http::layout::{NavEntry, NavItem, PageLayout};

/// Names and paths below the application.
const TABS: [(&str, &str); 6] = [
    ("Endpoints", "endpoints"),
    ("Messages", "messages"),
    ("Deliveries", "deliveries"),
    ("Live", "tail"),
    ("Event types", "event-types"),
    ("Polling endpoints", "polling"),
];

/// The tabs, with `here` as the current one. A customer has the navigation instead, and operational webhooks have their
/// page.
fn tabs(context: &AppContext, here: &str) -> Vec<NavEntry> {
    let home = NavEntry { name: "Overview", path: context.paths.home().to_owned(), current: here.is_empty() };
    let entry = |(name, path): (&'static str, &str)| NavEntry {
        name,
        // The live tail is a page of the organization.
        path: if path == "tail" { format!("/tail?app={}", context.app.id) } else { context.paths.page(path) },
        current: path == here,
    };
    std::iter::once(home).chain(TABS.into_iter().map(entry)).collect()
}

/// The layout of a list of everything, or of one application.
pub fn layout(user: &CurrentUser, context: Option<&AppContext>, here: NavItem, tab: &str) -> PageLayout {
    let layout = PageLayout::of(user, here);
    match context {
        Some(context) => layout.tab(context, tab),
        None => layout,
    }
}

impl PageLayout {
    /// Makes the page a tab of its application: `endpoints`, or empty for the application's own page.
    pub fn tab(mut self, context: &AppContext, here: &str) -> PageLayout {
        if !self.portal && !context.operational {
            self.tabs = tabs(context, here);
        }
        if here.is_empty() { self } else { self.below(context, []) }
    }
}
