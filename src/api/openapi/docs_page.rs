//! `/docs`: the OpenAPI document as a web page. Rendered once, without JavaScript or external resources, and public
//! like the document.
//!
//! * [`DocsPage`]: the page: groups of operations, errors, schemas.
//! * [`OperationDoc`]: an operation with its parameters, body, responses and examples.
//! * [`schema_text`]: schemas as text. [`prose`]: descriptions as paragraphs.

mod prose;
mod schema_text;

use std::sync::LazyLock;

use actix_web::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName};
use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use sha2::{Digest, Sha256};
use utoipa::openapi::path::{Operation as DocumentedOperation, Parameter, ParameterIn};
use utoipa::openapi::{Content, OpenApi, RefOr, Required, Response};

use crate::api::ApiState;
use crate::api::http::errors::{ApiError, ApiResult, method_not_allowed, no_route};
use crate::api::http::request::limit_anonymous_request;
use crate::api::openapi::docs_page::prose::{Prose, TextRun};
use crate::api::openapi::docs_page::schema_text::{FieldDoc, SchemaIndex, TypeText};
use crate::api::openapi::document;

/// The design tokens and frame of the dashboard, and the styles of this page.
const STYLE: &str = concat!(
    include_str!("../../../static/tokens.css"),
    include_str!("../../../static/base.css"),
    include_str!("../../../static/docs.css")
);
const ICON: &str = include_str!("../../../static/favicon.svg");
const HEADERS: [(HeaderName, &str); 2] = [
    (
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'",
    ),
    (HeaderName::from_static("x-content-type-options"), "nosniff"),
];

/// Mounts `/docs` and its assets.
pub(in crate::api) fn routes(config: &mut ServiceConfig) {
    let only = |path: &str| {
        let wrong = |request: HttpRequest| async move { method_not_allowed(request.method(), "GET, HEAD") };
        web::resource([path.to_owned(), format!("{path}/")]).default_service(web::to(wrong))
    };
    config
        .service(only("/docs").route(web::get().to(page)).route(web::head().to(page)))
        .service(only("/docs/{hash}/style.css").route(web::get().to(style)).route(web::head().to(style)))
        .service(only("/docs/{hash}/favicon.svg").route(web::get().to(icon)).route(web::head().to(icon)))
        .service(web::scope("/docs").default_service(web::to(no_route)));
}

/// A hash of the assets: browsers cache them forever under a URL with it.
fn hash() -> &'static str {
    static HASH: LazyLock<String> =
        LazyLock::new(|| hex::encode(&Sha256::digest(STYLE.to_owned() + ICON).as_slice()[..8]));
    &HASH
}

fn file(kind: &'static str, text: &'static str, cache: &'static str) -> HttpResponse {
    let mut response = HttpResponse::Ok();
    response.insert_header((CONTENT_TYPE, kind)).insert_header((CACHE_CONTROL, cache));
    for header in HEADERS {
        response.insert_header(header);
    }
    response.body(text)
}

/// The cache policy of an asset. Under another hash the current asset is served, uncached.
fn kept(path: &web::Path<String>) -> &'static str {
    if **path == *hash() { "public, max-age=31536000, immutable" } else { "no-cache" }
}

async fn style(path: web::Path<String>) -> HttpResponse {
    file("text/css; charset=utf-8", STYLE, kept(&path))
}

async fn icon(path: web::Path<String>) -> HttpResponse {
    file("image/svg+xml", ICON, kept(&path))
}

async fn page(request: HttpRequest, state: Data<ApiState>) -> ApiResult {
    static HTML: LazyLock<Result<String, askama::Error>> = LazyLock::new(|| DocsPage::of(document()).render());
    limit_anonymous_request(&request, &state)?;
    match &*HTML {
        Ok(html) => Ok(file("text/html; charset=utf-8", html, "no-cache")),
        Err(error) => Err(ApiError::internal(error)),
    }
}

/// The page.
#[derive(Template)]
#[template(path = "docs/page.html")]
struct DocsPage {
    hash: &'static str,
    version: String,
    about: Prose,
    groups: Vec<OperationGroup>,
    errors: Vec<ErrorDoc>,
    schemas: Vec<SchemaDoc>,
}

