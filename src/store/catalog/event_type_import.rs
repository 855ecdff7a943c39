//! Importing event types: the plan is shown first, then applied.

use crate::domain::catalog::event_type::{EventType, EventTypeSpec};
use crate::domain::{Invalid, Time};
use crate::store::{Order, PageRequest, Store, StoreError, Tenant};

/// Event types read per query.
const PAGE: usize = 250;

/// The treatment of existing event types.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImportOptions {
    /// Archive event types that the document does not have.
    pub replace_all: bool,
    /// Add a changed schema as a new version, instead of replacing the newest one.
    pub new_versions: bool,
}

/// The action of an import on an event type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportAction {
    Create,
    Update,
    Archive,
    Keep,
}

/// The change of one event type.
#[derive(Clone, Debug, PartialEq)]
pub struct ImportChange {
    pub action: ImportAction,
    /// The event type afterwards.
    pub spec: EventTypeSpec,
    /// The names of the changed fields.
    pub fields: Vec<&'static str>,
}

/// Plans the import of `specs`, which have one schema each, without changing anything. The inner `Err`: a change would
/// make an event type invalid.
///
/// # Errors
/// The store is unavailable.
pub async fn plan(
    store: &Store,
    tenant: &Tenant,
    specs: Vec<EventTypeSpec>,
    options: ImportOptions,
) -> Result<Result<Vec<ImportChange>, Vec<Invalid>>, StoreError> {
    let mut changes = Vec::with_capacity(specs.len());
    for spec in specs {
        let before = store.event_type(tenant, &spec.name).await?;
        changes.push(change(before, spec, options));
    }
    if options.replace_all {
        let mut page = PageRequest::first(PAGE, Order::Ascending);
        loop {
            let found = store.event_types(tenant, false, &page).await?;
            let kept = |one: &EventType| changes.iter().any(|change| change.spec.name == one.spec.name);
            let gone: Vec<EventTypeSpec> =
                found.data.iter().filter(|one| !kept(one)).map(|one| one.spec.clone()).collect();
            let last = found.data.last().map(|one| one.spec.name.clone());
            changes.extend(gone.into_iter().map(|spec| ImportChange {
                action: ImportAction::Archive,
                spec: EventTypeSpec { archived: true, ..spec },
                fields: Vec::new(),
            }));
            match last.filter(|_| found.more) {
                Some(last) => page.after = Some(last),
                None => break,
            }
        }
    }
    let wrong = |change: &ImportChange| {
        let name = &change.spec.name;
        let reason = |one: &Invalid| Invalid::new("spec", format!("webhook {name:?} is not valid: {one}"));
        change.spec.check().err().map(|wrong| wrong.iter().map(reason).collect::<Vec<_>>())
    };
    let wrong: Vec<Invalid> = changes.iter().filter_map(wrong).flatten().collect();
    Ok(if wrong.is_empty() { Ok(changes) } else { Err(wrong) })
}

fn change(before: Option<EventType>, spec: EventTypeSpec, options: ImportOptions) -> ImportChange {
    let Some(EventType { spec: before, .. }) = before else {
        return ImportChange { action: ImportAction::Create, spec, fields: Vec::new() };
    };
    let after = EventTypeSpec {
        schemas: merged(&before, &spec, options.new_versions),
        archived: false,
        validation: before.validation,
        ..spec
    };
    let changed = [
        ("description", before.description != after.description),
        ("deprecated", before.deprecated != after.deprecated),
        ("archived", before.archived),
        ("feature flags", before.feature_flags != after.feature_flags),
        ("group", before.group_name != after.group_name),
        ("schema", before.schemas != after.schemas),
    ];
    let fields: Vec<&'static str> = changed.iter().filter(|(_, differs)| *differs).map(|(name, _)| *name).collect();
    let action = if fields.is_empty() { ImportAction::Keep } else { ImportAction::Update };
    ImportChange { action, spec: after, fields }
}

/// The schemas after the import: other versions are kept.
fn merged(
    before: &EventTypeSpec,
    new: &EventTypeSpec,
    add: bool,
) -> Option<serde_json::Map<String, serde_json::Value>> {
    let schema = new.newest_schema();
    let (Some(schema), Some(known)) = (schema, &before.schemas) else {
        return new.schemas.clone().or_else(|| before.schemas.clone());
    };
    let mut schemas = known.clone();
    if before.newest_schema() == Some(schema) {
        return Some(schemas);
    }
    let newest = before.newest_version().unwrap_or("1").to_owned();
    let version = match newest.parse::<u64>() {
        Ok(number) if add => number.saturating_add(1).to_string(),
        _ => newest,
    };
    schemas.insert(version, schema.clone());
    Some(schemas)
}

/// Applies a plan. Each change is a transaction of its own: after an error, the import can be repeated.
///
/// # Errors
/// The store is unavailable.
pub async fn apply(store: &Store, tenant: &Tenant, changes: &[ImportChange], now: Time) -> Result<usize, StoreError> {
    let mut applied = 0;
    for change in changes.iter().filter(|change| change.action != ImportAction::Keep) {
        store.put_event_type(tenant, change.spec.clone(), now).await?;
        applied += 1;
    }
    Ok(applied)
}
