//! The OpenAPI document, made of the route table: what is mounted is described, and nothing else is.
//!
//! # How an operation gets in
//!
//! 1. Its handler has a doc comment (the first line is the title, the rest the description) and above it, for example,
//!    `#[utoipa::path(post, path = "/app/{app_id}/msg", params(…), request_body = MessageIn, responses((status = 202, …)))]`.
//!    Say there what is the operation's own: what is answered when all goes well, its query parameters, a 409 and why.
//! 2. What it gives out derives `utoipa::ToSchema` under the dialect's name (`#[schema(as = MessageOut)]`), with the doc comments of its
//!    fields as their descriptions. What it reads is told by a struct for the document alone (`MessageIn`), which stands beside the
//!    reader. What several resources share is in [`schemas`].
//! 3. The route table has `op!(message::create)` in place of `message::create`.
//!
//! A handler without `op!` is listed as an operation that is not answered yet (501). `tests/api/document.rs` finds those that do answer.
//!
//! # What is added by rule
//!
//! [`rules`]: the id (`message.create`), the tag, the parameters in the path, `idempotency-key`, the token, and the errors that follow from
//! all of that. In what is given out, a field that may be `null` is always there, and one that may be missing is never `null`
//! (`#[schema(nullable = false)]`).
//!
//! The cast: [`document`], [`serve`] (the document over HTTP), [`rules`], [`schemas`], [`texts`].

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
use super::at::{At, Description};
use super::call::without_token;
use super::errors::Answer;

/// Where everything is mounted.
pub(super) const BASE: &str = "/api/v1";

/// The document.
pub fn document() -> &'static OpenApi {
    static DOCUMENT: LazyLock<OpenApi> = LazyLock::new(|| build(&super::table().lines));
    &DOCUMENT
}

/// Read this document
///
/// The OpenAPI 3.1 document of the REST API as this release answers it. A page for people is at `/docs`.
#[utoipa::path(
    get, path = "/openapi.json", security(()),
    responses((status = 200, description = "The document.", body = schemas::JsonObject))
)]
pub(super) async fn serve(request: HttpRequest, state: Data<ApiState>) -> Answer {
    static TEXT: LazyLock<String> = LazyLock::new(|| document().to_json().unwrap_or_default());
    without_token(&request, &state)?;
    Ok(HttpResponse::Ok().content_type("application/json").body(TEXT.as_str()))
}

fn build(lines: &[At]) -> OpenApi {
    let mut components = Components::new();
    let mut paths = PathsBuilder::new();
    for line in lines {
        let path = texts::documented(line.path);
        for (method, description) in &line.methods {
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

/// What stands above a handler; the schemas that it needs go into `components`.
fn described(description: &Description, components: &mut Components) -> Operation {
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

    /// The attribute above a handler names its path and method too: as the route table does.
    #[test]
    fn what_stands_above_a_handler_is_where_it_is_mounted() {
        for line in super::super::table().lines {
            for (method, description) in &line.methods {
                let Some(description) = description else { continue };
                let document = (description.read)();
                let (path, item) = document.paths.paths.iter().next().unwrap();
                assert_eq!(*path, texts::documented(line.path), "{}", description.name);
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
