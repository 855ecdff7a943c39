//! A **background task** continues after the response, in steps: replay, recover, reconcile. The words for kinds and
//! stages are those of the REST dialect, and are stored.

use crate::domain::{AppId, EndpointId};

/// The kind of a background task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Resends an endpoint's dead deliveries.
    Recover,
    /// Sends messages that match an endpoint's filters but have no delivery to it.
    ReplayMissing,
    /// Resends an endpoint's deliveries that match a filter.
    BulkReplay,
    /// Resends messages that the receiver did not list as received.
    Reconcile,
}

impl Kind {
    const ALL: [Kind; 4] = [Kind::Recover, Kind::ReplayMissing, Kind::BulkReplay, Kind::Reconcile];

    /// The word in the store and in the REST API.
    pub const fn word(self) -> &'static str {
        match self {
            Kind::Recover => "endpoint.recover",
            Kind::ReplayMissing => "endpoint.replay",
            Kind::BulkReplay => "endpoint.bulk-replay",
            Kind::Reconcile => "endpoint.reconcile",
        }
    }

    /// Parses the word.
    pub fn from_word(word: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.word() == word)
    }
}

/// The endpoints of a background task. The two wider scopes exclude operational endpoints and disabled endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One endpoint of an application.
    Endpoint(AppId, EndpointId),
    /// All endpoints of an application.
    Application(AppId),
    /// All endpoints of all applications of the organization.
    Organization,
}

impl Scope {
    /// The application, unless the scope is the organization.
    pub const fn app(self) -> Option<AppId> {
        match self {
            Scope::Endpoint(app, _) | Scope::Application(app) => Some(app),
            Scope::Organization => None,
        }
    }

    /// The endpoint, if the scope is one endpoint.
    pub const fn endpoint(self) -> Option<EndpointId> {
        match self {
            Scope::Endpoint(_, endpoint) => Some(endpoint),
            Scope::Application(_) | Scope::Organization => None,
        }
    }
}

/// The stage of a background task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Running,
    Finished,
    /// Stopped by an error, which is stored with the task.
    Failed,
    /// Canceled by a caller. Deliveries it had already queued are sent.
    Canceled,
}

impl Stage {
    const ALL: [Stage; 4] = [Stage::Running, Stage::Finished, Stage::Failed, Stage::Canceled];

    /// The word in the store and in the REST API.
    pub const fn word(self) -> &'static str {
        match self {
            Stage::Running => "running",
            Stage::Finished => "finished",
            Stage::Failed => "failed",
            Stage::Canceled => "canceled",
        }
    }

    /// Parses the word.
    pub fn from_word(word: &str) -> Option<Stage> {
        Stage::ALL.into_iter().find(|stage| stage.word() == word)
    }
}
