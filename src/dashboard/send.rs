//! Sending a message by hand, by an operator: through the same door as every other.

use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;

use super::DashboardState;
use super::catalog;
use super::error::PageError;
use super::form::{Field, Form, FormPage, Start, lines};
use super::frame::{Frame, Here};
use super::notice::Notice;
use super::posted::{Posted, done};
use super::refused::{Refused, turned_away};
use super::show::{Line, Query};
use super::viewer::Inside;
use crate::domain::audit::act;
use crate::domain::event_type::EventType;
use crate::domain::message::MessageSpec;
use crate::domain::{Invalid, MessageId, Uid};
use crate::store::access::audit::Deed;
use crate::store::ingest::accept::AcceptItem;

fn form(types: &[EventType], name: &str, payload: &str) -> Form {
    let names = types.iter().map(|one| one.spec.name.as_str());
    Form::new(vec![
        Field::text("eventType", "Event type", name)
            .required()
            .offering(names)
            .help("From the catalog or not: whoever wants it gets it."),
        Field::code("payload", "Payload", payload, 14)
            .required()
            .help("A JSON object: sent byte for byte as it stands here."),
        Field::lines("channels", "Channels", [])
            .help("One on a line, at most 5. Endpoints that listen to some get it only then."),
        Field::text("eventId", "Event id", "").help("Your own id of the event: a second message with it is refused."),
    ])
}

fn page(inside: &Inside, types: &[EventType], form: Form) -> FormPage {
    let path = inside.place.page("send");
    let start =
        |one: &EventType| Start { name: Line::new(&one.spec.name), href: format!("{path}?type={}", one.spec.name) };
    let starts = types.iter().filter(|one| one.spec.newest_schema().is_some()).map(start).collect();
    FormPage {
        frame: Frame::of(inside, Here::Applications),
        title: Line::new("Send a message"),
        lead: "To all endpoints of the application that want it, signed and retried like every other.",
        about: Line::new(&inside.app.name),
        action: path,
        form,
        starts,
        button: "Send the message",
        back: inside.place.home().to_owned(),
    }
}

/// `GET /applications/{app}/send?type=`: the event type's example stands in the form.
pub async fn show(
    state: web::Data<DashboardState>,
    request: HttpRequest,
    inside: Inside,
) -> Result<HttpResponse, PageError> {
    let query = Query::of(&request);
    let types = catalog::choices(&state.store, &inside).await?;
    let name = query.get("type").unwrap_or_default();
    let found = if name.is_empty() { None } else { catalog::find(&state.store, &inside, name).await? };
    let example = found.and_then(|found| found.spec.example(None).ok());
    let payload = example.and_then(|example| serde_json::to_string_pretty(&example).ok());
    page(&inside, &types, form(&types, name, payload.as_deref().unwrap_or("{}"))).answer()
}

/// `POST /applications/{app}/send`. Leads to the message.
pub async fn send(state: web::Data<DashboardState>, inside: Inside, posted: Posted) -> Result<HttpResponse, PageError> {
    match accept(&state, &inside, &posted).await {
        Ok(id) => Ok(done(&inside.place.message(id), Notice::Sent)),
        Err(wrong) => {
            let (wrong, types) = (wrong?, catalog::choices(&state.store, &inside).await?);
            page(&inside, &types, form(&types, "", "").typed(&posted).blame(&wrong)).answer()
        }
    }
}

async fn accept(state: &DashboardState, inside: &Inside, posted: &Posted) -> Result<MessageId, Refused> {
    let (store, now) = (inside.store(&state.store), state.clock.now());
    let event_id = posted.given("eventId").map(|text| Uid::parse("eventId", text, MessageId::PREFIX)).transpose();
    let spec = MessageSpec {
        event_type: posted.get("eventType").trim().to_owned(),
        channels: lines(posted.get("channels")),
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
        once: None,
    };
    let accepted = store.accept(item).await.map_err(|error| Err(error.into()))?;
    let message = accepted.map_err(turned_away)?;
    let (thing, detail) = (message.id.to_string(), message.event_type.clone());
    let deed =
        Deed { org: &inside.org, app: Some(inside.app.id), act: act::MESSAGE_SENT, thing: &thing, detail: &detail };
    store.note_look(deed, now).await.map_err(|error| Err(error.into()))?;
    Ok(message.id)
}
