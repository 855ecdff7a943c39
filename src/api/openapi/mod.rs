//! The OpenAPI document and its viewer. The document is built from the route table: it describes exactly the mounted
//! operations.
//!
//! * [`document`]: the document. [`serve`]: the document over HTTP.
//! * [`rules`]: the parts of an operation that follow from its path and method.
//! * [`schemas`]: schemas and parameters that several resources share.
//! * [`texts`]: the introduction, the groups and the path parameters.
//! * [`docs_page`]: `/docs`, the document as a web page.
//!
//! # Adding an operation
//!
//! 1. Give its handler a doc comment (the first line is the summary, the rest the description) and an attribute such as
//!    `#[utoipa::path(post, path = "/app/{app_id}/msg", request_body = MessageIn, responses((status = 202, …)))]`.
//!    Describe a response only where its status does not say everything.
//! 2. Derive `utoipa::ToSchema` for its response under Svix's name (`#[schema(as = MessageOut)]`); doc comments
//!    of fields become descriptions. Describe its body in a struct used only by the document (`MessageIn`), next to the
//!    code that reads it.
//! 3. Write `op!(message::create)` instead of `message::create` in the route table. Without `op!` an operation is
//!    listed as not supported (501); `tests/api/document.rs` finds those that respond anyway.
//!
//! # Invariants
//!
//! * [`rules`] adds the operation id (`message.create`), tag, path parameters, `idempotency-key`, token and common
//!   errors. They are never written above a handler.
//! * In a response, a nullable field is always present, and an optional field is never `null` (`#[schema(nullable =
//!   false)]`).
//! * Nothing here affects how a request is handled.

pub(in crate::api) mod docs_page;
mod rules;
pub(super) mod schemas;
mod texts;

pub(super) use rules::status_of;
use std::sync::LazyLock;

use actix_web::http::Method;
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use utoipa::openapi::path::{HttpMethod, Operation, PathItem, PathsBuilder};
use utoipa::openapi::schema::Components;
use utoipa::openapi::{Info, OpenApi, OpenApiBuilder, Server};

use super::ApiState;
use crate::api::http::errors::ApiResult;
use crate::api::http::request::limit_anonymous_request;
use crate::api::http::route_table::{ApiRoute, OperationDescription};

/// The base path of all operations.
pub(super) const BASE: &str = "/api/v1";

/// The document.
pub fn document() -> &'static OpenApi {
    static DOCUMENT: LazyLock<OpenApi> = LazyLock::new(|| build(&super::table().routes));
    &DOCUMENT
}

/// Retrieve this document
///
/// Returns the OpenAPI 3.1 document of the REST API. A readable version is at `/docs`.
#[utoipa::path(
    get, path = "/openapi.json", security(()),
    responses((status = 200, description = "The document.", body = schemas::JsonObject))
)]
pub(super) async fn serve(request: HttpRequest, state: Data<ApiState>) -> ApiResult {
    static TEXT: LazyLock<String> = LazyLock::new(|| document().to_json().unwrap_or_default());
    limit_anonymous_request(&request, &state)?;
    Ok(HttpResponse::Ok().content_type("application/json").body(TEXT.as_str()))
}

fn build(routes: &[ApiRoute]) -> OpenApi {
    let mut components = Components::new();
    let mut paths = PathsBuilder::new();
    for route in routes {
        let path = texts::documented(route.path);
        for (method, description) in &route.methods {
            let mut operation = match description {
                Some(description) => described(description, &mut components),
                None => texts::not_answered_yet(method, &path),
            };
            rules::complete(&mut operation, method, &path, description.is_some());
            paths = paths.path(format!("{BASE}{path}"), PathItem::new(as_openapi(method), operation));
        }
    }
    rules::share(&mut components);
    let mut info = Info::new("Sendoff", env!("CARGO_PKG_VERSION"));
    info.description = Some(texts::ABOUT.to_owned());
    OpenApiBuilder::new()
        .info(info)
        .servers(Some([Server::new("/")]))
        .paths(paths)
        .components(Some(components))
        .tags(Some(texts::tags()))
        .build()
}

/// The description above a handler. Its schemas are added to `components`.
fn described(description: &OperationDescription, components: &mut Components) -> Operation {
    let document = (description.read)();
    components.schemas.extend(document.components.unwrap_or_default().schemas);
    let item = document.paths.paths.into_values().next().unwrap_or_default();
    let all = [item.get, item.post, item.put, item.patch, item.delete];
    let mut operation = all.into_iter().flatten().next().unwrap_or_default();
    operation.operation_id = Some(description.name.replace(' ', "").replace("::", ".").replace("read_one", "get"));
    operation
}

fn as_openapi(method: &Method) -> HttpMethod {
    match *method {
        Method::POST => HttpMethod::Post,
        Method::PUT => HttpMethod::Put,
        Method::PATCH => HttpMethod::Patch,
        Method::DELETE => HttpMethod::Delete,
        _ => HttpMethod::Get,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The attribute above a handler repeats the path and method of the route table.
    #[test]
    fn descriptions_match_the_route_table() {
        for route in super::super::table().routes {
            for (method, description) in &route.methods {
                let Some(description) = description else { continue };
                let document = (description.read)();
                let (path, item) = document.paths.paths.iter().next().unwrap();
                assert_eq!(*path, texts::documented(route.path), "{}", description.name);
                let found = match as_openapi(method) {
                    HttpMethod::Post => &item.post,
                    HttpMethod::Put => &item.put,
                    HttpMethod::Patch => &item.patch,
                    HttpMethod::Delete => &item.delete,
                    _ => &item.get,
                };
                assert!(found.is_some(), "{} {method}", description.name);
            }
        }
    }
}
