//! The list of messages as a file, without payloads.

use serde_json::Value;

use crate::dashboard::components::export::{ExportSource, PAGE, respond_filtered};
use crate::dashboard::components::filters::{Filters, OF_MESSAGES};
use crate::dashboard::http::handler_input::{PageInput, PageResult};
use crate::dashboard::http::list_user::ListUser;
use crate::dashboard::messages::wanted;
use crate::domain::MessageId;
use crate::store::query::message_list::{ListedMessage, MessageSearch};
use crate::store::{Scanned, Store, StoreError, Tenant};

/// `GET /messages.csv`, `GET /messages.jsonl`, and the same below `{base}`: the filters are those of the list.
pub async fn show(input: PageInput<ListUser>) -> PageResult {
    let source = |store, tenant, filters: Filters| MessageExport { store, tenant, search: wanted(&filters) };
    respond_filtered(input, &OF_MESSAGES, source).await
}

struct MessageExport {
    store: Store,
    tenant: Tenant,
    search: MessageSearch,
}

impl ExportSource for MessageExport {
    type Item = ListedMessage;
    type Cursor = MessageId;
    const NAME: &'static str = "messages";
    const COLUMNS: &'static [&'static str] = &[
        "acceptedAt",
        "messageId",
        "eventType",
        "eventId",
        "application",
        "applicationId",
        "bytes",
        "delivered",
        "pending",
        "dead",
        "canceled",
    ];

    async fn read(&self, after: Option<MessageId>) -> Result<Scanned<ListedMessage, MessageId>, StoreError> {
        self.store.list_messages(&self.tenant, &self.search, after, PAGE).await
    }

    fn key(one: &ListedMessage) -> MessageId {
        one.id
    }

    fn values(one: &ListedMessage) -> Vec<Value> {
        vec![
            one.accepted_at.to_string().into(),
            one.id.to_string().into(),
            one.event_type.as_str().into(),
            one.event_id.as_deref().into(),
            one.app_name.as_str().into(),
            one.app_id.to_string().into(),
            one.size.into(),
            one.standings.delivered.into(),
            one.standings.pending.into(),
            one.standings.dead.into(),
            one.standings.canceled.into(),
        ]
    }
}
