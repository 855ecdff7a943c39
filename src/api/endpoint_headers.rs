//! An endpoint's own headers over REST: what its owner wants on each request. A value that may be a secret goes in and never comes
//! out: reading gives the names of such headers ([`sensitive_header`]) and not what they say.

use std::collections::BTreeMap;

use actix_web::http::StatusCode;
use serde::Serialize;

use super::body::Body;
use super::call::{Call, json, nothing};
use super::errors::{Answer, ApiError};
use crate::domain::Invalid;
use crate::domain::endpoint::{HeaderChange, Headers, check_headers, sensitive_header};

/// An endpoint's headers, as they are given out.
#[derive(Serialize)]
struct HeadersOut<'a> {
    headers: BTreeMap<&'a str, &'a str>,
    /// The names of those whose values are kept back.
    sensitive: Vec<&'a str>,
}

pub(super) async fn read(call: Call) -> Answer {
    let app = call.app().await?;
    let endpoint = call.endpoint(app.id).await?;
    let all = endpoint.spec.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let (kept_back, shown): (Vec<_>, Vec<_>) = all.partition(|(name, _)| sensitive_header(name));
    let sensitive = kept_back.into_iter().map(|(name, _)| name).collect();
    json(StatusCode::OK, &HeadersOut { headers: shown.into_iter().collect(), sensitive })
}

/// These headers and no others.
pub(super) async fn put(call: Call, body: Body) -> Answer {
    let mut fields = body.fields()?;
    fields.require("headers");
    let headers: Headers = fields.take("headers", "an object of strings").set().unwrap_or_default();
    fields.done(check_headers(&headers))?;
    change(&call, HeaderChange::Replace(headers)).await
}

/// Sets some headers and takes others away: those that are `null`, and those that `deleteHeaders` names.
pub(super) async fn patch(call: Call, body: Body) -> Answer {
    let mut fields = body.fields()?;
    let delete = fields.list("deleteHeaders").set();
    if delete.is_none() {
        fields.require("headers");
    }
    let mut delete = delete.unwrap_or_default();
    let given = fields.take::<BTreeMap<String, Option<String>>>("headers", "an object of strings and nulls").set();
    let mut set = Headers::new();
    for (name, value) in given.unwrap_or_default() {
        match value {
            Some(_) if delete.iter().any(|other| other.eq_ignore_ascii_case(&name)) => {
                fields.note(Invalid::new("deleteHeaders", format!("header {name:?} is to be set as well")));
            }
            Some(value) => drop(set.insert(name, value)),
            None => delete.push(name),
        }
    }
    fields.done(check_headers(&set))?;
    change(&call, HeaderChange::Merge { set, delete }).await
}

async fn change(call: &Call, change: HeaderChange) -> Answer {
    let app = call.app().await?;
    let endpoint = call.endpoint(app.id).await?;
    match call.store().change_headers(&call.tenant, app.id, endpoint.id, &change, call.now).await? {
        true => nothing(),
        false => Err(ApiError::not_found("endpoint")),
    }
}