/// A group of operations.
struct OperationGroup {
    name: String,
    anchor: String,
    about: Prose,
    operations: Vec<OperationDoc>,
    /// Operations that are not supported yet: method and path.
    later: Vec<(&'static str, String)>,
}

struct OperationDoc {
    id: String,
    method: &'static str,
    path: String,
    title: String,
    about: Prose,
    /// Whether it needs no token.
    open: bool,
    parameters: Vec<ParameterDoc>,
    body: Option<RequestBodyDoc>,
    answers: Vec<ResponseDoc>,
    /// Common errors: status and anchor.
    errors: Vec<(String, String)>,
}

/// A parameter.
struct ParameterDoc {
    place: &'static str,
    field: FieldDoc,
}

struct RequestBodyDoc {
    kind: TypeText,
    fields: Vec<FieldDoc>,
    example: String,
}

struct ResponseDoc {
    status: String,
    about: Prose,
    kind: Option<TypeText>,
    example: Option<String>,
}

/// A common error.
struct ErrorDoc {
    status: String,
    name: String,
    about: Prose,
    example: String,
}

/// A schema.
struct SchemaDoc {
    name: String,
    about: Prose,
    kind: Option<TypeText>,
    fields: Vec<FieldDoc>,
}

impl DocsPage {
    fn of(document: &OpenApi) -> DocsPage {
        let components = document.components.clone().unwrap_or_default();
        let schemas = SchemaIndex(&components.schemas);
        let mut groups: Vec<OperationGroup> = document.tags.iter().flatten().map(OperationGroup::of).collect();
        for (path, item) in &document.paths.paths {
            let methods = [
                ("GET", &item.get),
                ("POST", &item.post),
                ("PUT", &item.put),
                ("PATCH", &item.patch),
                ("DELETE", &item.delete),
            ];
            for (method, operation) in methods {
                let Some(operation) = operation else { continue };
                let tag = operation.tags.as_ref().and_then(|tags| tags.first());
                let Some(group) = groups.iter_mut().find(|group| Some(&group.name) == tag) else { continue };
                if operation.operation_id.as_ref().is_some_and(|id| id.starts_with("later.")) {
                    group.later.push((method, path.clone()));
                } else {
                    group.operations.push(OperationDoc::of(method, path, operation, document, &schemas));
                }
            }
        }
        groups.retain(|group| !group.operations.is_empty() || !group.later.is_empty());
        let failures = components.responses.iter().filter_map(|(name, response)| match response {
            RefOr::T(response) => Some(ErrorDoc::of(name, response)),
            RefOr::Ref(_) => None,
        });
        let mut errors: Vec<ErrorDoc> = failures.collect();
        errors.sort_by(|one, other| one.status.cmp(&other.status));
        DocsPage {
            hash: hash(),
            version: document.info.version.clone(),
            about: Prose::of(document.info.description.as_deref().unwrap_or_default()),
            groups,
            errors,
            schemas: schemas.0.keys().map(|name| SchemaDoc::of(name, &schemas)).collect(),
        }
    }
}

impl OperationGroup {
    fn of(tag: &utoipa::openapi::Tag) -> OperationGroup {
        OperationGroup {
            name: tag.name.clone(),
            anchor: tag.name.to_lowercase().replace(' ', "-"),
            about: Prose::of(tag.description.as_deref().unwrap_or_default()),
            operations: Vec::new(),
            later: Vec::new(),
        }
    }
}

impl OperationDoc {
    fn of(
        method: &'static str,
        path: &str,
        operation: &DocumentedOperation,
        document: &OpenApi,
        schemas: &SchemaIndex<'_>,
    ) -> OperationDoc {
        let parameters = operation.parameters.iter().flatten().filter_map(|one| parameter(one, document));
        let (mut answers, mut errors) = (Vec::new(), Vec::new());
        for (status, response) in &operation.responses.responses {
            match response {
                RefOr::T(response) => answers.push(ResponseDoc::of(status, response, schemas)),
                RefOr::Ref(shared) => {
                    let name = shared.ref_location.rsplit('/').next().unwrap_or_default();
                    errors.push((status.clone(), format!("error-{name}")));
                }
            }
        }
        OperationDoc {
            id: operation.operation_id.clone().unwrap_or_default(),
            method,
            path: path.to_owned(),
            title: operation.summary.clone().unwrap_or_default(),
            about: Prose::of(operation.description.as_deref().unwrap_or_default()),
            open: operation.security.as_ref().is_some_and(Vec::is_empty),
            parameters: parameters.map(|one| ParameterDoc::of(one, schemas)).collect(),
            body: operation.request_body.as_ref().and_then(|body| RequestBodyDoc::of(body, schemas)),
            answers,
            errors,
        }
    }
}

/// Resolves a parameter, inline or shared.
fn parameter<'d>(one: &'d RefOr<Parameter>, document: &'d OpenApi) -> Option<&'d Parameter> {
    match one {
        RefOr::T(parameter) => Some(parameter),
        RefOr::Ref(shared) => {
            let name = shared.ref_location.rsplit('/').next()?;
            match document.components.as_ref()?.parameters.get(name)? {
                RefOr::T(parameter) => Some(parameter),
                RefOr::Ref(_) => None,
            }
        }
    }
}

impl ParameterDoc {
    fn of(parameter: &Parameter, schemas: &SchemaIndex<'_>) -> ParameterDoc {
        let place = match parameter.parameter_in {
            ParameterIn::Path => "path",
            ParameterIn::Header => "header",
            _ => "query",
        };
        let about = parameter.description.as_deref().unwrap_or_default();
        let required = parameter.required == Required::True;
        ParameterDoc { place, field: schemas.field(&parameter.name, parameter.schema.as_ref(), required, about) }
    }
}

impl RequestBodyDoc {
    fn of(
        body: &RefOr<utoipa::openapi::request_body::RequestBody>,
        schemas: &SchemaIndex<'_>,
    ) -> Option<RequestBodyDoc> {
        let RefOr::T(body) = body else { return None };
        let schema = body.content.values().find_map(schema_of)?;
        Some(RequestBodyDoc {
            kind: schemas.kind(schema),
            fields: schemas.fields(schema),
            example: schemas.example(schema),
        })
    }
}

fn schema_of(content: &RefOr<Content>) -> Option<&RefOr<utoipa::openapi::schema::Schema>> {
    match content {
        RefOr::T(content) => content.schema.as_ref(),
        RefOr::Ref(_) => None,
    }
}

/// The first digit of a status.
fn class(status: &str) -> &str {
    status.get(..1).unwrap_or_default()
}

impl ResponseDoc {
    fn class(&self) -> &str {
        class(&self.status)
    }

