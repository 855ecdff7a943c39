//! The least role for each page of the dashboard: one table from route to role. The middleware checks it before any
//! handler runs, and a path that is not in the table does not exist.
//!
//! It does not contain the portal: the [capabilities](crate::domain::access::portal) of a session determine the
//! customer's pages.

use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::middleware::Next;
use actix_web::{Error, web};

use crate::dashboard::DashboardState;
use crate::dashboard::http::current_user::{CurrentUser, Principal};
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::session::Cookies;
use crate::domain::access::operator::OperatorRole;
use crate::domain::access::operator::OperatorRole::{Admin, Operator, Viewer};

/// The access that a page requires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// No session needed: sign-in pages, public pages and static files.
    Open,
    /// Operators with at least this role.
    Role(OperatorRole),
    /// Operators with at least this role and access to all organizations: the page does not belong to a single one.
    AllOrganizations(OperatorRole),
}

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteAccess {
    /// `GET` (and `HEAD`) or `POST`.
    pub method: &'static str,
    /// With its `{parts}`.
    pub path: &'static str,
    pub access: Access,
}

const fn get(path: &'static str, role: OperatorRole) -> RouteAccess {
    RouteAccess { method: "GET", path, access: Access::Role(role) }
}

const fn post(path: &'static str, role: OperatorRole) -> RouteAccess {
    RouteAccess { method: "POST", path, access: Access::Role(role) }
}

const fn open(method: &'static str, path: &'static str) -> RouteAccess {
    RouteAccess { method, path, access: Access::Open }
}

const fn all(method: &'static str, path: &'static str, role: OperatorRole) -> RouteAccess {
    RouteAccess { method, path, access: Access::AllOrganizations(role) }
}

