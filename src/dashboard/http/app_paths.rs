//! Links to the pages of one application: below `/applications/app_…` for operators, below `/portal` for its customer.

use crate::domain::{AppId, EndpointId, MessageId};

/// The prefix of the links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppPaths(String);

impl AppPaths {
    /// An application, for operators.
    pub fn of_application(app: AppId) -> AppPaths {
        AppPaths(format!("/applications/{app}"))
    }

    /// All applications, for operators. Has lists, but no pages of its own.
    pub fn all() -> AppPaths {
        AppPaths(String::new())
    }

    /// The customer's own application.
    pub fn portal() -> AppPaths {
        AppPaths("/portal".to_owned())
    }

    /// The application's own page.
    pub fn home(&self) -> &str {
        &self.0
    }

    /// A page below it, such as `endpoints/new`.
    pub fn page(&self, path: &str) -> String {
        format!("{}/{path}", self.0)
    }

    pub fn endpoint(&self, id: EndpointId) -> String {
        self.page(&format!("endpoints/{id}"))
    }

    pub fn message(&self, id: MessageId) -> String {
        self.page(&format!("messages/{id}"))
    }

    /// An event type's page. Event type names need no percent-encoding.
    pub fn event_type(&self, name: &str) -> String {
        self.page(&format!("event-types/{name}"))
    }
}
