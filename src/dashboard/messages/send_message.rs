//! The form that sends a message, for operators. An edited copy of an earlier message names the original in a tag.

use bytes::Bytes;

use crate::dashboard::DashboardState;
use crate::dashboard::components::form::{ExampleLink, Form, FormField, FormPage, lines};
use crate::dashboard::components::form_errors::{FormRejection, accept_errors};
use crate::dashboard::components::format::{Line, UrlQuery};
use crate::dashboard::event_types::visible_event_types;
use crate::dashboard::http::current_user::AppContext;
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::flash::FlashNotice;
use crate::dashboard::http::form_once::once;
use crate::dashboard::http::handler_input::{FormInput, PageInput, PageResult};
use crate::dashboard::http::layout::{NavItem, PageLayout};
use crate::dashboard::http::verified_form::{VerifiedForm, done};
use crate::domain::catalog::event_type::EventType;
use crate::domain::deliveries::message::{EDITED_FROM, Message, MessageSpec};
use crate::domain::{Invalid, MessageId, Uid};
use crate::store::ingest::accept::AcceptItem;
use crate::store::{MessageRef, Store};

fn form(types: &[EventType], name: &str, payload: &str, channels: &[String]) -> Form {
    let names = types.iter().map(|one| one.spec.name.as_str());
    Form::new(vec![
        FormField::text("eventType", "Event type", name)
            .required()
            .offering(names)
            .help("Endpoints that subscribe to it receive the message. It need not be in the catalog."),
        FormField::code("payload", "Payload", payload, 14)
            .required()
            .help("A JSON object, sent byte for byte as entered."),
        FormField::lines("channels", "Channels", channels)
            .help("One per line, at most 5. Endpoints with channels receive the message only if one matches."),
        FormField::text("eventId", "Event id", "")
            .help("Your own id for the event. A second message with it is rejected."),
    ])
}

/// The original in the URL.
async fn origin(store: &Store, context: &AppContext, query: &UrlQuery) -> Result<Option<Message>, PageError> {
    let Some(text) = query.get("from") else { return Ok(None) };
    let id: MessageId = text.parse().map_err(|_| PageError::NotFound)?;
    store.message(&context.tenant(), context.app.id, &MessageRef::Id(id)).await?.ok_or(PageError::NotFound).map(Some)
}

fn page(context: &AppContext, types: &[EventType], form: Form, origin: Option<&Message>) -> FormPage {
    let path = context.paths.page("send");
    let start = |one: &EventType| ExampleLink {
        name: Line::new(&one.spec.name),
        href: format!("{path}?type={}", one.spec.name),
    };
    let examples = types.iter().filter(|one| one.spec.newest_schema().is_some()).map(start).collect();
    FormPage {
        notes: Vec::new(),
        layout: PageLayout::of(context, NavItem::Applications).below(context, []),
        title: Line::new(if origin.is_some() { "Edit and resend" } else { "Send message" }),
        lead: "Sent to all endpoints that subscribe to it, signed and retried like any other message.",
        about: Line::new(&context.app.name),
        action: origin.map_or_else(|| path.clone(), |from| format!("{path}?from={}", from.id)),
        form,
        examples: if origin.is_some() { Vec::new() } else { examples },
        button: "Send message",
        back: origin.map_or_else(|| context.paths.home().to_owned(), |from| context.paths.message(from.id)),
    }
}

/// `GET /applications/{app}/send?type=&from=`: prefilled with the event type's example, or with the original.
pub async fn show(PageInput { state, request, user: context }: PageInput<AppContext>) -> PageResult {
    let query = UrlQuery::of(&request);
    let types = visible_event_types::choices(&state.store, &context).await?;
    if let Some(from) = origin(&state.store, &context, &query).await? {
        let payload = String::from_utf8_lossy(from.payload.as_deref().unwrap_or(b"{}")).into_owned();
        let form = form(&types, &from.event_type, &payload, &from.channels);
        return page(&context, &types, form, Some(&from)).answer();
    }
    let name = query.get("type").unwrap_or_default();
    let found = if name.is_empty() { None } else { visible_event_types::find(&state.store, &context, name).await? };
    let example = found.and_then(|found| found.spec.example(None).ok());
    let payload = example.and_then(|example| serde_json::to_string_pretty(&example).ok());
    page(&context, &types, form(&types, name, payload.as_deref().unwrap_or("{}"), &[]), None).answer()
}

/// `POST /applications/{app}/send`. Redirects to the message.
pub async fn send(FormInput { state, request, user: context, submitted }: FormInput<AppContext>) -> PageResult {
    let origin = origin(&state.store, &context, &UrlQuery::of(&request)).await?;
    let act = async || match accept(&state, &context, &submitted, origin.as_ref()).await {
        Ok(id) => Ok(done(&context.paths.message(id), FlashNotice::Sent)),
        Err(wrong) => {
            let (wrong, types) = (wrong?, visible_event_types::choices(&state.store, &context).await?);
            page(&context, &types, form(&types, "", "", &[]).filled(&submitted).with_errors(&wrong), origin.as_ref())
                .answer()
        }
    };
    once(&state, &submitted, act, async |made| sent(&context, made)).await
}

/// The response to a repeated form that sent the message `made`.
pub fn sent(context: &AppContext, made: &str) -> PageResult {
    let id: MessageId = made.parse().map_err(|_| PageError::NotFound)?;
    Ok(done(&context.paths.message(id), FlashNotice::Sent))
}

async fn accept(
    state: &DashboardState,
    context: &AppContext,
    submitted: &VerifiedForm,
    origin: Option<&Message>,
) -> Result<MessageId, FormRejection> {
    let (store, now) = (submitted.once(context.store(&state.store)), state.clock.now());
    let event_id = submitted.given("eventId").map(|text| Uid::parse("eventId", text, MessageId::PREFIX)).transpose();
    let spec = MessageSpec {
        event_type: submitted.get("eventType").trim().to_owned(),
        channels: lines(submitted.get("channels")),
        tags: origin.map(|from| format!("{EDITED_FROM}{}", from.id)).into_iter().collect(),
        payload: Bytes::from(submitted.get("payload").trim().to_owned()),
        ..MessageSpec::default()
    };
    let mut wrong: Vec<Invalid> = event_id.as_ref().err().cloned().into_iter().collect();
    wrong.extend(spec.check(store.max_payload()).err().into_iter().flatten());
    let spec = match event_id {
        Ok(event_id) if wrong.is_empty() => MessageSpec { event_id, ..spec },
        _ => return Err(Ok(wrong)),
    };
    let item = AcceptItem {
        tenant: Some(context.tenant()),
        app: context.app.id.into(),
        only_endpoint: None,
        spec,
        at: now,
        idempotency_key: None,
        audit: None,
    };
    let accepted = store.accept_by_hand(item).await.map_err(|error| Err(error.into()))?;
    accepted.map(|message| message.id).map_err(accept_errors)
}