/// Every page for operators.
pub const TABLE: &[RouteAccess] = &[
    open("GET", "/login"),
    open("POST", "/login"),
    open("POST", "/login/code"),
    open("GET", "/login/oidc"),
    open("GET", "/login/oidc/callback"),
    open("GET", "/reset"),
    open("POST", "/reset"),
    open("POST", "/preferences"),
    open("GET", "/static/{hash}/{name}"),
    open("GET", "/catalog/{org}"),
    open("GET", "/catalog/{org}/{name}"),
    post("/logout", Viewer),
    post("/organization", Viewer),
    get("/", Viewer),
    get("/deliveries", Viewer),
    get("/messages", Viewer),
    get("/deliveries.csv", Viewer),
    get("/deliveries.jsonl", Viewer),
    get("/messages.csv", Viewer),
    get("/messages.jsonl", Viewer),
    post("/views", Viewer),
    post("/views/delete", Viewer),
    get("/endpoints", Viewer),
    get("/tail", Viewer),
    get("/tail/events", Viewer),
    get("/resend", Viewer),
    post("/resend", Operator),
    get("/resend/{work}", Viewer),
    post("/resend/{work}/cancel", Operator),
    get("/cancel", Operator),
    post("/cancel", Operator),
    // The hidden application of operational webhooks, and stuck rows of the outbox.
    get("/operational", Viewer),
    get("/operational/new", Operator),
    post("/operational/new", Operator),
    post("/operational/{endpoint}/test", Operator),
    get("/settings", Viewer),
    get("/settings/organization", Admin),
    post("/settings/organization", Admin),
    all("GET", "/settings/organizations", Admin),
    all("GET", "/settings/organizations/new", Admin),
    all("POST", "/settings/organizations/new", Admin),
    get("/find", Viewer),
    // Rows of other organizations, and of none, are refused row by row.
    get("/outbox", Viewer),
    post("/outbox/{row}/{since}/retry", Operator),
    get("/outbox/{row}/{since}/edit", Operator),
    post("/outbox/{row}/{since}/edit", Operator),
    get("/outbox/{row}/{since}/discard", Operator),
    post("/outbox/{row}/{since}/discard", Operator),
    // Credentials, accounts and the audit log.
    get("/keys", Admin),
    post("/keys", Admin),
    get("/keys/{key}", Admin),
    post("/keys/{key}/revoke", Admin),
    get("/audit", Operator),
    get("/account", Viewer),
    post("/account/password", Viewer),
    get("/account/second-factor", Viewer),
    post("/account/second-factor", Viewer),
    post("/account/second-factor/change", Viewer),
    post("/account/sessions/end", Viewer),
    post("/account/sessions/{session}/end", Viewer),
    all("GET", "/sessions", Admin),
    all("POST", "/sessions/{session}/end", Admin),
    all("GET", "/operators", Admin),
    all("POST", "/operators", Admin),
    all("GET", "/operators/{operator}", Admin),
    all("POST", "/operators/{operator}", Admin),
    all("GET", "/operators/{operator}/remove", Admin),
    all("POST", "/operators/{operator}/remove", Admin),
    all("POST", "/operators/{operator}/reset", Admin),
    all("POST", "/operators/{operator}/second-factor/remove", Admin),
    all("POST", "/operators/{operator}/sessions/{session}/end", Admin),
    // The catalog.
    get("/event-types", Viewer),
    get("/event-types/import", Operator),
    post("/event-types/import", Operator),
    get("/event-types/new", Operator),
    post("/event-types/new", Operator),
    get("/event-types/{name}", Viewer),
    get("/event-types/{name}/edit", Operator),
    post("/event-types/{name}/edit", Operator),
    get("/event-types/{name}/archive", Operator),
    post("/event-types/{name}/archive", Operator),
    get("/applications", Viewer),
    get("/applications/new", Operator),
    post("/applications/new", Operator),
    // One application.
    get("/applications/{app}", Viewer),
    get("/applications/{app}/edit", Operator),
    post("/applications/{app}/edit", Operator),
    get("/applications/{app}/delete", Admin),
    post("/applications/{app}/delete", Admin),
    get("/applications/{app}/portal-link", Operator),
    post("/applications/{app}/portal-link", Operator),
    post("/applications/{app}/sessions/{session}/end", Operator),
    get("/applications/{app}/send", Operator),
    post("/applications/{app}/send", Operator),
    get("/applications/{app}/deliveries", Viewer),
    get("/applications/{app}/event-types", Viewer),
    get("/applications/{app}/event-types/{name}", Viewer),
    get("/applications/{app}/messages", Viewer),
    get("/applications/{app}/deliveries.csv", Viewer),
    get("/applications/{app}/deliveries.jsonl", Viewer),
    get("/applications/{app}/messages.csv", Viewer),
    get("/applications/{app}/messages.jsonl", Viewer),
    get("/applications/{app}/messages/{message}", Viewer),
    post("/applications/{app}/messages/{message}/cancel", Operator),
    post("/applications/{app}/messages/{message}/resend", Operator),
    get("/applications/{app}/endpoints", Viewer),
    get("/applications/{app}/development/{listener}", Viewer),
    get("/applications/{app}/endpoints/new", Operator),
    post("/applications/{app}/endpoints/new", Operator),
    get("/applications/{app}/endpoints/{endpoint}", Viewer),
    get("/applications/{app}/endpoints/{endpoint}/edit", Operator),
    post("/applications/{app}/endpoints/{endpoint}/edit", Operator),
    post("/applications/{app}/endpoints/{endpoint}/disable", Operator),
    post("/applications/{app}/endpoints/{endpoint}/enable", Operator),
    get("/applications/{app}/endpoints/{endpoint}/delete", Operator),
    post("/applications/{app}/endpoints/{endpoint}/delete", Operator),
    post("/applications/{app}/endpoints/{endpoint}/secret", Operator),
    get("/applications/{app}/endpoints/{endpoint}/rotate", Operator),
    post("/applications/{app}/endpoints/{endpoint}/rotate", Operator),
    get("/applications/{app}/endpoints/{endpoint}/test", Operator),
    post("/applications/{app}/endpoints/{endpoint}/test", Operator),
    get("/applications/{app}/polling", Viewer),
    get("/applications/{app}/polling/new", Operator),
    post("/applications/{app}/polling/new", Operator),
    get("/applications/{app}/polling/{poller}", Viewer),
    get("/applications/{app}/polling/{poller}/edit", Operator),
    post("/applications/{app}/polling/{poller}/edit", Operator),
    post("/applications/{app}/polling/{poller}/disable", Operator),
    post("/applications/{app}/polling/{poller}/enable", Operator),
    get("/applications/{app}/polling/{poller}/delete", Operator),
    post("/applications/{app}/polling/{poller}/delete", Operator),
    get("/applications/{app}/polling/{poller}/token", Operator),
    post("/applications/{app}/polling/{poller}/token", Operator),
];

/// The rule of a path under a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteRule {
    Rule(Access),
    /// The path exists under other methods.
    OtherMethod,
    Unknown,
}

/// Looks a path up, without decoding it: a percent-encoded fixed part matches no route.
pub fn rule(method: &Method, path: &str) -> RouteRule {
    let method = if method == Method::HEAD { "GET" } else { method.as_str() };
    // Fixed parts win over `{parts}`, as in the router: `/event-types/new`.
    let matching = TABLE.iter().filter_map(|route| fixed_parts(route.path, path).map(|fixed| (fixed, route)));
    let (mut best, mut found) = (None, RouteRule::Unknown);
    for (fixed, route) in matching {
        if best.is_none_or(|best| fixed > best) {
            (best, found) = (Some(fixed), RouteRule::OtherMethod);
        }
        if best == Some(fixed) && route.method == method {
            found = RouteRule::Rule(route.access);
        }
    }
    found
}

