//! An endpoint's own headers over REST: what its owner wants on each request. The values of those that look like credentials go in and
//! never come out: `sensitive` names them.

use std::collections::BTreeMap;

use actix_web::http::StatusCode;
use serde::Serialize;

use super::body::Body;
use super::call::{Call, json, nothing};
use super::errors::{Answer, ApiError};
use crate::domain::endpoint::EndpointSpec;

/// What the name of a header contains, in any case, whose value is kept back.
const SENSITIVE: [&str; 9] =
    ["auth", "cookie", "credential", "key", "passwd", "password", "secret", "session", "token"];

/// An endpoint's headers, as they are given out.
#[derive(Serialize)]
struct HeadersOut<'a> {
    headers: BTreeMap<&'a str, &'a str>,
    /// The names of those whose values are kept back.
    sensitive: Vec<&'a str>,
}

fn sensitive(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SENSITIVE.iter().any(|part| name.contains(part))
}

pub(super) async fn read(call: Call) -> Answer {
    let app = call.app().await?;
    let endpoint = call.endpoint(app.id).await?;
    let all = endpoint.spec.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let (kept_back, shown): (Vec<_>, Vec<_>) = all.partition(|(name, _)| sensitive(name));
    let sensitive = kept_back.into_iter().map(|(name, _)| name).collect();
    json(StatusCode::OK, &HeadersOut { headers: shown.into_iter().collect(), sensitive })
}

/// These headers and no others.
pub(super) async fn put(call: Call, body: Body) -> Answer {
    let app = call.app().await?;
    let endpoint = call.endpoint(app.id).await?;
    let mut fields = body.fields()?;
    fields.require("headers");
    let headers = fields.take("headers", "an object of strings").set().unwrap_or_default();
    let spec = EndpointSpec { headers, ..endpoint.spec };
    fields.done(spec.check())?;
    match call.store().update_endpoint(&call.tenant, app.id, endpoint.id, spec, call.now).await? {
        Some(_) => nothing(),
        None => Err(ApiError::not_found("endpoint")),
    }
}
