//! The one write that the database rejects, alone in its batch.

use bytes::Bytes;

use super::queue::Write;
use crate::crash::CrashPoint;
use crate::store::db::retry::retry_conflicts;
use crate::store::ingest::accept::Rejection;
use crate::store::recording::operational;
use crate::store::recording::record::{FinishedAttempt, RecordOutcome, RowCheck, record_in};
use crate::store::{Inner, StoreError};

pub(super) async fn answer_rejected(inner: &Inner, write: Write, error: &StoreError) {
    match write {
        Write::Accept(_, answer) => drop(answer.send(Ok(Err(Rejection::by_store(&error.to_string()))))),
        Write::Record(finished, answer) => drop(answer.send(record_separately(inner, &finished).await)),
        Write::Relay(..) => write.fail(error),
    }
}

/// Records the attempts of a rejected batch one by one. An attempt that is rejected again is recorded without the
/// receiver's response.
async fn record_separately(inner: &Inner, finished: &[FinishedAttempt]) -> Result<Vec<RecordOutcome>, StoreError> {
    let mut recorded = Vec::with_capacity(finished.len());
    for one in finished {
        let mut outcome = retry_conflicts(|| record_one(inner, one)).await;
        if let Err(StoreError::Refused(reason)) = &outcome {
            let message = one.attempt.message_id;
            tracing::error!(%message, %reason, "the database rejected a response: its attempt is recorded without it");
            let one = without_response(one);
            outcome = retry_conflicts(|| record_one(inner, &one)).await;
        }
        recorded.push(outcome?);
    }
    Ok(recorded)
}

fn without_response(one: &FinishedAttempt) -> FinishedAttempt {
    let mut one = one.clone();
    one.attempt.outcome.response_headers.clear();
    one.attempt.outcome.response_body = Bytes::new();
    one.attempt.outcome.detail = "the receiver's response could not be stored".into();
    one
}

async fn record_one(inner: &Inner, one: &FinishedAttempt) -> Result<RecordOutcome, StoreError> {
    let mut tx = inner.begin().await?;
    let nothing = || StoreError::Refused("nothing was recorded".into());
    let finished = std::slice::from_ref(one);
    let (recorded, emitted) = record_in(inner, &mut tx, finished, RowCheck::Returned).await?.ok_or_else(nothing)?;
    tx.commit_of(&[CrashPoint::Record]).await?;
    operational::signal_emitted(inner, emitted);
    recorded.into_iter().next().ok_or_else(nothing)
}
