//! Background tasks: starting replays, and reading their progress. The response comes once the task is stored; an
//! engine runs it (see `store/jobs/background.rs`).

use std::time::Duration;

use actix_web::http::StatusCode;
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use crate::api::http::body::{Fields, JsonBody};
use crate::api::http::errors::{ApiError, ApiResult};
use crate::api::http::idempotency::{KeyLookup, idempotent};
use crate::api::http::query::ListOut;
use crate::api::http::request::{ApiCall, json, require};
use crate::api::openapi::schemas;
use crate::api::openapi::schemas::{OrderParams, PageParams};
use crate::api::resources::endpoint::endpoint_message::standing;
use crate::api::resources::endpoint::require_enabled;
use crate::domain::deliveries::attempt::STATUS_CLASSES;
use crate::domain::deliveries::background::{TaskKind, TaskScope, TaskStage};
use crate::domain::deliveries::delivery::DeliveryStatus;
use crate::domain::{AppId, BackgroundId, EndpointId, Invalid, Time, TimeRange, ids, limits};
use crate::store::Order;
use crate::store::jobs::background::{Background, BackgroundSpec, StartResult, TaskSelection};
use crate::store::query::endpoint_messages::EndpointMessageFilter;
use crate::store::query::topic_filter::TopicFilter;

/// The maximum age of messages that a recovery covers.
const RECOVER_LIMIT: Duration = Duration::from_secs(14 * 86_400);
/// Kinds of tasks that only Svix has: valid filters that match nothing here.
const FOREIGN_KINDS: [&str; 5] =
    ["application.stats", "message.broadcast", "sdk.generate", "event-type.aggregate", "application.purge_content"];

/// A background task.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = BackgroundTaskOut)]
pub(in crate::api) struct TaskOut<'a> {
    id: BackgroundId,
    #[schema(value_type = BackgroundStatus)]
    status: &'static str,
    #[schema(value_type = BackgroundKind)]
    task: &'static str,
    data: DataOut<'a>,
    updated_at: Time,
}

/// The task's scope and progress.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = BackgroundTaskData)]
struct DataOut<'a> {
    /// `null` if the task covers all applications.
    app_id: Option<AppId>,
    /// `null` if the task covers all endpoints.
    endpoint_id: Option<EndpointId>,
    since: Time,
    until: Time,
    /// The messages scanned so far, and those of them queued.
    looked: i64,
    sent: i64,
    /// Why the task failed; `canceled` if it was canceled.
    reason: Option<&'a str>,
    created_at: Time,
}

impl<'a> From<&'a Background> for TaskOut<'a> {
    fn from(work: &'a Background) -> TaskOut<'a> {
        let accepted = work.spec.selection.accepted();
        TaskOut {
            id: work.id,
            status: status(work.stage),
            task: work.spec.kind.word(),
            data: DataOut {
                app_id: work.spec.scope.app(),
                endpoint_id: work.spec.scope.endpoint(),
                since: accepted.since,
                until: accepted.until,
                looked: work.looked,
                sent: work.sent,
                reason: work.reason.as_deref(),
                created_at: work.created_at,
            },
            updated_at: work.updated_at,
        }
    }
}

/// Svix's word for a stage. It has none for canceled tasks, and clients reject unknown words: they are reported as
/// failed, with the reason `canceled`.
const fn status(stage: TaskStage) -> &'static str {
    match stage {
        TaskStage::Canceled => TaskStage::Failed.word(),
        stage => stage.word(),
    }
}

/// The stages that a status word of Svix covers.
fn stages(word: &str) -> Option<&'static [TaskStage]> {
    [&[TaskStage::Running][..], &[TaskStage::Finished], &[TaskStage::Failed, TaskStage::Canceled]]
        .into_iter()
        .find(|stages| stages.iter().any(|stage| stage.word() == word) && word != TaskStage::Canceled.word())
}

/// The status of a background task.
#[derive(ToSchema)]
#[schema(as = BackgroundTaskStatus, rename_all = "lowercase")]
#[expect(dead_code, reason = "for the document alone: `TaskStage` has the words")]
enum BackgroundStatus {
    Running,
    Finished,
    Failed,
}

/// The kind of a background task: resend failed deliveries, send messages without a delivery, resend filtered
/// deliveries, or resend messages that a receiver is missing.
#[derive(ToSchema)]
#[schema(as = BackgroundTaskType)]
#[expect(dead_code, reason = "for the document alone: `TaskKind` has the words")]
enum BackgroundKind {
    #[schema(rename = "endpoint.recover")]
    Recover,
    #[schema(rename = "endpoint.replay")]
    Replay,
    #[schema(rename = "endpoint.bulk-replay")]
    BulkReplay,
    #[schema(rename = "endpoint.reconcile")]
    Reconcile,
}

/// The period to replay.
#[derive(ToSchema)]
#[schema(example = json!({"since": "2026-11-21T00:00:00Z"}))]
#[expect(dead_code, reason = "for the document alone: `times` reads it")]
struct ReplayIn {
    since: Time,
    /// The end of the period; now by default.
    until: Option<Time>,
}

