//! Counts over REST: how an endpoint's deliveries stand, and how many attempts were made.

use std::time::Duration;

use actix_web::http::StatusCode;
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use crate::api::http::errors::{Answer, ApiError};
use crate::api::http::request::{Call, json};
use crate::domain::{AppId, EndpointId, Time};
use crate::store::query::endpoint_messages::Standings;

/// What is counted if nothing is said: so long until now.
const USUAL: Duration = Duration::from_secs(28 * 86_400);
/// Over how long attempts are counted at most.
const LONGEST: Duration = Duration::from_secs(100 * 86_400);

/// How the deliveries of an endpoint stand. What is in flight counts as pending.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = EndpointStats)]
struct StandingsOut {
    success: i64,
    pending: i64,
    sending: i64,
    fail: i64,
    canceled: i64,
    /// Until when the endpoint rests: it cannot be reached (or asked for a pause), nothing is sent before then, and
    /// then one attempt. In the past: that attempt is being made. Absent: it does not rest.
    #[serde(skip_serializing_if = "Option::is_none")]
    rests_until: Option<Time>,
}

/// How many attempts were made; one that was made is never canceled.
#[derive(Serialize, ToSchema)]
#[schema(as = AttemptStats)]
struct AttemptsOut {
    success: i64,
    fail: i64,
    canceled: i64,
}

/// Of which time.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "for the document alone: `range` reads it")]
struct Range {
    /// From this time on; 28 days before `until` if nothing is said.
    #[param(value_type = Option<Time>)]
    since: Option<Time>,
    /// Up to this time; now if nothing is said.
    #[param(value_type = Option<Time>)]
    until: Option<Time>,
}

/// The time that is asked about: from `since` up to `until`.
fn range(call: &Call) -> Result<(Time, Time), ApiError> {
    let query = call.query();
    let until = query.time("until")?.unwrap_or(call.now);
    let since = query.time("since")?.unwrap_or(until.minus(USUAL));
    if since >= until {
        return Err(ApiError::query("since", "must be before until, which is now if nothing is said"));
    }
    Ok((since, until))
}

/// Count an endpoint's deliveries
///
/// How those of the messages stand that were accepted in this time: at most a million of them.
#[utoipa::path(
    get, path = "/app/{app_id}/endpoint/{endpoint_id}/stats", params(Range),
    responses((status = 200, description = "How they stand.", body = StandingsOut))
)]
pub(in crate::api) async fn of_endpoint(call: Call) -> Answer {
    let (since, until) = range(&call)?;
    let app = call.app().await?;
    let endpoint = call.endpoint(app.id).await?;
    let found = call.store().standings(&call.tenant, app.id, endpoint.id, since, until).await?;
    if let Some(from) = found.cut_off {
        let most = Standings::MOST;
        let reason =
            format!("there are more than {most} deliveries since then: ask for those since {from}, or for less");
        return Err(ApiError::query("since", reason));
    }
    let line = call.store().endpoint_line(&call.tenant, app.id, endpoint.id).await?;
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
/// Those that were made in this time, at most 100 days long. Counted by whole minutes, earlier than an hour or two ago
/// by whole hours, earlier than seven days ago by whole days: what is counted together with `since` counts.
#[utoipa::path(
    get, path = "/app/{app_id}/endpoint/{endpoint_id}/attempt-stats", params(Range),
    responses((status = 200, description = "How many there were.", body = AttemptsOut))
)]
pub(in crate::api) async fn attempts_of_endpoint(call: Call) -> Answer {
    let app = call.app().await?;
    let endpoint = call.endpoint(app.id).await?;
    attempts(&call, app.id, Some(endpoint.id)).await
}

/// Count an application's attempts
///
/// Those that were made in this time, at most 100 days long, at all of its endpoints together. Counted by whole
/// minutes, earlier than an hour or two ago by whole hours, earlier than seven days ago by whole days: what is counted
/// together with `since` counts.
#[utoipa::path(
    get, path = "/app/{app_id}/stats/attempts", params(Range),
    responses((status = 200, description = "How many there were.", body = AttemptsOut))
)]
pub(in crate::api) async fn attempts_of_application(call: Call) -> Answer {
    let app = call.app().await?;
    attempts(&call, app.id, None).await
}

async fn attempts(call: &Call, app: AppId, endpoint: Option<EndpointId>) -> Answer {
    let (since, until) = range(call)?;
    if until.since(since) > LONGEST {
        let days = LONGEST.as_secs() / 86_400;
        return Err(ApiError::query("since", format!("must be at most {days} days before until")));
    }
    let found = call.store().attempt_counts(&call.tenant, app, endpoint, since, until).await?;
    json(StatusCode::OK, &AttemptsOut { success: found.delivered, fail: found.failed, canceled: 0 })
}
