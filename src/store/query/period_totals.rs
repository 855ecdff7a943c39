//! The counts of the last full period and of the one before, to compare them.

use std::time::Duration;

use crate::domain::Time;
use crate::store::query::counts::{ChartRange, CountScope};
use crate::store::recording::rollups::Counts;
use crate::store::{Store, StoreError, Tenant};

/// The attempts of two consecutive periods of the same length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeriodTotals {
    pub previous: Counts,
    pub last: Counts,
    pub range: ChartRange,
}

/// The unit to which the end of a period is rounded, so that no rollup spans two periods.
fn unit(range: ChartRange) -> Duration {
    Duration::from_secs(match range {
        ChartRange::Hour | ChartRange::Day => 3_600,
        ChartRange::Week | ChartRange::Month => 86_400,
    })
}

impl Store {
    /// The counts of the last period that ended at a full hour (for a week and a month: a full day, in UTC) before
    /// `now`, and of the period before it.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn period_totals(
        &self,
        tenant: &Tenant,
        scope: CountScope,
        range: ChartRange,
        now: Time,
    ) -> Result<PeriodTotals, StoreError> {
        let _scan = self.scan(tenant).await?;
        let since = now.floor(unit(range)).minus(range.span() * 2);
        // Read first, as for `Store::buckets`.
        let operational = match scope {
            CountScope::Organization => self.counted(tenant, CountScope::Operational, since, range.span()).await?,
            _ => Vec::new(),
        };
        let counted = self.counted(tenant, scope, since, range.span()).await?;
        let mut totals = [Counts::default(), Counts::default()];
        for (rows, times) in [(counted, 1), (operational, -1)] {
            for row in rows {
                if let Some(total) = usize::try_from(row.place).ok().and_then(|place| totals.get_mut(place)) {
                    total.add_all(&Counts::from(row.counts), times);
                }
            }
        }
        let [previous, last] = totals;
        Ok(PeriodTotals { previous, last, range })
    }
}
