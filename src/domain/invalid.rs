//! What was wrong with what somebody gave us: a field, a reason, a kind.

use std::fmt;

/// One refused value: where it stood, what is wrong with it and what would be right.
///
/// Becomes an item of a 422 answer over REST, an exit line on the command line, a `stuck` reason in the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// The field's name as its writer knows it, e.g. `url`, `eventTypes`.
    pub field: String,
    /// A sentence: what is wrong and what is expected. Never contains a secret.
    pub reason: String,
    /// A machine-readable word, e.g. `value_error`.
    pub kind: &'static str,
}

/// The [kind](Invalid::kind) of what would be one too many; it has to be asked for again later.
pub const TOO_MANY: &str = "too_many";

impl Invalid {
    /// A value of `field` that is wrong because of `reason`.
    pub fn new(field: impl Into<String>, reason: impl Into<String>) -> Invalid {
        Invalid { field: field.into(), reason: reason.into(), kind: "value_error" }
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.reason)
    }
}

impl std::error::Error for Invalid {}
