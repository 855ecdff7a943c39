//! The parts of an operation's description that follow from its path and method: tag, path parameters,
//! `idempotency-key`, token, and the errors these imply. No handler repeats them.
//!
//! * [`complete`]: completes one operation.
//! * [`ERRORS`]: the common errors and the operations they occur in.
//! * [`share`]: the shared components, and the final pass over all schemas.

use std::collections::BTreeMap;

use actix_web::http::Method;
use serde_json::json;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::schema::{AllOf, ArrayItems, Components, Object, ObjectBuilder, OneOf, Schema, SchemaType, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Required, Response};
use utoipa::{PartialSchema, ToSchema};

use super::schemas::NAME;
use super::texts::{parts_of, tag_of};
use crate::api::http::errors::{
    HttpErrorOut, NEEDS_ORGANIZATION, NOT_IMPLEMENTED, NOT_JSON, STORE_UNAVAILABLE, WEBHOOK,
};
use crate::api::http::field_error::{HttpValidationError, ValidationErrorItem};

/// Schemas by name.
type SchemaMap = BTreeMap<String, RefOr<Schema>>;

/// The name of the security scheme.
const TOKEN: &str = "token";

/// Completes an operation.
pub(super) fn complete(operation: &mut Operation, method: &Method, path: &str, answered: bool) {
    operation.tags = Some(vec![tag_of(path).to_owned()]);
    // `security(())` above a handler: no token needed.
    let open = operation.security.take().is_some();
    operation.security = Some(if open { Vec::new() } else { vec![SecurityRequirement::new(TOKEN, [] as [&str; 0])] });
    let traits = Traits {
        open,
        answered,
        post: method == Method::POST,
        body: operation.request_body.is_some(),
        query: operation.parameters.iter().flatten().any(in_query),
        named: path.contains('{'),
    };
    let mut parameters: Vec<RefOr<Parameter>> = parts_of(path).map(|(name, about)| in_path(name, about)).collect();
    parameters.extend(operation.parameters.take().unwrap_or_default());
    // Logging out ignores the key: the token is invalid for a second request.
    if traits.post && answered && path != "/auth/logout" {
        parameters.push(RefOr::Ref(Ref::new("#/components/parameters/IdempotencyKey")));
    }
    operation.parameters = Some(parameters).filter(|parameters| !parameters.is_empty());
    let responses = &mut operation.responses.responses;
    for (status, response) in responses.iter_mut() {
        if let RefOr::T(response) = response
            && response.description.is_empty()
        {
            response.description = reason_phrase(status).to_owned();
        }
    }
    for error in &ERRORS {
        let status = error.status.to_string();
        match responses.get_mut(&status) {
            // The handler's attribute has a description, but neither content nor headers.
            Some(RefOr::T(response)) => {
                let shared = error.response();
                response.content = shared.content;
                response.headers = shared.headers;
            }
            None if (error.occurs)(&traits) => {
                drop(responses.insert(status, RefOr::Ref(Ref::from_response_name(error.name))))
            }
            _ => {}
        }
    }
}

/// The description of a success without one above the handler.
fn reason_phrase(status: &str) -> &'static str {
    match status {
        "201" => "Created.",
        "202" => "Accepted.",
        "204" => "Done. The response has no body.",
        _ => "OK.",
    }
}

/// The properties of an operation that determine its errors.
struct Traits {
    open: bool,
    answered: bool,
    post: bool,
    body: bool,
    query: bool,
    named: bool,
}

/// An error common to many operations.
struct CommonError {
    status: u16,
    name: &'static str,
    description: &'static str,
    code: &'static str,
    detail: &'static str,
    occurs: fn(&Traits) -> bool,
}

