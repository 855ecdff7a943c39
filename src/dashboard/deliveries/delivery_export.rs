//! The list of deliveries as a file.

use serde_json::Value;

use crate::dashboard::components::export::{ExportSource, PAGE, respond_filtered};
use crate::dashboard::components::failure_hints::in_words;
use crate::dashboard::components::filters::{Filters, OF_DELIVERIES};
use crate::dashboard::http::handler_input::{PageInput, PageResult};
use crate::dashboard::http::list_user::ListUser;
use crate::domain::deliveries::delivery::{DeadReason, DeliveryState};
use crate::store::query::delivery_list::{DeliveryFilter, DeliveryKey, ListedDelivery};
use crate::store::{Scanned, Store, StoreError, Tenant};

/// `GET /deliveries.csv`, `GET /deliveries.jsonl`, and the same below `{base}`: the filters are those of the list.
pub async fn show(input: PageInput<ListUser>) -> PageResult {
    let source = |store, tenant, filters: Filters| DeliveryExport { store, tenant, filter: filters.deliveries() };
    respond_filtered(input, &OF_DELIVERIES, source).await
}

struct DeliveryExport {
    store: Store,
    tenant: Tenant,
    filter: DeliveryFilter,
}

impl ExportSource for DeliveryExport {
    type Item = ListedDelivery;
    type Cursor = DeliveryKey;
    const NAME: &'static str = "deliveries";
    const COLUMNS: &'static [&'static str] = &[
        "acceptedAt",
        "messageId",
        "eventType",
        "application",
        "applicationId",
        "endpointUrl",
        "endpointId",
        "endpointDescription",
        "state",
        "attempts",
        "lastAttemptAt",
        "lastStatus",
        "lastFailure",
        "nextAttemptAt",
    ];

    async fn read(&self, after: Option<DeliveryKey>) -> Result<Scanned<ListedDelivery, DeliveryKey>, StoreError> {
        self.store.list_deliveries(&self.tenant, &self.filter, after, PAGE).await
    }

    fn key(one: &ListedDelivery) -> DeliveryKey {
        (one.message_id, one.endpoint_id)
    }

    fn values(one: &ListedDelivery) -> Vec<Value> {
        let last = one.last.as_ref();
        vec![
            one.accepted_at.to_string().into(),
            one.message_id.to_string().into(),
            one.event_type.as_str().into(),
            one.app_name.as_str().into(),
            one.app_id.to_string().into(),
            one.url.as_str().into(),
            one.endpoint_id.to_string().into(),
            one.description.as_str().into(),
            state(one).into(),
            one.attempts.into(),
            last.map(|last| last.at.to_string()).into(),
            last.and_then(|last| last.status).into(),
            last.and_then(|last| last.failure).map(in_words).into(),
            one.state.pending().then(|| one.due_at.to_string()).into(),
        ]
    }
}

/// The word for the state, the same as in the list's filter.
fn state(one: &ListedDelivery) -> &'static str {
    match (one.state, one.reason) {
        (DeliveryState::Dead, Some(DeadReason::Canceled)) => "canceled",
        (DeliveryState::Dead, _) => "dead",
        (DeliveryState::Delivered, _) => "delivered",
        (DeliveryState::Retry, _) => "retrying",
        (DeliveryState::Fresh, _) => "pending",
    }
}
