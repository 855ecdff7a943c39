//! The document's own words: what the API is, how its operations are grouped, what the names in a path stand for.

use actix_web::http::Method;
use utoipa::openapi::Tag;
use utoipa::openapi::path::{Operation, OperationBuilder};
use utoipa::openapi::tag::TagBuilder;

/// What the whole is about.
pub(super) const ABOUT: &str = "\
Sendoff takes events and delivers them as signed webhooks until they arrive. This is its REST API, in the Svix dialect: the official \
`svix` SDKs work with it.

**Who calls.** `Authorization: Bearer TOKEN`. A token is for a whole organization, or for one application of it, which then sees its own \
endpoints, messages and attempts, and the event types that are offered to it.

**Names.** Wherever a path takes an id, it takes the uid too (for a message: its `eventId`). A slash at a path's end changes nothing.

**Lists** answer `{data, iterator, prevIterator, done}`. Ask again with `iterator` for the next page, with `prevIterator` to walk back.

**Errors** are JSON: `{code, detail}`, or for refused values a list of them with 422. A method that a path does not have is answered \
with 405 and `Allow`.

**Fields** that are not listed are ignored. In a PATCH, a field that is absent stays as it is, and `null` clears it.";

/// The groups, in the order in which they are read: name, description, and what a path of the group contains. The first that fits counts.
const GROUPS: [(&str, &str, &[&str]); 10] = [
    ("This document", "The document that describes all of this.", &["/openapi.json"]),
    ("Health", "Whether the server answers. Needs no token.", &["/health"]),
    (
        "Operational webhooks",
        "What Sendoff tells the team itself: endpoints that changed, deliveries that keep failing.",
        &["/operational-webhook"],
    ),
    ("Authentication", "Tokens for the customers' portal, and putting a token out of use.", &["/auth/"]),
    ("Background work", "Work that goes on after its request was answered.", &["/background-task"]),
    ("Event types", "The catalog of what can be sent.", &["/event-type"]),
    (
        "Polling",
        "Fetching events in place of receiving them.",
        &["/poller/", "/polling-endpoint/", "/destination", "/autoconfig"],
    ),
    (
        "Deliveries and attempts",
        "Where a message stands at each endpoint, what was tried and what came of it, and sending it again.",
        &["/attempt", "/msg/{msg_id}/endpoint"],
    ),
    ("Endpoints", "Where an application wants its events.", &["/app/{app_id}/endpoint"]),
    ("Messages", "The way in: an event, to everybody at the application who wants it.", &["/msg"]),
];
/// The group of what fits none of those.
const APPLICATIONS: (&str, &str) =
    ("Applications", "An application is one customer of the team. It owns endpoints and messages.");

/// The groups as the document's reader meets them.
const ORDER: [&str; 11] = [
    "Applications",
    "Endpoints",
    "Messages",
    "Deliveries and attempts",
    "Event types",
    "Background work",
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

/// The names in a path: in the route table, in the document, and what they stand for.
const PARTS: [(&str, &str, &str); 9] = [
    ("app", "app_id", "The application: its id or its uid."),
    ("endpoint", "endpoint_id", "The endpoint: its id or its uid."),
    ("msg", "msg_id", "The message: its id or its `eventId`."),
    ("attempt", "attempt_id", "The attempt's id."),
    ("event_type", "event_type_name", "The event type's name."),
    ("id", "task_id", "The id of the background work."),
    ("sink", "sink_id", "The polling endpoint: its id or its uid."),
    ("consumer", "consumer_id", "The consumer's own name."),
    ("autoconfig", "autoconfig_id", "The id of the autoconfig subscription."),
];

/// A path of the route table as the document has it: `/app/{app}` is `/app/{app_id}`.
pub(super) fn documented(path: &str) -> String {
    PARTS
        .iter()
        .fold(path.to_owned(), |path, (ours, name, _)| path.replace(&format!("{{{ours}}}"), &format!("{{{name}}}")))
}

/// The names in a documented path and what they stand for.
pub(super) fn parts_of(path: &str) -> impl Iterator<Item = (&'static str, &'static str)> {
    let mut parts: Vec<_> =
        PARTS.iter().filter_map(|(_, name, about)| Some((path.find(&format!("{{{name}}}"))?, *name, *about))).collect();
    parts.sort_unstable();
    parts.into_iter().map(|(_, name, about)| (name, about))
}

/// What is said of an operation that the dialect has and this release does not answer.
pub(super) fn not_answered_yet(method: &Method, path: &str) -> Operation {
    let words = path.split(['/', '{', '}']).filter(|word| !word.is_empty());
    let id = words.fold(format!("later.{}", method.as_str().to_lowercase()), |id, word| format!("{id}_{word}"));
    OperationBuilder::new()
        .operation_id(Some(id.replace('-', "_")))
        .summary(Some("Not answered yet"))
        .description(Some("The dialect has this operation; this release of Sendoff answers it with 501."))
        .build()
}