/// The common errors by status. 405 belongs to no operation: it is the response to a method that the path does not
/// have.
const ERRORS: [CommonError; 15] = [
    CommonError {
        status: 400,
        name: "Malformed",
        description: "The request cannot be parsed: malformed JSON or invalid UTF-8.",
        code: "malformed",
        detail: "the body is not JSON: EOF while parsing an object at line 1 column 1",
        occurs: |_| true,
    },
    CommonError {
        status: 401,
        name: "Unauthorized",
        description: "The token is missing, invalid, expired or revoked.",
        code: "authentication_failed",
        detail: "the token has expired",
        occurs: |operation| !operation.open,
    },
    CommonError {
        status: 403,
        name: "Forbidden",
        description: "The token lacks the permission.",
        code: "permission_denied",
        detail: NEEDS_ORGANIZATION,
        occurs: |operation| !operation.open,
    },
    CommonError {
        status: 404,
        name: "NotFound",
        description: "The resource in the path does not exist or is not visible to this token.",
        code: "not_found",
        detail: "application not found",
        occurs: |operation| operation.named && operation.answered,
    },
    CommonError {
        status: 405,
        name: "MethodNotAllowed",
        description: "The path does not support this method; `Allow` lists those it does.",
        code: "method_not_allowed",
        detail: "PATCH is not allowed here, only GET, POST, HEAD",
        occurs: |_| false,
    },
    CommonError {
        status: 409,
        name: "Conflict",
        description: "The request conflicts with the current state: the uid or name is taken, or a request with the \
                      same `idempotency-key` is in progress, for example. `detail` gives the reason.",
        code: "conflict",
        detail: "an application with this uid exists already",
        occurs: |operation| operation.answered && (operation.post || operation.body),
    },
    CommonError {
        status: 410,
        name: "Gone",
        description: "Messages after the given position may be past the retention.",
        code: "position_gone",
        detail: "messages after this position may have been deleted by retention: continue with `after` at \
                 2026-11-01T00:00:00Z or later",
        occurs: |_| false,
    },
    CommonError {
        status: 413,
        name: "TooLarge",
        description: "The body is too large: the limit is `SENDOFF_MAX_PAYLOAD` for the payload and 64 KiB for \
                      everything else.",
        code: "payload_too_large",
        detail: "payload: has 300012 bytes, the limit is 262144 (setting SENDOFF_MAX_PAYLOAD)",
        occurs: |operation| operation.body,
    },
    CommonError {
        status: 415,
        name: "NotJson",
        description: "The body's content type is not JSON.",
        code: "unsupported_media_type",
        detail: NOT_JSON,
        occurs: |operation| operation.body,
    },
    CommonError {
        status: 422,
        name: "Refused",
        description: "One or more values are invalid. The response lists all of them.",
        code: "",
        detail: "",
        occurs: |operation| operation.answered && (operation.body || operation.query || operation.post),
    },
    CommonError {
        status: 429,
        name: "TooMany",
        description: "Too many requests by this caller (`RateLimit-Policy` and `RateLimit` give the limit), or too \
                      many concurrent lists and searches. Nothing was done.",
        code: "too_many_requests",
        detail: "too many requests: at most 1000 a second, try again in a moment",
        occurs: |_| true,
    },
    CommonError {
        status: 500,
        name: "Failed",
        description: "An internal error. The server log has the cause under the id in `detail`.",
        code: "server_error",
        detail: "internal error: the server log has the cause under request id 5f2b8c1e90a7d346",
        occurs: |operation| !operation.open,
    },
    CommonError {
        status: 501,
        name: "NotImplemented",
        description: "This release does not support the operation yet.",
        code: "not_implemented",
        detail: NOT_IMPLEMENTED,
        occurs: |operation| !operation.answered,
    },
    CommonError {
        status: 503,
        name: "Unavailable",
        description: "The server is overloaded or its store is unavailable. Nothing was done; retry later.",
        code: "unavailable",
        detail: STORE_UNAVAILABLE,
        occurs: |operation| !operation.open,
    },
    CommonError {
        status: 508,
        name: "LoopDetected",
        description: "The request is a webhook sent by Sendoff (recognized by its `user-agent` and `webhook-id` or \
                      `svix-id`). The API rejects webhooks.",
        code: "loop_detected",
        detail: WEBHOOK,
        occurs: |_| true,
    },
];

/// The status of a common error.
pub(in crate::api) fn status_of(name: &str) -> Option<u16> {
    ERRORS.iter().find(|error| error.name == name).map(|error| error.status)
}

impl CommonError {
    fn response(&self) -> Response {
        let (schema, example) = match self.code {
            "" => (
                HttpValidationError::name(),
                json!({"detail": [{"loc": ["body", "url"], "msg": "is required", "type": "missing"}]}),
            ),
            code => (HttpErrorOut::name(), json!({"code": code, "detail": self.detail})),
        };
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(schema))).example(Some(example)).build();
        let response = ResponseBuilder::new().description(self.description).content("application/json", content);
        match self.status {
            401 => response.header("WWW-Authenticate", header("The authentication scheme.", "Bearer")),
            405 => response.header("Allow", header("The methods of this path.", "GET, POST, HEAD")),
            429 | 503 => response.header("Retry-After", header("Seconds to wait before a retry.", "1")),
            _ => response,
        }
        .build()
    }
}

fn header(description: &str, example: &str) -> utoipa::openapi::Header {
    let text = ObjectBuilder::new().schema_type(Type::String).examples([json!(example)]).build();
    HeaderBuilder::new().description(Some(description)).schema(Some(text)).build()
}

fn in_query(parameter: &RefOr<Parameter>) -> bool {
    matches!(parameter, RefOr::T(parameter) if parameter.parameter_in == ParameterIn::Query)
}

fn in_path(name: &str, about: &str) -> RefOr<Parameter> {
    let text = ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some(NAME))
        .min_length(Some(1))
        .max_length(Some(256))
        .build();
    let parameter = ParameterBuilder::new().name(name).parameter_in(ParameterIn::Path).required(Required::True);
    RefOr::T(parameter.description(Some(about)).schema(Some(text)).build())
}

