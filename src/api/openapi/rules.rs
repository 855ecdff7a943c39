//! What the document says of every operation by rule, so that nobody has to write it above each handler: its group, the names in its
//! path, `idempotency-key`, the token, and the errors that follow from these.
//!
//! * [`complete`] – one operation, made whole.
//! * [`ERRORS`] – the errors: when each occurs, and what it says.
//! * [`share`] – what operations refer to, and the last touch to all schemas.

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
use crate::api::errors::{HttpErrorOut, HttpValidationError, ValidationErrorItem};

/// Schemas by their names.
type Schemas = BTreeMap<String, RefOr<Schema>>;

/// The name of the security scheme.
const TOKEN: &str = "token";

/// Adds what the rules say.
pub(super) fn complete(operation: &mut Operation, method: &Method, path: &str, answered: bool) {
    operation.tags = Some(vec![tag_of(path).to_owned()]);
    // `security(())` above a handler: everybody may call it.
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
    // Logging out is done once it is done: under whatever key, the token is no good for a second request.
    if traits.post && answered && path != "/auth/logout" {
        parameters.push(RefOr::Ref(Ref::new("#/components/parameters/IdempotencyKey")));
    }
    operation.parameters = Some(parameters).filter(|parameters| !parameters.is_empty());
    let responses = &mut operation.responses.responses;
    for error in &ERRORS {
        let status = error.status.to_string();
        match responses.get_mut(&status) {
            // Said above the handler, in words alone.
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

/// What decides which errors an operation has.
struct Traits {
    open: bool,
    answered: bool,
    post: bool,
    body: bool,
    query: bool,
    named: bool,
}

/// An error that operations share.
struct Failure {
    status: u16,
    name: &'static str,
    description: &'static str,
    code: &'static str,
    detail: &'static str,
    occurs: fn(&Traits) -> bool,
}

/// The errors by their statuses. 405 is no operation's: it is what a path says to a method that it does not have.
const ERRORS: [Failure; 15] = [
    Failure {
        status: 400,
        name: "Malformed",
        description: "What came cannot be read: broken JSON, or no UTF-8.",
        code: "malformed",
        detail: "the body is not JSON: EOF while parsing an object at line 1 column 1",
        occurs: |_| true,
    },
    Failure {
        status: 401,
        name: "Unauthorized",
        description: "No token, or one that is not good (any more).",
        code: "authentication_failed",
        detail: "the token has expired",
        occurs: |operation| !operation.open,
    },
    Failure {
        status: 403,
        name: "Forbidden",
        description: "A good token, but not for this.",
        code: "permission_denied",
        detail: "this needs a token of the organization; an application's own token may not do it",
        occurs: |operation| !operation.open,
    },
    Failure {
        status: 404,
        name: "NotFound",
        description: "What the path names is not there, or not for this token to see.",
        code: "not_found",
        detail: "application not found",
        occurs: |operation| operation.named && operation.answered,
    },
    Failure {
        status: 405,
        name: "MethodNotAllowed",
        description: "The path has no such method; `Allow` lists those that it has.",
        code: "method_not_allowed",
        detail: "PATCH is not possible here, only GET, POST, HEAD",
        occurs: |_| false,
    },
    Failure {
        status: 409,
        name: "Conflict",
        description: "Something of that name is there already, or a request with the same `idempotency-key` is still on its way.",
        code: "conflict",
        detail: "an application with this uid exists already",
        occurs: |operation| operation.post && operation.answered,
    },
    Failure {
        status: 410,
        name: "Gone",
        description: "What follows the position that was shown may be gone.",
        code: "position_gone",
        detail: "messages behind this position are past the retention: go on with `after`, from 2026-11-01T00:00:00Z on, or from anywhere later",
        occurs: |_| false,
    },
    Failure {
        status: 413,
        name: "TooLarge",
        description: "More bytes than are taken (`SENDOFF_MAX_PAYLOAD`, and 64 KiB around a payload).",
        code: "payload_too_large",
        detail: "payload: has 300012 bytes, the limit is 262144 (setting SENDOFF_MAX_PAYLOAD)",
        occurs: |operation| operation.body,
    },
    Failure {
        status: 415,
        name: "NotJson",
        description: "The body says to be something else than JSON.",
        code: "unsupported_media_type",
        detail: "send the body as JSON, with the header content-type: application/json",
        occurs: |operation| operation.body,
    },
    Failure {
        status: 422,
        name: "Refused",
        description: "Values were refused; all of them are listed.",
        code: "",
        detail: "",
        occurs: |operation| operation.answered && (operation.body || operation.query || operation.post),
    },
    Failure {
        status: 429,
        name: "TooMany",
        description: "Too many requests of this caller (then `RateLimit-Policy` and `RateLimit` say what the limit is), or too many lists and searches at a time. Nothing was done.",
        code: "too_many_requests",
        detail: "too many requests: at most 1000 a second, try again in a moment",
        occurs: |_| true,
    },
    Failure {
        status: 500,
        name: "Failed",
        description: "A failure of our own. The log has the cause under the id in `detail`.",
        code: "server_error",
        detail: "something failed on our side; the log has the cause under the request id 5f2b8c1e90a7d346",
        occurs: |operation| !operation.open,
    },
    Failure {
        status: 501,
        name: "NotImplemented",
        description: "The dialect has this operation, and this release does not answer it yet.",
        code: "not_implemented",
        detail: "this operation is known, but this release of Sendoff does not answer it yet",
        occurs: |operation| !operation.answered,
    },
    Failure {
        status: 503,
        name: "Unavailable",
        description: "Nothing was done; the same request may go through in a moment.",
        code: "unavailable",
        detail: "the store is not available: try again in a moment",
        occurs: |operation| !operation.open,
    },
    Failure {
        status: 508,
        name: "LoopDetected",
        description: "The request is a webhook that a Sendoff sent (its `user-agent`, with `webhook-id` or `svix-id`). The API does not take them.",
        code: "loop_detected",
        detail: "this request is a webhook that a Sendoff sent to an endpoint. The API does not take webhooks: endpoints whose URLs are its \
                 operations could keep each other sending for ever",
        occurs: |_| true,
    },
];

/// The status of the error of that name.
pub(in crate::api) fn status_of(name: &str) -> Option<u16> {
    ERRORS.iter().find(|error| error.name == name).map(|error| error.status)
}

impl Failure {
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
            401 => response.header("WWW-Authenticate", header("How to authenticate.", "Bearer")),
            405 => response.header("Allow", header("The methods of this path.", "GET, POST, HEAD")),
            429 | 503 => response.header("Retry-After", header("How many seconds to wait.", "1")),
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

/// Adds what operations refer to, and settles the schemas.
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
    let about = "A key of the caller's own for this request. Sent again with the same key within 12 hours, it gives the first answer \
                 and does nothing twice.";
    let parameter =
        ParameterBuilder::new().name("idempotency-key").parameter_in(ParameterIn::Header).description(Some(about));
    components.parameters.insert("IdempotencyKey".to_owned(), RefOr::T(parameter.schema(Some(key)).build()));
    let about = "A token as `sendoff token` prints it, in the header `Authorization: Bearer TOKEN`.";
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(about)).build();
    components.add_security_scheme(TOKEN, SecurityScheme::Http(bearer));
    let mut before = components.schemas.clone();
    components.schemas.iter_mut().for_each(|(name, schema)| refer_to_items(name, schema, &mut before));
    for (name, item) in &before {
        components.schemas.entry(name.clone()).or_insert_with(|| item.clone());
    }
    // What several bodies share (`ApplicationFields`) is in each of them now.
    components.schemas.retain(|name, _| !name.ends_with("Fields"));
    for (name, schema) in &mut components.schemas {
        if let RefOr::T(Schema::AllOf(all)) = schema {
            *schema = RefOr::T(Schema::Object(joined(all, &before)));
        }
        if let RefOr::T(Schema::Object(object)) = schema
            && given_out(name)
        {
            require_nullable(object);
        }
    }
}

/// Whether it is what is answered, by the dialect's way of naming.
fn given_out(name: &str) -> bool {
    name.ends_with("Out") || name.starts_with("ListResponse")
}

/// A list's items as a reference: `ListResponse_ApplicationOut` is a list of `ApplicationOut`.
fn refer_to_items(name: &str, schema: &mut RefOr<Schema>, items: &mut Schemas) {
    let Some(item) = name.strip_prefix("ListResponse_") else { return };
    let RefOr::T(Schema::Object(list)) = schema else { return };
    let Some(RefOr::T(Schema::Array(data))) = list.properties.get_mut("data") else { return };
    let named = ArrayItems::RefOrSchema(Box::new(RefOr::Ref(Ref::from_schema_name(item))));
    if let ArrayItems::RefOrSchema(schema) = std::mem::replace(&mut data.items, named) {
        items.entry(item.to_owned()).or_insert(*schema);
    }
}

/// One object in place of several that flow together (`#[serde(flatten)]`).
fn joined(all: &AllOf, schemas: &Schemas) -> Object {
    let mut whole = Object::with_type(Type::Object);
    whole.description.clone_from(&all.description);
    whole.example.clone_from(&all.example);
    // What is its own comes first.
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

/// What may be `null` is always there.
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
