//! The sentence at the top of a page with the number of deliveries by state. Each number counts the rows of its linked
//! list with the same query; a count that would take too long ends in `+`.

use crate::dashboard::bulk::tally;
use crate::dashboard::components::format::count;
use crate::domain::{AppId, Time, TimeRange};
use crate::store::query::delivery_counts::DeliveryCounts;
use crate::store::query::delivery_list::{DeliveryFilter, DeliveryStatusFilter};
use crate::store::{Store, StoreError, Tenant};

/// A number, its label and the list behind it.
pub struct SummaryNumber {
    pub text: String,
    pub word: &'static str,
    /// The CSS class.
    pub kind: &'static str,
    /// `None`: the user has no list of deliveries.
    pub href: Option<String>,
}

/// The numbers of a page.
pub struct DeliverySummary {
    /// All deliveries.
    pub total: SummaryNumber,
    /// By state; every delivery is in exactly one.
    pub by_state: Vec<SummaryNumber>,
    /// The share of attempted deliveries that were delivered. `None`: none was attempted.
    pub rate: Option<String>,
}

/// The deliveries to count, and their list.
pub struct SummaryScope<'a> {
    /// Path and query of the list, to which filters are appended: `/deliveries?`. `None`: the user has none.
    pub list: Option<&'a str>,
    /// One application; otherwise the whole tenant.
    pub app: Option<AppId>,
    /// Messages accepted since this time.
    pub since: Time,
    /// The same time as a URL parameter.
    pub since_text: &'a str,
}

impl DeliverySummary {
    /// Counts the deliveries.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn of(
        store: &Store,
        tenant: &Tenant,
        scope: &SummaryScope<'_>,
        now: Time,
    ) -> Result<DeliverySummary, StoreError> {
        let accepted = TimeRange { since: scope.since, ..TimeRange::default() };
        let filter = DeliveryFilter { app: scope.app, accepted, ..DeliveryFilter::default() };
        let all = tally(store, tenant, &filter, now).await?;
        let mut by_state = Vec::new();
        for (status, word, always) in [
            (DeliveryStatusFilter::Delivered, "delivered", true),
            (DeliveryStatusFilter::Retrying, "being retried", true),
            (DeliveryStatusFilter::Dead, "dead", true),
            (DeliveryStatusFilter::Pending, "pending", false),
            (DeliveryStatusFilter::Canceled, "canceled", false),
        ] {
            // If the total was cut off, count rare states by their own index.
            let of_status = match (all.more, status) {
                (false, _) | (true, DeliveryStatusFilter::Delivered) => all,
                _ => tally(store, tenant, &DeliveryFilter { status: Some(status), ..filter.clone() }, now).await?,
            };
            let n = of(&of_status, status);
            if always || n > 0 {
                by_state.push(scope.number(n, of_status.more, word, Some(status)));
            }
        }
        let word = if all.found() == 1 { "delivery" } else { "deliveries" };
        Ok(DeliverySummary { total: scope.number(all.found(), all.more, word, None), by_state, rate: rate(&all) })
    }
}

impl SummaryScope<'_> {
    fn number(&self, n: i64, more: bool, word: &'static str, status: Option<DeliveryStatusFilter>) -> SummaryNumber {
        let status = status.map(DeliveryStatusFilter::word);
        let filter = status.map(|word| format!("status={word}&")).unwrap_or_default();
        SummaryNumber {
            text: format!("{}{}", count(n), if more { "+" } else { "" }),
            word,
            kind: if n > 0 { status.unwrap_or("sent") } else { "none" },
            href: self.list.map(|list| format!("{list}{filter}since={}", self.since_text)),
        }
    }
}

fn of(tally: &DeliveryCounts, status: DeliveryStatusFilter) -> i64 {
    match status {
        DeliveryStatusFilter::Pending => tally.pending,
        DeliveryStatusFilter::Retrying => tally.retrying,
        DeliveryStatusFilter::Delivered => tally.delivered,
        DeliveryStatusFilter::Dead => tally.dead,
        DeliveryStatusFilter::Failed => tally.retrying + tally.dead,
        DeliveryStatusFilter::Canceled => tally.canceled,
    }
}

/// A rate such as `99.9 %`. Rounded down, so `100 %` means all deliveries.
fn rate(tally: &DeliveryCounts) -> Option<String> {
    let (delivered, tried) = (tally.delivered, tally.delivered + tally.retrying + tally.dead);
    let share = match tried {
        0 => return None,
        tried if tried == delivered => "100 %".to_owned(),
        tried => format!("{:.1} %", (delivered as f64 / tried as f64 * 1_000.0).floor() / 10.0),
    };
    let newest = tally.more.then(|| format!(" of the newest {}", count(tally.found())));
    Some(format!("{share}{}", newest.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use crate::dashboard::overview::delivery_summary::*;

    #[test]
    fn success_rate_is_rounded_down() {
        let of = |delivered, retrying, dead, pending| {
            rate(&DeliveryCounts { delivered, retrying, dead, pending, ..DeliveryCounts::default() })
        };
        assert_eq!(of(0, 0, 0, 9), None);
        assert_eq!(of(9_999, 1, 0, 5).unwrap(), "99.9 %");
        assert_eq!(of(2, 0, 1, 0).unwrap(), "66.6 %");
        assert_eq!(of(3, 0, 0, 4).unwrap(), "100 %");
        let cut = DeliveryCounts { delivered: 10_001, more: true, ..DeliveryCounts::default() };
        assert_eq!(rate(&cut).unwrap(), "100 % of the newest 10,001");
    }
}