    fn of(status: &str, response: &Response, schemas: &SchemaIndex<'_>) -> ResponseDoc {
        let schema = response.content.values().find_map(schema_of);
        ResponseDoc {
            status: status.to_owned(),
            about: Prose::of(&response.description),
            kind: schema.map(|schema| schemas.kind(schema)),
            example: schema.filter(|_| status.starts_with('2')).map(|schema| schemas.example(schema)),
        }
    }
}

impl ErrorDoc {
    fn class(&self) -> &str {
        class(&self.status)
    }

    fn of(name: &str, response: &Response) -> ErrorDoc {
        let content = response.content.values().next();
        let example = match content {
            Some(RefOr::T(content)) => content.example.as_ref().map(ToString::to_string),
            _ => None,
        };
        let status = crate::api::openapi::status_of(name);
        ErrorDoc {
            status: status.map(|status| status.to_string()).unwrap_or_default(),
            name: name.to_owned(),
            about: Prose::of(&response.description),
            example: example.unwrap_or_default(),
        }
    }
}

impl SchemaDoc {
    fn of(name: &str, schemas: &SchemaIndex<'_>) -> SchemaDoc {
        let schema = &schemas.0[name];
        let fields = schemas.fields(schema);
        let kind = fields.is_empty().then(|| schemas.expanded(schema));
        SchemaDoc { name: name.to_owned(), about: Prose::of(schema_text::about(schema)), kind, fields }
    }
}
