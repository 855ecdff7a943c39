//! What the store or the door refuses of a form, as reasons at its fields.

use super::error::PageError;
use crate::domain::Invalid;
use crate::store::StoreError;
use crate::store::ingest::accept::Refusal;

/// What was refused, or what else went wrong.
pub type Refused = Result<Vec<Invalid>, PageError>;

/// The reasons of an error that is about what was typed; `unique` is the field whose value may be taken.
pub fn refused(error: StoreError, unique: &str) -> Refused {
    match error {
        StoreError::Taken(_) => Ok(vec![Invalid::new(unique, "is taken already")]),
        StoreError::Invalid(wrong) => Ok(wrong),
        other => Err(other.into()),
    }
}

/// The reasons of the door.
pub fn turned_away(refusal: Refusal) -> Refused {
    match refusal {
        Refusal::Invalid(wrong) => Ok(wrong),
        Refusal::Duplicate(_) => Ok(vec![Invalid::new("eventId", "is that of a message that was accepted before")]),
        Refusal::Unreachable => {
            Ok(vec![Invalid::new("eventType", "cannot be sent: the endpoint is disabled or deleted")])
        }
        Refusal::UnknownApplication(_) | Refusal::AmbiguousApplication(_) | Refusal::Repeated => {
            Err(PageError::NotFound)
        }
    }
}
