//! Errors of page handlers. A handler returns a [`PageError`]; the middleware renders it as a page with a request id
//! that is also in the log.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderValue, RETRY_AFTER};
use actix_web::{HttpResponse, ResponseError};
use askama::Template;

use crate::dashboard::http::layout::{PageLayout, answer};
use crate::dashboard::http::preferences::Prefs;
use crate::dashboard::http::session::Cookies;
use crate::store::StoreError;
use crate::traffic::rate_limits::retry_after;

/// The reason a page was not rendered.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// No valid session. Operators are redirected to the sign-in page.
    #[error("not signed in")]
    NotSignedIn,
    /// Missing, or owned by another organization: the response must not reveal which.
    #[error("not found")]
    NotFound,
    /// The account must set up a second factor first. Operators are redirected to that page.
    #[error("second factor required")]
    SecondFactorRequired,
    /// The portal session lacks the capability.
    #[error("not allowed")]
    NotAllowed,
    #[error("method not allowed")]
    WrongMethod,
    /// The CSRF token is missing, expired or from another session.
    #[error("invalid CSRF token")]
    WrongToken,
    /// The request could not be parsed.
    #[error("{0}")]
    BadRequest(&'static str),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("template: {0}")]
    Template(#[from] askama::Error),
}

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage<'a> {
    layout: PageLayout,
    title: &'static str,
    what: &'static str,
    todo: &'static str,
    /// A link to continue with.
    home: Option<&'static str>,
    request_id: &'a str,
}

impl ResponseError for PageError {
    fn status_code(&self) -> StatusCode {
        match self {
            PageError::NotSignedIn => StatusCode::UNAUTHORIZED,
            PageError::NotFound => StatusCode::NOT_FOUND,
            PageError::WrongMethod => StatusCode::METHOD_NOT_ALLOWED,
            PageError::WrongToken | PageError::NotAllowed | PageError::SecondFactorRequired => StatusCode::FORBIDDEN,
            PageError::BadRequest(_) => StatusCode::BAD_REQUEST,
            PageError::Store(StoreError::Crowded { .. }) => StatusCode::TOO_MANY_REQUESTS,
            PageError::Store(error) if error.transient() => StatusCode::SERVICE_UNAVAILABLE,
            PageError::Store(_) | PageError::Template(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The fallback when rendering the error page fails too.
    fn error_response(&self) -> HttpResponse {
        HttpResponse::new(self.status_code())
    }
}

impl PageError {
    /// The error page, with the brand of the portal or of the dashboard.
    pub fn page(&self, whose: Cookies, prefs: Prefs, request_id: &str) -> HttpResponse {
        let customer = whose == Cookies::Portal;
        let (title, what, todo) = if customer { self.words_for_customers() } else { self.words() };
        let layout = if customer { PageLayout::of_portal(prefs, None) } else { PageLayout::bare() };
        let home = match (self, customer) {
            (PageError::NotSignedIn, _) => None,
            (_, true) => Some("/portal"),
            (_, false) => Some("/"),
        };
        let page = ErrorPage { layout, title, what, todo, home, request_id };
        let mut answer = answer(self.status_code(), &page).unwrap_or_else(|_| self.error_response());
        if answer.status() == StatusCode::TOO_MANY_REQUESTS {
            let wait = match self {
                PageError::Store(StoreError::Crowded { wait }) => *wait,
                _ => Duration::ZERO,
            };
            answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(retry_after(wait)));
        }
        answer
    }

    /// Portal texts mention neither logs nor databases nor the product's name.
    fn words_for_customers(&self) -> (&'static str, &'static str, &'static str) {
        match self {
            PageError::Store(error) if error.transient() => (
                "Temporarily unavailable",
                "These pages are unavailable right now. Accepted events are safe and will be delivered.",
                "Reload in a moment. If the problem persists, send the request id below to the team that gave you the link.",
            ),
            PageError::Store(StoreError::Crowded { .. }) => self.words(),
            PageError::Store(_) | PageError::Template(_) => (
                "Something went wrong",
                "This page could not be rendered. Nothing was changed.",
                "Send the request id below to the team that gave you the link.",
            ),
            _ => self.words(),
        }
    }

    fn words(&self) -> (&'static str, &'static str, &'static str) {
        match self {
            PageError::NotFound => (
                "Page not found",
                "This page does not exist, or its content was deleted.",
                "Messages are deleted after the retention period, and when their application is deleted.",
            ),
            PageError::NotAllowed => (
                "You don't have permission.",
                "Your access does not include this action. Nothing was changed.",
                "Ask the team that gave you access.",
            ),
            PageError::SecondFactorRequired => (
                "Set up two-factor sign-in",
                "Your account needs a second factor first. Nothing was changed.",
                "Open your account and set it up.",
            ),
            PageError::WrongMethod => (
                "Method not allowed",
                "This address accepts form submissions only.",
                "Open the page and use its button.",
            ),
            PageError::WrongToken => (
                "This form has expired",
                "Nothing was changed: the form belongs to another session.",
                "Go back, reload the page and try again.",
            ),
            PageError::BadRequest(what) => ("Invalid request", what, "Nothing was changed. Go back and try again."),
            PageError::Store(error) if error.transient() => (
                "Database unavailable",
                "Sendoff cannot reach its database. Accepted events are safe; deliveries resume when it is back.",
                "Reload in a moment. If the problem persists, check /readyz and the log.",
            ),
            PageError::Store(StoreError::Crowded { .. }) => (
                "Too many searches",
                "Too many searches ran in a short time. Nothing was changed.",
                "Reload in a moment.",
            ),
            PageError::NotSignedIn => (
                "Your session has ended",
                "A portal link works once, and its session is limited in time.",
                "Ask for a new link where you found the last one.",
            ),
            PageError::Store(_) | PageError::Template(_) => (
                "Something went wrong",
                "Sendoff could not render this page. Nothing was changed.",
                "The log has the reason under the request id below.",
            ),
        }
    }
}

/// The response for unknown paths.
pub async fn not_found() -> Result<HttpResponse, PageError> {
    Err(PageError::NotFound)
}

/// The response for a known path with another method.
pub async fn wrong_method() -> Result<HttpResponse, PageError> {
    Err(PageError::WrongMethod)
}
