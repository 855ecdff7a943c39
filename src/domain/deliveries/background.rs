//! A **background task** continues after the response, in steps: replay, recover, reconcile. The words for kinds and
//! stages are those of the REST dialect, and are stored.

use crate::domain::{AppId, EndpointId};

/// The kind of a background task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskKind {
    /// Resends an endpoint's dead deliveries.
    Recover,
    /// Sends messages that match an endpoint's filters but have no delivery to it.
    ReplayMissing,
    /// Resends an endpoint's deliveries that match a filter.
    BulkReplay,
    /// Resends messages that the receiver did not list as received.
    Reconcile,
}

impl TaskKind {
    const ALL: [TaskKind; 4] = [TaskKind::Recover, TaskKind::ReplayMissing, TaskKind::BulkReplay, TaskKind::Reconcile];

    /// The word in the store and in the REST API.
    pub const fn word(self) -> &'static str {
        match self {
            TaskKind::Recover => "endpoint.recover",
            TaskKind::ReplayMissing => "endpoint.replay",
            TaskKind::BulkReplay => "endpoint.bulk-replay",
            TaskKind::Reconcile => "endpoint.reconcile",
        }
    }

    /// Parses the word.
    pub fn from_word(word: &str) -> Option<TaskKind> {
        TaskKind::ALL.into_iter().find(|kind| kind.word() == word)
    }
}

/// The endpoints of a background task. The two wider scopes exclude operational endpoints and disabled endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskScope {
    /// One endpoint of an application.
    Endpoint(AppId, EndpointId),
    /// All endpoints of an application.
    Application(AppId),
    /// All endpoints of all applications of the organization.
    Organization,
}

impl TaskScope {
    /// The application, unless the scope is the organization.
    pub const fn app(self) -> Option<AppId> {
        match self {
            TaskScope::Endpoint(app, _) | TaskScope::Application(app) => Some(app),
            TaskScope::Organization => None,
        }
    }

    /// The endpoint, if the scope is one endpoint.
    pub const fn endpoint(self) -> Option<EndpointId> {
        match self {
            TaskScope::Endpoint(_, endpoint) => Some(endpoint),
            TaskScope::Application(_) | TaskScope::Organization => None,
        }
    }
}

/// The stage of a background task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskStage {
    Running,
    Finished,
    /// Stopped by an error, which is stored with the task.
    Failed,
    /// Canceled by a caller. Deliveries it had already queued are sent.
    Canceled,
}

impl TaskStage {
    const ALL: [TaskStage; 4] = [TaskStage::Running, TaskStage::Finished, TaskStage::Failed, TaskStage::Canceled];

    /// The word in the store and in the REST API.
    pub const fn word(self) -> &'static str {
        match self {
            TaskStage::Running => "running",
            TaskStage::Finished => "finished",
            TaskStage::Failed => "failed",
            TaskStage::Canceled => "canceled",
        }
    }

    /// Parses the word.
    pub fn from_word(word: &str) -> Option<TaskStage> {
        TaskStage::ALL.into_iter().find(|stage| stage.word() == word)
    }
}
