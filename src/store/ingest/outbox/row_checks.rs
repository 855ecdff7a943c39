//! Validation of the payloads of outbox rows. Each relay step has a time limit for it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::relay::OutboxRow;
use super::stuck_rows;
use crate::domain::{AppId, Invalid, OrgId};
use crate::store::ingest::accept::AcceptItem;
use crate::store::ingest::payload_checks::PayloadVerdict;
use crate::store::{AppRef, Inner, StoreError, Tx};

/// The time limit of a step's validation, approximately: other writers wait for it.
const STEP: Duration = Duration::from_millis(50);

/// The validation of the rows of one step.
pub(super) struct RowChecks {
    /// Empty if no event type validates.
    owners: HashMap<AppRef, (OrgId, AppId)>,
    spent: Duration,
}

impl RowChecks {
    /// Reads the owners of the rows, if any event type validates.
    pub(super) async fn of(inner: &Inner, tx: &mut Tx, rows: &[OutboxRow]) -> Result<RowChecks, StoreError> {
        let owners = match !rows.is_empty() && inner.any_payload_checks().await? {
            true => stuck_rows::owners(tx, rows.iter().filter_map(OutboxRow::app)).await?,
            false => HashMap::new(),
        };
        Ok(RowChecks { owners, spent: Duration::ZERO })
    }

    /// Whether the time limit is reached.
    pub(super) fn is_over(&self) -> bool {
        self.spent >= STEP
    }

    /// The reason that the row is rejected. A message that is accepted with a warning gets a mark.
    pub(super) async fn check(&mut self, inner: &Inner, item: &mut AcceptItem) -> Result<Option<String>, StoreError> {
        let Some((org, _)) = self.owners.get(&item.app) else { return Ok(None) };
        let started = Instant::now();
        let verdict = inner.check_payload(org, &item.spec.event_type, &item.spec.payload, "outbox").await?;
        self.spent += started.elapsed();
        Ok(match verdict {
            PayloadVerdict::Fine => None,
            PayloadVerdict::Warn(text) => {
                item.spec.schema_warning = Some(text);
                None
            }
            PayloadVerdict::Reject(wrong) => {
                let text: Vec<String> = wrong.iter().map(Invalid::to_string).collect();
                Some(text.join("; "))
            }
        })
    }
}
