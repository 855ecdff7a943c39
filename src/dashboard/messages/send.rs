//! The form that sends a message, for operators. An edited copy of an earlier message names the original in a tag.

use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;

use crate::dashboard::DashboardState;
use crate::dashboard::components::form::{Field, Form, FormPage, Start, lines};
use crate::dashboard::components::format::{Line, Query};
use crate::dashboard::components::refused::{Refused, turned_away};
use crate::dashboard::event_types::catalog;
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::frame::{Frame, Here};
use crate::dashboard::http::notice::Notice;
use crate::dashboard::http::posted::{Posted, done};
use crate::dashboard::http::viewer::Inside;
use crate::domain::access::audit::act;
use crate::domain::catalog::event_type::EventType;
use crate::domain::deliveries::message::{Message, MessageSpec};
use crate::domain::{Invalid, MessageId, Uid};
use crate::store::access::audit::Deed;
use crate::store::ingest::accept::AcceptItem;
use crate::store::{MessageRef, Store};

/// The prefix of the tag with the original's id.
pub const COPY_OF: &str = "edited-from/";

fn form(types: &[EventType], name: &str, payload: &str, channels: &[String]) -> Form {
    let names = types.iter().map(|one| one.spec.name.as_str());
    Form::new(vec![
        Field::text("eventType", "Event type", name)
            .required()
            .offering(names)
            .help("Endpoints that subscribe to it receive the message. It need not be in the catalog."),
        Field::code("payload", "Payload", payload, 14).required().help("A JSON object, sent byte for byte as entered."),
        Field::lines("channels", "Channels", channels)
            .help("One per line, at most 5. Endpoints with channels receive the message only if one matches."),
        Field::text("eventId", "Event id", "").help("Your own id for the event. A second message with it is rejected."),
    ])
}

/// The original in the URL.
async fn origin(store: &Store, inside: &Inside, query: &Query) -> Result<Option<Message>, PageError> {
    let Some(text) = query.get("from") else { return Ok(None) };
    let id: MessageId = text.parse().map_err(|_| PageError::NotFound)?;
    store.message(&inside.tenant(), inside.app.id, &MessageRef::Id(id)).await?.ok_or(PageError::NotFound).map(Some)
}

fn page(inside: &Inside, types: &[EventType], form: Form, origin: Option<&Message>) -> FormPage {
    let path = inside.place.page("send");
    let start =
        |one: &EventType| Start { name: Line::new(&one.spec.name), href: format!("{path}?type={}", one.spec.name) };
    let starts = types.iter().filter(|one| one.spec.newest_schema().is_some()).map(start).collect();
    FormPage {
        frame: Frame::of(inside, Here::Applications).below(inside, []),
        title: Line::new(if origin.is_some() { "Edit and resend" } else { "Send message" }),
        lead: "Sent to all endpoints that subscribe to it, signed and retried like any other message.",
        about: Line::new(&inside.app.name),
        action: origin.map_or_else(|| path.clone(), |from| format!("{path}?from={}", from.id)),
        form,
        starts: if origin.is_some() { Vec::new() } else { starts },
        button: "Send message",
        back: origin.map_or_else(|| inside.place.home().to_owned(), |from| inside.place.message(from.id)),
    }
}

/// `GET /applications/{app}/send?type=&from=`: prefilled with the event type's example, or with the original.
pub async fn show(
    state: web::Data<DashboardState>,
    request: HttpRequest,
    inside: Inside,
) -> Result<HttpResponse, PageError> {
    let query = Query::of(&request);
    let types = catalog::choices(&state.store, &inside).await?;
    if let Some(from) = origin(&state.store, &inside, &query).await? {
        let payload = String::from_utf8_lossy(from.payload.as_deref().unwrap_or(b"{}")).into_owned();
        let form = form(&types, &from.event_type, &payload, &from.channels);
        return page(&inside, &types, form, Some(&from)).answer();
    }
    let name = query.get("type").unwrap_or_default();
    let found = if name.is_empty() { None } else { catalog::find(&state.store, &inside, name).await? };
    let example = found.and_then(|found| found.spec.example(None).ok());
    let payload = example.and_then(|example| serde_json::to_string_pretty(&example).ok());
    page(&inside, &types, form(&types, name, payload.as_deref().unwrap_or("{}"), &[]), None).answer()
}

/// `POST /applications/{app}/send`. Redirects to the message.
pub async fn send(
    state: web::Data<DashboardState>,
    request: HttpRequest,
    inside: Inside,
    posted: Posted,
) -> Result<HttpResponse, PageError> {
    let origin = origin(&state.store, &inside, &Query::of(&request)).await?;
    match accept(&state, &inside, &posted, origin.as_ref()).await {
        Ok(id) => Ok(done(&inside.place.message(id), Notice::Sent)),
        Err(wrong) => {
            let (wrong, types) = (wrong?, catalog::choices(&state.store, &inside).await?);
            page(&inside, &types, form(&types, "", "", &[]).typed(&posted).blame(&wrong), origin.as_ref()).answer()
        }
    }
}

async fn accept(
    state: &DashboardState,
    inside: &Inside,
    posted: &Posted,
    origin: Option<&Message>,
) -> Result<MessageId, Refused> {
    let (store, now) = (inside.store(&state.store), state.clock.now());
    let event_id = posted.given("eventId").map(|text| Uid::parse("eventId", text, MessageId::PREFIX)).transpose();
    let spec = MessageSpec {
        event_type: posted.get("eventType").trim().to_owned(),
        channels: lines(posted.get("channels")),
        tags: origin.map(|from| format!("{COPY_OF}{}", from.id)).into_iter().collect(),
        payload: Bytes::from(posted.get("payload").trim().to_owned()),
        ..MessageSpec::default()
    };
    let mut wrong: Vec<Invalid> = event_id.as_ref().err().cloned().into_iter().collect();
    wrong.extend(spec.check(store.max_payload()).err().into_iter().flatten());
    let spec = match event_id {
        Ok(event_id) if wrong.is_empty() => MessageSpec { event_id, ..spec },
        _ => return Err(Ok(wrong)),
    };
    let item = AcceptItem {
        tenant: Some(inside.tenant()),
        app: inside.app.id.into(),
        only_endpoint: None,
        spec,
        at: now,
        idempotency_key: None,
    };
    let accepted = store.accept(item).await.map_err(|error| Err(error.into()))?;
    let message = accepted.map_err(turned_away)?;
    let (thing, detail) = (message.id.to_string(), message.event_type.clone());
    let deed =
        Deed { org: &inside.org, app: Some(inside.app.id), act: act::MESSAGE_SENT, thing: &thing, detail: &detail };
    store.note_look(deed, now).await.map_err(|error| Err(error.into()))?;
    Ok(message.id)
}
