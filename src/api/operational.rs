//! Operational endpoints over REST: where an organization is told of what happens to its endpoints and messages.
//!
//! They are endpoints of the organization's operational application, which has no name in any path: [`Call::app`] stands for it here.
//! So [`endpoint`] and its neighbours answer for these paths too; what is here is what they cannot know, that there may be no such
//! application yet. Only a token of the organization may do any of it.

use actix_web::http::StatusCode;

use super::body::Body;
use super::call::{Call, json};
use super::endpoint;
use super::errors::Answer;
use super::query::ListOut;
use crate::domain::EndpointId;
use crate::domain::endpoint::Endpoint;
use crate::store::{EndpointRef, Order, Page};

pub(super) async fn list(call: Call) -> Answer {
    call.for_the_organization()?;
    if call.store().operational_application(&call.tenant).await?.is_some() {
        return endpoint::list(call).await;
    }
    let request = call.query().page::<EndpointId>(Order::Ascending, true)?;
    let nothing: Page<Endpoint> = Page { data: Vec::new(), more: false };
    json(StatusCode::OK, &ListOut::of(&nothing, &request, |endpoint| endpoint.id, |endpoint| endpoint.id))
}

pub(super) async fn create(call: Call, body: Body) -> Answer {
    call.for_the_organization()?;
    call.store().make_operational_application(&call.tenant, call.now).await?;
    endpoint::create(call, body).await
}

/// Replaces; makes a new one where the path has a uid that there is not.
pub(super) async fn put(call: Call, body: Body) -> Answer {
    call.for_the_organization()?;
    if matches!(EndpointRef::parse(call.part("endpoint")), Ok(EndpointRef::Uid(_))) {
        call.store().make_operational_application(&call.tenant, call.now).await?;
    }
    endpoint::put(call, body).await
}
