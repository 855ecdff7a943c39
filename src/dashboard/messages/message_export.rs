//! The list of messages as a file, without payloads.

use actix_web::HttpRequest;
use serde_json::Value;

use crate::dashboard::DashboardState;
use crate::dashboard::components::export::{ExportSource, PAGE, format_of, respond};
use crate::dashboard::components::filters;
use crate::dashboard::components::filters::OF_MESSAGES;
use crate::dashboard::components::format::UrlQuery;
use crate::dashboard::http::current_user::{AppContext, CurrentOperator, CurrentUser};
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::handler_input::{PageInput, PageResult};
use crate::dashboard::messages::wanted;
use crate::domain::{MessageId, Time};
use crate::store::query::message_list::{ListedMessage, MessageSearch};
use crate::store::{Scanned, Store, StoreError, Tenant};

/// `GET /messages.csv`, `GET /messages.jsonl`: the filters are those of the list.
pub async fn show(PageInput { state, request, user }: PageInput<CurrentOperator>) -> PageResult {
    export(&state, &request, &user, None).await
}

/// The same within one application.
pub async fn in_application(PageInput { state, request, user: context }: PageInput<AppContext>) -> PageResult {
    export(&state, &request, &context, Some(&context)).await
}

async fn export(
    state: &DashboardState,
    request: &HttpRequest,
    user: &CurrentUser,
    context: Option<&AppContext>,
) -> PageResult {
    let (query, now, format) = (UrlQuery::of(request), state.clock.now(), format_of(request)?);
    let (_, filters, _) = filters::read(&state.store, user, context, ("messages", &OF_MESSAGES), &query, now).await?;
    if !filters.good() {
        return Err(PageError::BadRequest("A filter is invalid. Open the list to see which one."));
    }
    let source = MessageExport { store: state.store.clone(), tenant: user.tenant(), search: wanted(filters) };
    Ok(respond(source, format, now))
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

    fn time(cursor: MessageId) -> Time {
        cursor.time()
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
