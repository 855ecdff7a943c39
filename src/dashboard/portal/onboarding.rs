//! A customer's first steps, from no endpoint to verified events. The start page shows them until an event was delivered.

use crate::dashboard::http::current_user::AppContext;
use crate::domain::EndpointId;
use crate::domain::access::portal::{Capability, PortalPage};

/// A step.
pub struct OnboardingStep {
    pub name: &'static str,
    pub about: &'static str,
    pub done: bool,
    /// The first step that is not done.
    pub next: bool,
    /// The path and label of the step's button; `None` while it can't be taken.
    pub action: Option<(String, &'static str)>,
}

/// The steps of a user with this endpoint, if there is one. Empty: the user may not add endpoints.
pub fn steps(context: &AppContext, endpoint: Option<EndpointId>) -> Vec<OnboardingStep> {
    if !context.can(Capability::ManageEndpoint) || !context.shows(PortalPage::Endpoints) {
        return Vec::new();
    }
    let (added, page) = (endpoint.is_some(), endpoint.map(|id| context.paths.endpoint(id)));
    let at = |part: &str, label| page.as_ref().map(|page| (format!("{page}{part}"), label));
    let step = |name, about, done, next, action| OnboardingStep { name, about, done, next, action };
    let add = (!added).then(|| (context.paths.page("endpoints/new"), "Add endpoint"));
    vec![
        step("Add your URL", "Your server receives events there, as signed POST requests.", added, !added, add),
        step("Choose events", "All event types, or only those that you need.", added, false, at("/edit", "Change")),
        step(
            "Send a test event",
            "A signed example shows whether your server responds.",
            false,
            added,
            at("#test", "Send test event"),
        ),
        step(
            "Verify signatures",
            "Check that requests are genuine, with code for your language.",
            false,
            false,
            at("#verify", "View code"),
        ),
    ]
}
