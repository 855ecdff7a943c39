//! What the store or the door refuses of a form, as reasons at its fields.

use crate::dashboard::components::form::SEEN;
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::posted::Posted;
use crate::domain::{Invalid, Time};
use crate::store::StoreError;
use crate::store::catalog::change::Changed;
use crate::store::ingest::accept::Refusal;

/// What was refused, or what else went wrong.
pub type Refused = Result<Vec<Invalid>, PageError>;

/// The reasons of an error that is about what was typed; `unique` is the field whose value may be taken.
pub fn refused(error: StoreError, unique: &str) -> Refused {
    match error {
        StoreError::Taken(_) => Ok(vec![Invalid::new(unique, "is already taken")]),
        StoreError::Invalid(wrong) => Ok(wrong),
        other => Err(other.into()),
    }
}

/// What a form's change has made. `Err`: nothing was done, and this is to be said.
///
/// # Errors
/// There is no such thing any more, or others change it all the time.
pub fn settled<T>(changed: Changed<T, Refused>) -> Result<T, Refused> {
    match changed {
        Changed::Done(thing) => Ok(thing),
        Changed::Gone => Err(Err(PageError::NotFound)),
        Changed::Refused(refused) => Err(refused),
        Changed::Busy => Err(Err(PageError::BadRequest("Concurrent changes prevented this. Try again in a moment."))),
    }
}

/// Checks that the form was filled in on what the thing still is. Its fields hold all of it, so that saving it would undo what somebody
/// else has saved meanwhile.
///
/// # Errors
/// It was changed since the form was opened.
pub fn unchanged(posted: &Posted, updated_at: Time) -> Result<(), Refused> {
    if posted.get(SEEN) == seen(updated_at) {
        return Ok(());
    }
    let reason = "someone else changed it since you opened this form. Compare your entries with the current values, then save again";
    Err(Ok(vec![Invalid::new("Not saved", reason)]))
}

/// What a form says of the state that it was filled in on.
pub fn seen(updated_at: Time) -> String {
    updated_at.micros().to_string()
}

/// The reasons of the door.
pub fn turned_away(refusal: Refusal) -> Refused {
    match refusal {
        Refusal::Invalid(wrong) => Ok(wrong),
        Refusal::Duplicate(_) => Ok(vec![Invalid::new("eventId", "is already used by another message")]),
        Refusal::Unreachable => {
            Ok(vec![Invalid::new("eventType", "cannot be sent: the endpoint is disabled or deleted")])
        }
        Refusal::UnknownApplication(_) | Refusal::AmbiguousApplication(_) | Refusal::Repeated => {
            Err(PageError::NotFound)
        }
    }
}
