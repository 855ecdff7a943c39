//! **Background work** is what somebody asked for and what goes on behind the answer, in steps. The REST dialect has
//! the words for its kinds and stages; they are stored as well.

use crate::domain::{AppId, EndpointId};

/// What the work is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What is dead at an endpoint is sent again.
    Recover,
    /// What an endpoint wants by its filters and has no delivery of is sent there.
    ReplayMissing,
    /// What was sent to an endpoint is sent again, as a filter says.
    BulkReplay,
    /// Resends messages that an endpoint's receiver misses, by the ids that it says it has.
    Reconcile,
}

impl Kind {
    const ALL: [Kind; 4] = [Kind::Recover, Kind::ReplayMissing, Kind::BulkReplay, Kind::Reconcile];

    /// The word under which it is stored and given out.
    pub const fn word(self) -> &'static str {
        match self {
            Kind::Recover => "endpoint.recover",
            Kind::ReplayMissing => "endpoint.replay",
            Kind::BulkReplay => "endpoint.bulk-replay",
            Kind::Reconcile => "endpoint.reconcile",
        }
    }

    /// The kind of such a word.
    pub fn from_word(word: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.word() == word)
    }
}

/// Whose endpoints the work goes to. What goes to operational endpoints is nobody's but the organization's own: the
/// wider two leave them out, and those that are disabled as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One endpoint of an application.
    Endpoint(AppId, EndpointId),
    /// All of an application's.
    Application(AppId),
    /// All of all the organization's applications.
    Organization,
}

impl Scope {
    /// The application, if it is about one.
    pub const fn app(self) -> Option<AppId> {
        match self {
            Scope::Endpoint(app, _) | Scope::Application(app) => Some(app),
            Scope::Organization => None,
        }
    }

    /// The endpoint, if it is about one.
    pub const fn endpoint(self) -> Option<EndpointId> {
        match self {
            Scope::Endpoint(_, endpoint) => Some(endpoint),
            Scope::Application(_) | Scope::Organization => None,
        }
    }
}

/// Where the work stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Running,
    Finished,
    /// It ended before it was done; its reason says why.
    Failed,
    /// Somebody ended it. What it had made pending until then is sent.
    Canceled,
}

impl Stage {
    const ALL: [Stage; 4] = [Stage::Running, Stage::Finished, Stage::Failed, Stage::Canceled];

    /// The word under which it is stored and given out.
    pub const fn word(self) -> &'static str {
        match self {
            Stage::Running => "running",
            Stage::Finished => "finished",
            Stage::Failed => "failed",
            Stage::Canceled => "canceled",
        }
    }

    /// The stage of such a word.
    pub fn from_word(word: &str) -> Option<Stage> {
        Stage::ALL.into_iter().find(|stage| stage.word() == word)
    }
}
