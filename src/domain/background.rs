//! **Background work** is what somebody asked for and what goes on behind the answer, in steps. The REST dialect has the words for its
//! kinds and stages; they are stored as well.

/// What the work is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What is dead at an endpoint is sent again.
    Recover,
    /// What an endpoint wants by its filters and has no delivery of is sent there.
    ReplayMissing,
    /// What was sent to an endpoint is sent again, as a filter says.
    BulkReplay,
}

impl Kind {
    const ALL: [Kind; 3] = [Kind::Recover, Kind::ReplayMissing, Kind::BulkReplay];

    /// The word under which it is stored and given out.
    pub const fn word(self) -> &'static str {
        match self {
            Kind::Recover => "endpoint.recover",
            Kind::ReplayMissing => "endpoint.replay",
            Kind::BulkReplay => "endpoint.bulk-replay",
        }
    }

    /// The kind of such a word.
    pub fn from_word(word: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.word() == word)
    }
}

/// Where the work stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Running,
    Finished,
    /// It ended before it was done; its reason says why.
    Failed,
}

impl Stage {
    const ALL: [Stage; 3] = [Stage::Running, Stage::Finished, Stage::Failed];

    /// The word under which it is stored and given out.
    pub const fn word(self) -> &'static str {
        match self {
            Stage::Running => "running",
            Stage::Finished => "finished",
            Stage::Failed => "failed",
        }
    }

    /// The stage of such a word.
    pub fn from_word(word: &str) -> Option<Stage> {
        Stage::ALL.into_iter().find(|stage| stage.word() == word)
    }
}
