//! Importing event types from an OpenAPI document.

use actix_web::http::StatusCode;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::api::http::body::JsonBody;
use crate::api::http::errors::{ApiError, ApiResult};
use crate::api::http::idempotency::{KeyLookup, idempotent};
use crate::api::http::request::{ApiCall, json};
use crate::api::openapi::schemas;
use crate::api::resources::event_type::EventTypeOut;
use crate::domain::Invalid;
use crate::domain::catalog::event_type::EventType;
use crate::domain::catalog::openapi_import::{self, DOCUMENT_BYTES};
use crate::store::Store;
use crate::store::catalog::event_type_import::{self, ImportAction, ImportOptions};

/// A document to import.
#[derive(ToSchema)]
#[schema(
    as = EventTypeImportOpenApiIn, rename_all = "camelCase",
    example = json!({"dryRun": true, "spec": {"openapi": "3.1.0", "webhooks": {"invoice.paid": {"post": {}}}}})
)]
#[expect(dead_code, reason = "for the document alone: `import` reads it")]
pub(in crate::api) struct ImportIn {
    /// The OpenAPI 3.1 document. Each entry of its `webhooks` becomes an event type.
    #[schema(value_type = Option<schemas::OpenApiDocument>)]
    spec: Option<Value>,
    /// The document as text, JSON or YAML, instead of `spec`.
    #[schema(value_type = Option<schemas::OpenApiText>)]
    spec_raw: Option<String>,
    /// Returns the changes without making them.
    dry_run: Option<bool>,
    /// Archives event types that the document does not have.
    replace_all: Option<bool>,
    /// Adds a changed schema as a new version, instead of replacing the newest one.
    new_versions: Option<bool>,
}

/// The result of an import.
#[derive(Serialize, ToSchema)]
#[schema(as = EventTypeImportOpenApiOut)]
struct ImportOut<'a> {
    data: ImportedOut<'a>,
}

/// The changed event types.
#[derive(Serialize, ToSchema)]
#[schema(as = EventTypeImportOpenApiOutData)]
struct ImportedOut<'a> {
    /// The names of created, changed and archived event types; empty for a dry run.
    modified: Vec<&'a str>,
    /// The event types after the import; only for a dry run.
    to_modify: Vec<EventTypeOut<'a>>,
}

/// Import event types
///
/// Creates or updates event types from the `webhooks` of an OpenAPI 3.1 document. With `dryRun`, only returns the
/// changes.
#[utoipa::path(
    post, path = "/event-type/import/openapi", request_body = ImportIn, responses((status = 200, body = ImportOut))
)]
pub(in crate::api) async fn import(call: ApiCall, body: JsonBody) -> ApiResult {
    call.require_organization()?;
    // Not bound to the idempotency key: an import writes several event types, and repeating it has no effect.
    let store = call.store().clone();
    let act = async |call: &ApiCall| import_into(&store, call, &body).await;
    let again = async |call: &ApiCall, _: &str| import_into(&store, call, &body).await;
    idempotent(call, body.bytes(), KeyLookup::OnConflict, act, again).await
}

async fn import_into(store: &Store, call: &ApiCall, body: &JsonBody) -> ApiResult {
    let mut fields = body.fields()?;
    let document: Option<Value> = fields.take("spec", "an OpenAPI document, as an object").set();
    let raw = fields.text("specRaw").set();
    let (mut dry, mut options) = (false, ImportOptions::default());
    fields.flag("dryRun").apply_or_default(&mut dry);
    fields.flag("replaceAll").apply_or_default(&mut options.replace_all);
    fields.flag("newVersions").apply_or_default(&mut options.new_versions);
    let specs = match (&document, &raw) {
        (Some(_), None) if body.bytes().len() > DOCUMENT_BYTES => {
            Err(vec![Invalid::new("spec", format!("may have at most {DOCUMENT_BYTES} bytes"))])
        }
        (Some(document), None) => openapi_import::event_types(document),
        (None, Some(raw)) => openapi_import::parse(raw)
            .map_err(|wrong| wrong.into_iter().map(|one| Invalid { field: "specRaw".to_owned(), ..one }).collect()),
        _ => Err(vec![Invalid::new("spec", "must be given, either as an object or as text in specRaw")]),
    };
    fields.done(specs.as_ref().map(|_| ()).map_err(Clone::clone))?;
    let planned = event_type_import::plan(store, &call.tenant, specs.unwrap_or_default(), options).await?;
    let changes = planned.map_err(ApiError::from)?;
    let changed = || changes.iter().filter(|change| change.action != ImportAction::Keep);
    if !dry {
        event_type_import::apply(store, &call.tenant, &changes, call.now).await?;
        let modified = changed().map(|change| change.spec.name.as_str()).collect();
        return json(StatusCode::OK, &ImportOut { data: ImportedOut { modified, to_modify: Vec::new() } });
    }
    let after: Vec<EventType> = changed()
        .map(|change| EventType {
            org: call.tenant.org.clone(),
            spec: change.spec.clone(),
            created_at: call.now,
            updated_at: call.now,
        })
        .collect();
    let to_modify = after.iter().map(EventTypeOut::from).collect();
    json(StatusCode::OK, &ImportOut { data: ImportedOut { modified: Vec::new(), to_modify } })
}
