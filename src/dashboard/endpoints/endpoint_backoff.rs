//! Endpoints that are backing off: unreachable, or asking for a pause. They get one attempt at a time, and their other
//! deliveries wait.

use crate::dashboard::components::format::{Line, count_up_to, counted};
use crate::dashboard::components::widgets::{Address, RelativeTime};
use crate::dashboard::http::app_paths::AppPaths;
use crate::domain::{EndpointId, Time};
use crate::store::catalog::endpoint_list::{BreakerPause, PausedEndpoint};
use crate::store::{Store, StoreError, Tenant};

/// Number of endpoints that are named.
const NAMED: usize = 3;
/// Maximum count of endpoints.
const MOST: i64 = 20;
/// Maximum count of waiting deliveries per endpoint.
const WAITING: i64 = 1_000;

/// The next attempt at an endpoint that is backing off.
#[derive(Clone, Copy, Debug)]
pub struct NextProbe {
    /// `None`: in flight, or about to start.
    pub next: Option<RelativeTime>,
}

impl NextProbe {
    pub fn new(rest: BreakerPause, now: Time) -> NextProbe {
        match rest {
            BreakerPause::Until(at) => NextProbe { next: Some(RelativeTime::new(at, now)) },
            BreakerPause::Probing => NextProbe { next: None },
        }
    }
}

/// An endpoint that is backing off.
pub struct BackoffRow {
    pub href: String,
    pub address: Address,
    pub app: Line,
    pub probe: NextProbe,
}

/// All endpoints of a tenant that are backing off.
pub struct BackoffSummary {
    /// `1 endpoint`, `20+ endpoints`.
    pub count: String,
    /// The number of waiting deliveries.
    pub waiting: String,
    pub rows: Vec<BackoffRow>,
    /// The number of endpoints that are not named.
    pub more: Option<String>,
}

impl BackoffSummary {
    /// `None`: no endpoint is backing off.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn of(store: &Store, tenant: &Tenant, now: Time) -> Result<Option<BackoffSummary>, StoreError> {
        let found = store.paused_endpoints(tenant, now, MOST).await?;
        if found.is_empty() {
            return Ok(None);
        }
        let ids: Vec<EndpointId> = found.iter().map(|one| one.endpoint_id).collect();
        let backlogs = store.backlogs(tenant, &ids, WAITING).await?;
        let (waiting, cut) = (backlogs.values().sum::<i64>(), backlogs.values().any(|n| *n >= WAITING));
        let all = found.len() as i64;
        let row = |one: &PausedEndpoint| BackoffRow {
            href: AppPaths::of_application(one.app_id).endpoint(one.endpoint_id),
            address: Address::new(&one.url),
            app: Line::cut(&one.app_name, 80),
            probe: NextProbe::new(one.rest, now),
        };
        let plus = if cut || all >= MOST { "+" } else { "" };
        let deliveries = counted(waiting, "delivery", "deliveries");
        Ok(Some(BackoffSummary {
            count: match all {
                1 => "1 endpoint".to_owned(),
                n => format!("{} endpoints", count_up_to(n, MOST)),
            },
            waiting: match deliveries.split_once(' ') {
                Some((number, word)) => format!("{number}{plus} {word}"),
                None => deliveries,
            },
            rows: found.iter().take(NAMED).map(row).collect(),
            more: (found.len() > NAMED)
                .then(|| format!("{} more", count_up_to(all - NAMED as i64, MOST - NAMED as i64))),
        }))
    }
}