/// The period to recover, at most 14 days back.
#[derive(ToSchema)]
#[schema(example = json!({"since": "2026-11-21T00:00:00Z"}))]
#[expect(dead_code, reason = "for the document alone: `times` reads it")]
struct RecoverIn {
    since: Time,
    /// The end of the period; now by default.
    until: Option<Time>,
}

/// The period to replay, and filters.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase", example = json!({"since": "2026-11-21T00:00:00Z", "eventTypes": ["invoice.paid"]}))]
#[expect(dead_code, reason = "for the document alone: `replay` reads it")]
struct BulkReplayIn {
    since: Time,
    /// The end of the period; now by default.
    until: Option<Time>,
    #[schema(value_type = Option<schemas::EventTypeNames>)]
    event_types: Option<Vec<String>>,
    #[schema(value_type = Option<schemas::Channel>)]
    channel: Option<String>,
    #[schema(value_type = Option<schemas::Tag>)]
    tag: Option<String>,
    /// The status of the delivery; by default success and fail.
    #[schema(value_type = Option<schemas::ReplayStatus>)]
    status: Option<u8>,
    /// The class of the last response status.
    #[schema(value_type = Option<schemas::StatusCodeClass>)]
    status_code_class: Option<u16>,
}

/// Recover an endpoint
///
/// Resends all messages of the period whose delivery to the endpoint failed. Runs in the background, with the usual
/// retries.
#[utoipa::path(
    post, path = "/app/{app_id}/endpoint/{endpoint_id}/recover", request_body = RecoverIn,
    responses((status = 202, body = TaskOut))
)]
pub(in crate::api) async fn recover(call: ApiCall, body: JsonBody) -> ApiResult {
    let read = |fields: &mut Fields<'_>, filter: EndpointMessageFilter, now: Time| {
        if now.since(filter.accepted.since) > RECOVER_LIMIT {
            let days = RECOVER_LIMIT.as_secs() / 86_400;
            fields.note(Invalid::new("since", format!("must be at most {days} days ago")));
        }
        EndpointMessageFilter { standings: vec![DeliveryStatus::Dead], ..filter }
    };
    start(call, body, TaskKind::Recover, read).await
}

/// Replay missing messages
///
/// Sends the messages of the period that match the endpoint's filters but have no delivery to it, because the endpoint
/// did not exist yet or was disabled. Runs in the background.
#[utoipa::path(
    post, path = "/app/{app_id}/endpoint/{endpoint_id}/replay-missing", request_body = ReplayIn,
    responses((status = 202, body = TaskOut))
)]
pub(in crate::api) async fn replay_missing(call: ApiCall, body: JsonBody) -> ApiResult {
    start(call, body, TaskKind::ReplayMissing, |_, filter, _| filter).await
}

/// Replay deliveries
///
/// Resends the endpoint's deliveries that match the filter. Pending deliveries are skipped unless `status` selects
/// them; then they are sent at once. Runs in the background.
#[utoipa::path(
    post, path = "/app/{app_id}/endpoint/{endpoint_id}/bulk-replay", request_body = BulkReplayIn,
    responses((status = 202, body = TaskOut))
)]
pub(in crate::api) async fn bulk_replay(call: ApiCall, body: JsonBody) -> ApiResult {
    start(call, body, TaskKind::BulkReplay, |fields, filter, _| read_filter(fields, filter)).await
}

fn read_filter(fields: &mut Fields<'_>, filter: EndpointMessageFilter) -> EndpointMessageFilter {
    let event_types = fields.names("eventTypes", limits::EVENT_TYPES).set();
    if event_types.as_ref().is_some_and(Vec::is_empty) {
        fields.note(Invalid::new("eventTypes", "must not be empty: leave it out, or set it to null, for all"));
    }
    let named = event_types.as_deref().unwrap_or_default();
    ids::names("eventTypes", named, limits::EVENT_TYPES, limits::NAME).into_iter().for_each(|wrong| fields.note(wrong));
    let mut checked = |name: &'static str, rule: fn(&str, &str) -> Result<(), Invalid>| {
        fields.parsed(name, |text| rule(name, text).map(|()| text.to_owned())).set()
    };
    let (channel, tag) = (checked("channel", ids::channel), checked("tag", ids::tag));
    let standings = match fields.take::<i32>("status", "a number").set() {
        None => vec![DeliveryStatus::Delivered, DeliveryStatus::Dead],
        Some(status) => {
            let found = standing(status).filter(|_| status != 3);
            if found.is_none() {
                fields.note(Invalid::new("status", "must be 0, 1, 2 or 4"));
            }
            found.into_iter().collect()
        }
    };
    let status_class = fields.take::<i32>("statusCodeClass", "a number").set();
    if status_class.is_some_and(|class| !STATUS_CLASSES.contains(&class)) {
        let known = STATUS_CLASSES.map(|class| class.to_string()).join(", ");
        fields.note(Invalid::new("statusCodeClass", format!("must be one of {known}")));
    }
    let topics = TopicFilter { event_types: event_types.unwrap_or_default(), channel, tag };
    EndpointMessageFilter { topics, standings, status_class, ..filter }
}

