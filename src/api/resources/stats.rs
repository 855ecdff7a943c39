//! Statistics: the deliveries of an endpoint by status, and the attempts in a period.

use std::time::Duration;

use actix_web::http::StatusCode;
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use crate::api::http::errors::{ApiError, ApiResult};
use crate::api::http::request::{ApiCall, json};
use crate::domain::{AppId, EndpointId, Time};
use crate::store::query::endpoint_messages::DeliveryStatusCounts;

/// The default period, ending now.
const DEFAULT_PERIOD: Duration = Duration::from_secs(28 * 86_400);
/// The longest period of attempt statistics.
const PERIOD_LIMIT: Duration = Duration::from_secs(100 * 86_400);

/// The deliveries of an endpoint by status. Deliveries in flight count as pending.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = EndpointStats)]
struct StandingsOut {
    success: i64,
    pending: i64,
    sending: i64,
    fail: i64,
    canceled: i64,
    /// The endpoint is unreachable or asked for a pause: one attempt is made after this time, and nothing is sent
    /// before. Absent if it is not paused. A time in the past means that the attempt is in progress.
    #[serde(skip_serializing_if = "Option::is_none")]
    rests_until: Option<Time>,
}

/// The number of attempts. An attempt is never canceled.
#[derive(Serialize, ToSchema)]
#[schema(as = AttemptStats)]
struct AttemptsOut {
    success: i64,
    fail: i64,
    canceled: i64,
}

/// The period.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "for the document alone: `read_period` reads it")]
struct StatsParams {
    /// The start of the period; 28 days before `until` by default.
    #[param(value_type = Option<Time>)]
    since: Option<Time>,
    /// The end of the period; now by default.
    #[param(value_type = Option<Time>)]
    until: Option<Time>,
}

/// The requested period.
fn read_period(call: &ApiCall) -> Result<(Time, Time), ApiError> {
    let query = call.query();
    let until = query.time("until")?.unwrap_or(call.now);
    let since = query.time("since")?.unwrap_or(until.minus(DEFAULT_PERIOD));
    if since >= until {
        return Err(ApiError::query("since", "must be before until, which is now by default"));
    }
    Ok((since, until))
}

/// Count an endpoint's deliveries
///
/// Counts an endpoint's deliveries by status, for messages accepted in the period. Counts at most a
/// million deliveries.
#[utoipa::path(
    get, path = "/app/{app_id}/endpoint/{endpoint_id}/stats", params(StatsParams),
    responses((status = 200, body = StandingsOut))
)]
pub(in crate::api) async fn of_endpoint(call: ApiCall) -> ApiResult {
    let (since, until) = read_period(&call)?;
    let endpoint = call.endpoint().await?;
    let found = call.store().delivery_status_counts(&call.tenant, endpoint.app_id, endpoint.id, since, until).await?;
    if let Some(from) = found.cut_off {
        let most = DeliveryStatusCounts::MOST;
        let reason = format!("there are more than {most} deliveries in this period: use {from} or later");
        return Err(ApiError::query("since", reason));
    }
    let line = call.store().listed_endpoint(&call.tenant, endpoint.app_id, endpoint.id).await?;
    let resting = line.filter(|line| line.rest(call.now).is_some());
    let out = StandingsOut {
        success: found.delivered,
        pending: found.pending,
        sending: 0,
        fail: found.dead,
        canceled: found.canceled,
        rests_until: resting.and_then(|line| line.rests_until),
    };
    json(StatusCode::OK, &out)
}

/// Count an endpoint's attempts
///
/// Counts the attempts made to an endpoint in the period, at most 100 days. Counts are kept per
/// minute; per hour when older than an hour or two; per day when older than seven days. The unit that contains `since`
/// is counted as a whole.
#[utoipa::path(
    get, path = "/app/{app_id}/endpoint/{endpoint_id}/attempt-stats", params(StatsParams),
    responses((status = 200, body = AttemptsOut))
)]
pub(in crate::api) async fn attempts_of_endpoint(call: ApiCall) -> ApiResult {
    let endpoint = call.endpoint().await?;
    attempts(&call, endpoint.app_id, Some(endpoint.id)).await
}

/// Count an application's attempts
///
/// Counts the attempts made to all endpoints of an application in the period, at most 100 days.
/// Counts are kept per minute; per hour when older than an hour or two; per day when older than seven days.
/// The unit that contains `since` is counted as a whole.
#[utoipa::path(
    get, path = "/app/{app_id}/stats/attempts", params(StatsParams), responses((status = 200, body = AttemptsOut))
)]
pub(in crate::api) async fn attempts_of_application(call: ApiCall) -> ApiResult {
    let app = call.app().await?;
    attempts(&call, app.id, None).await
}

async fn attempts(call: &ApiCall, app: AppId, endpoint: Option<EndpointId>) -> ApiResult {
    let (since, until) = read_period(call)?;
    if until.since(since) > PERIOD_LIMIT {
        let days = PERIOD_LIMIT.as_secs() / 86_400;
        return Err(ApiError::query("since", format!("must be at most {days} days before until")));
    }
    let found = call.store().attempt_counts(&call.tenant, app, endpoint, since, until).await?;
    json(StatusCode::OK, &AttemptsOut { success: found.delivered, fail: found.failed, canceled: 0 })
}
