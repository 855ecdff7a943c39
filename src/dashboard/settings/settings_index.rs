//! The page *Settings*: links to all settings pages.

use actix_web::http::StatusCode;
use askama::Template;

use crate::dashboard::http::current_user::CurrentOperator;
use crate::dashboard::http::handler_input::{PageInput, PageResult};
use crate::dashboard::http::layout::{NavEntry, NavItem, PageLayout, answer};

#[derive(Template)]
#[template(path = "settings.html")]
struct SettingsPage {
    layout: PageLayout,
}

impl SettingsPage {
    /// The pages, each with a sentence.
    fn entries(&self) -> Vec<(NavEntry, &'static str)> {
        let about = |entry: NavEntry| {
            let text = match entry.path.as_str() {
                "/settings/organization" => "Name, portal theme, retention, retries and limits.",
                "/settings/organizations" => "Create organizations and switch between them.",
                "/sessions" => "Open sessions of operators.",
                "/keys" => "Credentials for the REST API.",
                "/operators" => "Accounts that sign in to this dashboard.",
                "/audit" => "Sign-ins, resends, secret reveals and changes.",
                "/operational" => "Notifications about endpoints, deliveries and the outbox, also to chat channels.",
                "/outbox" => "Relay activity, and rows that could not be routed.",
                path if path.ends_with("/docs") => "All operations of the REST API, with examples.",
                _ => "",
            };
            (entry, text)
        };
        self.layout.settings().into_iter().map(about).collect()
    }
}

/// `GET /settings`.
pub async fn show(PageInput { user, .. }: PageInput<CurrentOperator>) -> PageResult {
    answer(StatusCode::OK, &SettingsPage { layout: PageLayout::of(&user, NavItem::Settings) })
}