/// The number of fixed parts of a route that matches the path.
fn fixed_parts(route: &str, path: &str) -> Option<usize> {
    let (mut wanted, mut given, mut fixed) = (route.split('/'), path.split('/'), 0);
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return Some(fixed),
            (Some(part), Some(text)) if part.starts_with('{') && !text.is_empty() => {}
            (Some(part), Some(text)) if part == text => fixed += 1,
            _ => return None,
        }
    }
}

/// The rights of an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OperatorRights {
    pub role: OperatorRole,
    /// The operator sees all organizations.
    pub all: bool,
}

impl OperatorRights {
    /// Whether the operator may open a page or submit a form. Ignores the query and fragment of the path.
    pub fn allow(self, method: &Method, path: &str) -> bool {
        let path = path.split(['?', '#']).next().unwrap_or_default();
        match rule(method, path) {
            RouteRule::Rule(access) => self.have(access),
            RouteRule::OtherMethod | RouteRule::Unknown => false,
        }
    }

    fn have(self, access: Access) -> bool {
        match access {
            Access::Open => true,
            Access::Role(least) => self.role >= least,
            Access::AllOrganizations(least) => self.all && self.role >= least,
        }
    }
}

/// The page that sets up a second factor.
pub const SECOND_FACTOR: &str = "/account/second-factor";

impl CurrentUser {
    /// Whether the account must set up a second factor before anything else.
    pub fn lacks_second_factor(&self, state: &DashboardState) -> bool {
        state.require_totp && self.account().is_some_and(|account| account.has_password && !account.second_factor)
    }

    /// The operator's role; a sign-in by one-time link grants all rights. `None`: a customer.
    pub fn role(&self) -> Option<OperatorRole> {
        match &self.principal {
            Principal::Operator(operator) => Some(operator.as_ref().map_or(Admin, |operator| operator.role)),
            Principal::Customer(_) => None,
        }
    }

    /// The operator's rights; `None`: a customer.
    pub fn rights(&self) -> Option<OperatorRights> {
        self.role().map(|role| OperatorRights { role, all: self.sees_all() })
    }
}

/// Rejects requests that the table does not allow.
///
/// # Errors
/// Errors of actix itself.
pub async fn check(request: ServiceRequest, next: Next<BoxBody>) -> Result<ServiceResponse<BoxBody>, Error> {
    if Cookies::at(request.path()) == Cookies::Portal {
        return next.call(request).await;
    }
    let refused = match rule(request.method(), request.path()) {
        RouteRule::Rule(Access::Open) => None,
        RouteRule::Rule(access) => match CurrentUser::of(request.request().clone()).await {
            Ok(user) if !user.rights().is_some_and(|rights| rights.have(access)) => Some(PageError::NotAllowed),
            Ok(user) => {
                let path = request.path();
                let lacks = request.app_data::<web::Data<DashboardState>>().is_none_or(|s| user.lacks_second_factor(s));
                (lacks && ![SECOND_FACTOR, "/logout"].contains(&path)).then_some(PageError::SecondFactorRequired)
            }
            Err(error) => Some(error),
        },
        RouteRule::OtherMethod => Some(PageError::WrongMethod),
        RouteRule::Unknown => Some(PageError::NotFound),
    };
    match refused {
        None => next.call(request).await,
        Some(error) => Ok(request.error_response(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_parts_win_and_anything_else_is_unknown() {
        let rule = |method: &str, path| rule(&method.parse().unwrap(), path);
        assert_eq!(rule("GET", "/event-types/new"), RouteRule::Rule(Access::Role(Operator)));
        assert_eq!(rule("HEAD", "/event-types/invoice.paid"), RouteRule::Rule(Access::Role(Viewer)));
        assert_eq!(rule("POST", "/event-types/new"), RouteRule::Rule(Access::Role(Operator)));
        assert_eq!(rule("POST", "/event-types/invoice.paid"), RouteRule::OtherMethod);
        assert_eq!(rule("DELETE", "/keys"), RouteRule::OtherMethod);
        for path in ["/%6Beys", "/keys/", "//keys", "/keys/a/b/c", "", "keys", "/applications//edit"] {
            assert_eq!(rule("GET", path), RouteRule::Unknown, "{path}");
        }
    }
}