/// Starts a background task for the endpoint in the path. `read` reads the fields beyond the period.
async fn start(
    call: ApiCall,
    body: JsonBody,
    kind: TaskKind,
    read: impl Fn(&mut Fields<'_>, EndpointMessageFilter, Time) -> EndpointMessageFilter,
) -> ApiResult {
    let act = async |call: &ApiCall| {
        let endpoint = call.endpoint().await?;
        let mut fields = body.fields()?;
        let accepted = read_period(&mut fields, call.now);
        let filter =
            read(&mut fields, EndpointMessageFilter { accepted, ..EndpointMessageFilter::default() }, call.now);
        fields.done(Ok(()))?;
        require_enabled(&endpoint)?;
        let scope = TaskScope::Endpoint(endpoint.app_id, endpoint.id);
        let spec = BackgroundSpec {
            kind,
            scope,
            selection: TaskSelection::Messages(filter),
            by: "the REST API".to_owned(),
            total: None,
        };
        task_response(call.store().start_background(&call.tenant, spec, call.now).await?)
    };
    idempotent(call, body.bytes(), KeyLookup::Eager, act, again).await
}

/// Reads `since` and `until`. `until` defaults to now and is never later: future messages are delivered anyway.
pub(in crate::api) fn read_period(fields: &mut Fields<'_>, now: Time) -> TimeRange {
    fields.require("since");
    let mut time = |name: &'static str| {
        fields.parsed(name, |text| Time::parse(text).map_err(|error| Invalid::new(name, error.to_string()))).set()
    };
    let (since, until) = (time("since"), time("until"));
    let end = until.unwrap_or(now).min(now);
    if since.is_some_and(|since| since >= end) {
        fields.note(Invalid::new("since", "must be in the past, and before until"));
    }
    TimeRange { since: since.unwrap_or(now), until: end }
}

/// The response to a repeated request.
pub(in crate::api) async fn again(call: &ApiCall, made: &str) -> ApiResult {
    json(StatusCode::ACCEPTED, &TaskOut::from(&find(call, made).await?))
}

async fn find(call: &ApiCall, id: &str) -> Result<Background, ApiError> {
    let id: BackgroundId = id.parse().map_err(|_| ApiError::not_found("background task"))?;
    require(call.store().background(&call.tenant, id).await?, "background task")
}

/// The response to a started task.
pub(in crate::api) fn task_response(begun: StartResult) -> ApiResult {
    match begun {
        StartResult::Started(work) => json(StatusCode::ACCEPTED, &TaskOut::from(&*work)),
        StartResult::NotFound => Err(ApiError::not_found("endpoint")),
        StartResult::TooMany(running) => {
            let reason = format!("the application has {running} background tasks running: wait until one ends");
            Err(ApiError::conflict(reason))
        }
    }
}

/// Retrieve a background task
///
/// Retrieves a background task and its progress.
#[utoipa::path(get, path = "/background-task/{task_id}", responses((status = 200, body = TaskOut)))]
pub(in crate::api) async fn read_one(call: ApiCall) -> ApiResult {
    json(StatusCode::OK, &TaskOut::from(&find(&call, call.path_param("id")).await?))
}

/// The filters of the list.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "for the document alone: `list` reads it")]
struct TaskParams {
    #[param(inline)]
    status: Option<BackgroundStatus>,
    /// Only tasks of this kind. Kinds that only Svix has are accepted and match none.
    task: Option<String>,
}

/// List background tasks
///
/// Lists background tasks, newest first by default. An application token sees only its own.
#[utoipa::path(
    get, path = "/background-task", params(PageParams, OrderParams, TaskParams),
    responses((status = 200, body = ListOut<TaskOut>))
)]
pub(in crate::api) async fn list(call: ApiCall) -> ApiResult {
    let (query, request) = call.list_query::<BackgroundId>(Order::Descending, true)?;
    let stages = match query.one("status")?.map(stages) {
        Some(None) => return Err(ApiError::query("status", "must be running, finished or failed")),
        known => known.flatten().unwrap_or_default(),
    };
    let kind = match query.text("task")?.map(|word| (word, TaskKind::from_word(word))) {
        Some((word, None)) if FOREIGN_KINDS.contains(&word) => {
            let nothing = crate::store::Page::<Background> { data: Vec::new(), more: false };
            return json(StatusCode::OK, &ListOut::of(&nothing, &request, |work| work.id, TaskOut::from)?);
        }
        Some((_, None)) => return Err(ApiError::query("task", "is not a kind of background task")),
        known => known.and_then(|(_, kind)| kind),
    };
    let page = call.store().backgrounds(&call.tenant, stages, kind, &request).await?;
    json(StatusCode::OK, &ListOut::of(&page, &request, |work| work.id, TaskOut::from)?)
}
