//! Where the pages of one application are: below `/applications/app_…` for operators, below `/portal` for the customer whose it is.

use crate::domain::{AppId, EndpointId, MessageId};

/// What the links to an application's pages begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place(String);

impl Place {
    /// An operator's view of an application.
    pub fn of_application(app: AppId) -> Place {
        Place(format!("/applications/{app}"))
    }

    /// An operator's view of all applications at once: it has lists and no pages of its own.
    pub fn all() -> Place {
        Place(String::new())
    }

    /// A customer's view of their own.
    pub fn portal() -> Place {
        Place("/portal".to_owned())
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

    /// An event type's page; its name needs no percent signs.
    pub fn event_type(&self, name: &str) -> String {
        self.page(&format!("event-types/{name}"))
    }
}
