//! The page *Settings*: links to all pages of its kind.

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
                "/settings/organization" => "Its name, the portal's theme, retention, retries and limits.",
                "/settings/organizations" => "All organizations, and new ones.",
                "/sessions" => "Who is signed in.",
                "/keys" => "Credentials for the REST API.",
                "/operators" => "Accounts of this dashboard, and your password.",
                "/audit" => "Who did what, and when.",
                "/operational" => "Notifications about endpoints, deliveries and the outbox, also to chat channels.",
                "/outbox" => "The relay, and rows that could not be routed.",
                "/docs" => "All operations of the REST API, with examples.",
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
