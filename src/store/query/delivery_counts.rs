//! Counting the deliveries of a list by status and by the effect of a resend. It uses the list's own statement, so a
//! number on a page equals the number of rows behind its link. It counts in chunks: between two of them, other readers
//! get the connection and the caller can stop.

use crate::domain::Time;
use crate::domain::deliveries::delivery::{DeadReason, DeliveryState};
use crate::store::db::codec::from_row;
use crate::store::db::statement::{Statement, query_of};
use crate::store::query::delivery_list::{DeliveryFilter, DeliveryKey, Selection};
use crate::store::query::page::SCAN;
use crate::store::{Order, Store, StoreError, Tenant, read};

/// Rows per statement when a scan covers few rows.
const CHUNK: usize = 5_000;

/// Deliveries by status and by the effect of a resend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeliveryCounts {
    pub pending: i64,
    pub retrying: i64,
    pub delivered: i64,
    /// Excludes canceled deliveries.
    pub dead: i64,
    pub canceled: i64,
    /// Deliveries in any status whose content or endpoint is deleted. A resend skips them, like the next two.
    pub gone: i64,
    /// Not `gone`, but the endpoint is disabled.
    pub disabled: i64,
    /// Neither `gone` nor `disabled`, but already due, so a resend has no effect.
    pub due: i64,
    /// Counting stopped at its limit.
    pub more: bool,
}

impl DeliveryCounts {
    /// The total.
    pub fn found(&self) -> i64 {
        self.pending + self.retrying + self.delivered + self.dead + self.canceled
    }

    /// Deliveries that a resend would send.
    pub fn resendable(&self) -> i64 {
        self.found() - self.gone - self.disabled - self.due
    }

    /// Deliveries waiting for an attempt.
    pub fn waiting(&self) -> i64 {
        self.pending + self.retrying
    }

    /// Adds the counts of another chunk.
    pub fn add(&mut self, other: &DeliveryCounts) {
        self.pending += other.pending;
        self.retrying += other.retrying;
        self.delivered += other.delivered;
        self.dead += other.dead;
        self.canceled += other.canceled;
        self.gone += other.gone;
        self.disabled += other.disabled;
        self.due += other.due;
        self.more |= other.more;
    }

    fn count(&mut self, group: &CountedGroup) {
        let canceled = group.reason.as_deref().and_then(DeadReason::from_word) == Some(DeadReason::Canceled);
        *match DeliveryState::from_code(group.state) {
            DeliveryState::Fresh => &mut self.pending,
            DeliveryState::Retry => &mut self.retrying,
            DeliveryState::Delivered => &mut self.delivered,
            DeliveryState::Dead if canceled => &mut self.canceled,
            DeliveryState::Dead => &mut self.dead,
        } += group.count;
        match SkipReason::from_code(group.passed) {
            None => {}
            Some(SkipReason::Gone) => self.gone += group.count,
            Some(SkipReason::Disabled) => self.disabled += group.count,
            Some(SkipReason::Due) => self.due += group.count,
        }
    }
}

/// The reason a resend skips a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum SkipReason {
    Gone,
    Disabled,
    Due,
}

impl SkipReason {
    fn from_code(code: i32) -> Option<SkipReason> {
        match code {
            1 => Some(SkipReason::Gone),
            2 => Some(SkipReason::Disabled),
            3 => Some(SkipReason::Due),
            _ => None,
        }
    }

    /// The code as an SQL expression over the tables of the list's statement; 0: not skipped.
    pub(in crate::store) fn sql(now: Time) -> String {
        format!(
            "CASE WHEN m.payload IS NULL OR e.deleted_at IS NOT NULL THEN 1 WHEN e.disabled THEN 2
                 WHEN d.state IN (0, 1) AND d.due_at <= {} THEN 3 ELSE 0 END",
            now.micros()
        )
    }
}

from_row! {
    struct CountedGroup {
        state: i16,
        reason: Option<String>,
        passed: i32,
        count: i64,
    }
}

impl Store {
    /// Counts up to `most` deliveries that match `filter`, newest first, after `from`. Returns the key to continue
    /// from, or `None` at the end or at the limit.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn count_deliveries(
        &self,
        tenant: &Tenant,
        filter: &DeliveryFilter,
        from: Option<DeliveryKey>,
        most: i64,
        now: Time,
    ) -> Result<(DeliveryCounts, Option<DeliveryKey>), StoreError> {
        let mut tally = DeliveryCounts::default();
        if filter.is_empty_result(tenant) {
            return Ok((tally, None));
        }
        let _scan = self.scan(tenant).await?;
        let filter = DeliveryFilter { app: filter.app.or(tenant.only), ..filter.clone() };
        let scan = self.choose_scan(tenant, &filter).await?;
        let mut range = filter.scan_range(Order::Descending, from);
        let (text, rows) = (filter.text.is_some(), if scan.is_few() { CHUNK } else { SCAN });
        range.end = self.scan_end(&scan, &range, rows, text).await?;
        let columns = format!("d.state, d.reason, {} AS passed", SkipReason::sql(now));
        let limit = usize::try_from(most).unwrap_or_default() + 1;
        let listed = filter.statement(self, tenant, (&scan, &range), Selection { columns: &columns, and: "", limit });
        let sql = Statement {
            text: format!(
                "SELECT state, reason, passed, count(*) AS count FROM ({}) AS listed GROUP BY state, reason, passed",
                listed.text
            ),
            values: listed.values,
        };
        let groups: Vec<CountedGroup> = read!(self, db => query_of!(query_as, &sql).fetch_all(db).await)?;
        groups.iter().for_each(|group| tally.count(group));
        tally.more = tally.found() > most;
        let next = range.end.filter(|_| !tally.more);
        Ok((tally, next))
    }
}
