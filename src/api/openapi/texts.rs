//! The document's introduction, the groups of operations and the path parameters.

use actix_web::http::Method;
use utoipa::openapi::Tag;
use utoipa::openapi::path::{Operation, OperationBuilder};
use utoipa::openapi::tag::TagBuilder;

/// The introduction.
pub(super) const ABOUT: &str = "\
Sendoff accepts events and delivers them as signed webhooks. This is its REST API. It is compatible with Svix: the \
official `svix` SDKs work with it.

**Authentication.** Send `Authorization: Bearer TOKEN`. A token belongs to an organization or to one application. \
An application token sees only its own endpoints, messages and attempts, and the event types available to it.

**Identifiers.** Paths accept an id or a uid (for messages: the `eventId`). A trailing slash is ignored.

**Lists** return `{data, iterator, prevIterator, done}`. Pass `iterator` to get the next page, or `prevIterator` to \
walk back.

**Errors** are JSON: `{code, detail}`, or with 422 a list of all invalid values. A method that the path does not \
support returns 405 with `Allow`.

**Fields** that are not documented are ignored. In a PATCH, absent fields stay unchanged and `null` clears a field.";

/// The groups: name, description, and path fragments. The first group with a matching fragment wins.
const GROUPS: [(&str, &str, &[&str]); 10] = [
    ("This document", "This OpenAPI document.", &["/openapi.json"]),
    ("Health", "Health checks. They need no token.", &["/health"]),
    (
        "Operational webhooks",
        "Webhooks about Sendoff itself: endpoints that changed, deliveries that keep failing.",
        &["/operational-webhook"],
    ),
    ("Authentication", "Portal access for customers, and token revocation.", &["/auth/"]),
    ("Background tasks", "Work that continues after the response, such as replays.", &["/background-task"]),
    ("Event types", "The catalog of events that can be sent.", &["/event-type"]),
    (
        "Polling",
        "Fetching messages instead of receiving webhooks.",
        &["/poller/", "/polling-endpoint/", "/destination", "/autoconfig", "/development-endpoint"],
    ),
    (
        "Deliveries and attempts",
        "The status of a message at each endpoint, the attempts made and their results, and resending.",
        &["/attempt", "/msg/{msg_id}/endpoint"],
    ),
    ("Endpoints", "The URLs that receive an application's events.", &["/app/{app_id}/endpoint"]),
    ("Messages", "Events sent to an application. Each goes to all its endpoints whose filters match.", &["/msg"]),
];
/// The group of all other paths.
const APPLICATIONS: (&str, &str) =
    ("Applications", "An application represents one of your customers. It owns endpoints and messages.");

/// The order of groups in the document.
const ORDER: [&str; 11] = [
    "Applications",
    "Endpoints",
    "Messages",
    "Deliveries and attempts",
    "Event types",
    "Background tasks",
    "Polling",
    "Operational webhooks",
    "Authentication",
    "Health",
    "This document",
];

/// The group of a path.
pub(super) fn tag_of(path: &str) -> &'static str {
    let found = GROUPS.iter().find(|(_, _, parts)| parts.iter().any(|part| path.contains(part)));
    found.map_or(APPLICATIONS.0, |(name, ..)| name)
}

pub(super) fn tags() -> Vec<Tag> {
    let about = |name: &&str| GROUPS.iter().find(|group| group.0 == *name).map_or(APPLICATIONS.1, |group| group.1);
    ORDER.iter().map(|name| TagBuilder::new().name(*name).description(Some(about(name))).build()).collect()
}

/// Path parameters: name in the route table, name in the document, description.
const PARTS: [(&str, &str, &str); 10] = [
    ("app", "app_id", "The application's id or uid."),
    ("endpoint", "endpoint_id", "The endpoint's id or uid."),
    ("msg", "msg_id", "The message's id or `eventId`."),
    ("attempt", "attempt_id", "The attempt's id."),
    ("event_type", "event_type_name", "The event type's name."),
    ("id", "task_id", "The id of the background task."),
    ("sink", "sink_id", "The polling endpoint's id or uid."),
    ("consumer", "consumer_id", "The name of the consumer."),
    ("autoconfig", "autoconfig_id", "The id of the autoconfig subscription."),
    ("listener", "listener_id", "The name of the listener."),
];

/// Renames the parameters of a route to those of the document: `/app/{app}` becomes `/app/{app_id}`.
pub(super) fn documented(path: &str) -> String {
    PARTS
        .iter()
        .fold(path.to_owned(), |path, (ours, name, _)| path.replace(&format!("{{{ours}}}"), &format!("{{{name}}}")))
}

/// The parameters of a documented path, with their descriptions.
pub(super) fn parts_of(path: &str) -> impl Iterator<Item = (&'static str, &'static str)> {
    let mut parts: Vec<_> =
        PARTS.iter().filter_map(|(_, name, about)| Some((path.find(&format!("{{{name}}}"))?, *name, *about))).collect();
    parts.sort_unstable();
    parts.into_iter().map(|(_, name, about)| (name, about))
}

/// The description of an operation that this release does not support.
pub(super) fn not_answered_yet(method: &Method, path: &str) -> Operation {
    let words = path.split(['/', '{', '}']).filter(|word| !word.is_empty());
    let id = words.fold(format!("later.{}", method.as_str().to_lowercase()), |id, word| format!("{id}_{word}"));
    OperationBuilder::new()
        .operation_id(Some(id.replace('-', "_")))
        .summary(Some("Not supported yet"))
        .description(Some("This release of Sendoff returns 501 for this operation."))
        .build()
}
