//! Validation errors: a field, a reason and a machine-readable kind.

use std::fmt;

/// One invalid value.
///
/// Shown as an item of a 422 response, as the exit line of a command, or as the `stuck` reason of an outbox row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// The field's public name, e.g. `url`, `eventTypes`.
    pub field: String,
    /// The problem and the expected value. Never contains a secret.
    pub reason: String,
    /// A machine-readable code, e.g. `value_error`.
    pub kind: &'static str,
}

/// The [kind](Invalid::kind) of a request that exceeds a quota. The caller may retry later.
pub const TOO_MANY: &str = "too_many";

impl Invalid {
    /// An error of kind `value_error`.
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