/// Adds the shared components and finishes the schemas.
pub(super) fn share(components: &mut Components) {
    for error in &ERRORS {
        components.responses.insert(error.name.to_owned(), RefOr::T(error.response()));
    }
    let errors = [
        (HttpErrorOut::name(), HttpErrorOut::schema()),
        (HttpValidationError::name(), HttpValidationError::schema()),
        (ValidationErrorItem::name(), ValidationErrorItem::schema()),
    ];
    components.schemas.extend(errors.map(|(name, schema)| (name.into_owned(), schema)));
    let key = ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).max_length(Some(256)).build();
    let about = "A unique key for this request. Repeating the request with the same key within 12 hours returns the first response \
                 and has no further effect.";
    let parameter =
        ParameterBuilder::new().name("idempotency-key").parameter_in(ParameterIn::Header).description(Some(about));
    components.parameters.insert("IdempotencyKey".to_owned(), RefOr::T(parameter.schema(Some(key)).build()));
    let about = "A token from `sendoff token` or an API key, in the header `Authorization: Bearer TOKEN`.";
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(about)).build();
    components.add_security_scheme(TOKEN, SecurityScheme::Http(bearer));
    let mut before = components.schemas.clone();
    components.schemas.iter_mut().for_each(|(name, schema)| refer_to_items(name, schema, &mut before));
    for (name, item) in &before {
        components.schemas.entry(name.clone()).or_insert_with(|| item.clone());
    }
    // Flattened parts (`ApplicationFields`) have been merged into each body.
    components.schemas.retain(|name, _| !name.ends_with("Fields"));
    for (name, schema) in &mut components.schemas {
        if let RefOr::T(Schema::AllOf(all)) = schema {
            *schema = RefOr::T(Schema::Object(joined(all, &before)));
        }
        if let RefOr::T(Schema::Object(object)) = schema
            && is_response(name)
        {
            require_nullable(object);
        }
    }
}

/// Whether this is a response schema, by Svix's naming.
fn is_response(name: &str) -> bool {
    name.ends_with("Out") || name.starts_with("ListResponse")
}

/// Replaces a list's inlined items by a reference: `ListResponse_ApplicationOut` is a list of `ApplicationOut`.
fn refer_to_items(name: &str, schema: &mut RefOr<Schema>, items: &mut SchemaMap) {
    let Some(item) = name.strip_prefix("ListResponse_") else { return };
    let RefOr::T(Schema::Object(list)) = schema else { return };
    let Some(RefOr::T(Schema::Array(data))) = list.properties.get_mut("data") else { return };
    let named = ArrayItems::RefOrSchema(Box::new(RefOr::Ref(Ref::from_schema_name(item))));
    if let ArrayItems::RefOrSchema(schema) = std::mem::replace(&mut data.items, named) {
        items.entry(item.to_owned()).or_insert(*schema);
    }
}

/// Merges flattened objects (`#[serde(flatten)]`) into one.
fn joined(all: &AllOf, schemas: &SchemaMap) -> Object {
    let mut whole = Object::with_type(Type::Object);
    whole.description.clone_from(&all.description);
    whole.example.clone_from(&all.example);
    // Own fields first.
    let (named, own): (Vec<_>, Vec<_>) = all.items.iter().partition(|item| matches!(item, RefOr::Ref(_)));
    for item in own.into_iter().chain(named) {
        let part = match item {
            RefOr::T(schema) => Some(schema),
            RefOr::Ref(named) => match named.ref_location.rsplit('/').next().and_then(|name| schemas.get(name)) {
                Some(RefOr::T(schema)) => Some(schema),
                _ => None,
            },
        };
        match part {
            Some(Schema::Object(part)) => add(&mut whole, part),
            Some(Schema::AllOf(part)) => add(&mut whole, &joined(part, schemas)),
            _ => {}
        }
    }
    whole
}

fn add(whole: &mut Object, part: &Object) {
    whole.properties.extend(part.properties.clone());
    whole.required.extend(part.required.iter().cloned());
}

/// Nullable fields of responses are always present.
fn require_nullable(object: &mut Object) {
    for (name, schema) in &object.properties {
        if !object.required.contains(name) && may_be_null(schema) {
            object.required.push(name.clone());
        }
    }
}

fn may_be_null(schema: &RefOr<Schema>) -> bool {
    let null = |kind: &SchemaType| match kind {
        SchemaType::Type(kind) => *kind == Type::Null,
        SchemaType::Array(kinds) => kinds.contains(&Type::Null),
        SchemaType::AnyValue => false,
    };
    match schema {
        RefOr::T(Schema::Object(object)) => null(&object.schema_type),
        RefOr::T(Schema::Array(array)) => null(&array.schema_type),
        RefOr::T(Schema::OneOf(OneOf { items, .. })) => items.iter().any(may_be_null),
        _ => false,
    }
}
