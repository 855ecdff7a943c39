//! A call: a request whose token was good. Every handler but the probes' begins with one, before the body is read.

use std::future::{Ready, ready};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::{StatusCode, header};
use actix_web::web::Data;
use actix_web::{FromRequest, HttpRequest, HttpResponse};
use futures_util::future::{Either, LocalBoxFuture};
use serde::Serialize;
use url::Url;

use super::ApiState;
use super::callers::{Caller, Callers, Denied};
use super::errors::{Answer, ApiError};
use super::query::Query;
use super::rights::{Right, Rights};
use crate::domain::application::Application;
use crate::domain::endpoint::Endpoint;
use crate::domain::message::Message;
use crate::domain::secret::SignatureType;
use crate::domain::time::Clock;
use crate::domain::{AppId, Time};
use crate::egress::Egress;
use crate::store::catalog::change::Changed;
use crate::store::ingest::idempotency::Once;
use crate::store::{AppRef, EndpointRef, MessageRef, Store, Tenant};

/// Who calls, when, and what the path names.
pub(super) struct Call {
    pub tenant: Tenant,
    pub now: Time,
    /// On behalf of the caller.
    store: Store,
    plain: Store,
    pub caller: Arc<Caller>,
    state: Data<ApiState>,
    request: HttpRequest,
}

impl FromRequest for Call {
    type Error = ApiError;
    /// At once for a caller who is known, which is nearly always.
    type Future = Either<Ready<Result<Call, ApiError>>, LocalBoxFuture<'static, Result<Call, ApiError>>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let Some(state) = request.app_data::<Data<ApiState>>().cloned() else {
            return Either::Left(ready(Err(ApiError::internal(&"the API was mounted without its state"))));
        };
        let Some(shown) = shown(request) else {
            let unauthorized = || {
                ApiError::unauthorized(
                    "show a token in the header Authorization: Bearer TOKEN (see `sendoff token` and `sendoff key`)",
                )
            };
            let limited = state.callers.stranger(from(request, &state));
            return Either::Left(ready(Err(limited.err().map_or_else(unauthorized, ApiError::from))));
        };
        // Whoever made a token went by the wall clock.
        let (now, wall) = (state.clock.now(), state.clock.wall());
        match state.callers.at_once(shown, || from(request, &state), wall) {
            Some(found) => Either::Left(ready(
                found.map_err(ApiError::from).and_then(|caller| Call::of(caller, now, state, request.clone())),
            )),
            None => {
                let (shown, from, request) = (shown.to_owned(), from(request, &state), request.clone());
                Either::Right(Box::pin(async move {
                    let caller = state.callers.find(&shown, from, wall).await?;
                    Call::of(caller, now, state, request)
                }))
            }
        }
    }
}

/// What the request shows: the token in `Authorization: Bearer TOKEN`.
fn shown(request: &HttpRequest) -> Option<&str> {
    let value = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
    let (kind, token) = value.split_once(' ')?;
    kind.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Where a request comes from.
fn from(request: &HttpRequest, state: &ApiState) -> Option<IpAddr> {
    let forwarded = request.headers().get_all(header::X_FORWARDED_FOR).map(|value| value.as_bytes());
    // The iterator of headers goes one way.
    let forwarded: Vec<&[u8]> = forwarded.collect();
    let peer = request.peer_addr()?.ip();
    Some(state.callers.traffic().proxies.caller(peer, forwarded.into_iter()))
}

/// A request that needs no token is taken out of its address's bucket.
///
/// # Errors
/// Too many came from there.
pub(super) fn without_token(request: &HttpRequest, state: &ApiState) -> Result<(), ApiError> {
    Ok(state.callers.stranger(from(request, state))?)
}

impl Call {
    /// The wall clock, now: for what is checked by others' clocks.
    pub fn wall(&self) -> Time {
        self.state.clock.wall()
    }

    /// Whether the caller could make the call still. While the store is away nobody knows, and it counts as so.
    pub async fn is_still_good(&self) -> bool {
        let Some(shown) = shown(&self.request) else { return false };
        let wall = self.wall();
        let from = || from(&self.request, &self.state);
        let found = match self.callers().at_once(shown, from, wall) {
            Some(found) => found,
            None => self.callers().find(shown, from(), wall).await,
        };
        matches!(found, Ok(_) | Err(Denied::Store(_) | Denied::Limited(_)))
    }

    /// A call by somebody who may make it.
    fn of(caller: Arc<Caller>, now: Time, state: Data<ApiState>, request: HttpRequest) -> Result<Call, ApiError> {
        // What has every right needs no look at the path.
        if caller.rights != Rights::All {
            let path = request.match_pattern().unwrap_or_default();
            caller.rights.check(Right::needed(request.method(), &path))?;
        }
        let plain = state.store.by(caller.actor.clone());
        Ok(Call { tenant: caller.tenant.clone(), now, caller, store: plain.clone(), plain, state, request })
    }

    pub fn callers(&self) -> &Callers {
        &self.state.callers
    }

    pub fn public_url(&self) -> &Url {
        &self.state.public_url
    }

    pub fn portal_url(&self) -> &Url {
        &self.state.portal_url
    }

    /// The store on behalf of the caller: what they change is in the audit log.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The store for what is only on the way to what the call asks for: not bound to its key, as [`Call::store`] may be.
    pub fn plain_store(&self) -> &Store {
        &self.plain
    }

    /// The same call, on the store that acts for it once.
    pub fn under(self, once: Once) -> Call {
        Call { store: self.store.once(once), ..self }
    }

    pub fn request(&self) -> &HttpRequest {
        &self.request
    }

    pub fn clock(&self) -> Clock {
        self.state.clock
    }

    /// For how long messages are kept.
    pub fn retention(&self) -> Duration {
        self.state.retention
    }

    /// How new endpoints sign where nothing else is said.
    pub fn signature_type(&self) -> SignatureType {
        self.state.signature_type
    }

    pub fn egress(&self) -> &Egress {
        &self.state.egress
    }

    pub fn query(&self) -> Query<'_> {
        Query::parse(self.request.query_string())
    }

    /// What the path has in the place of `{part}`. Ids, uids and names have no character that a URL would escape.
    pub fn part(&self, part: &str) -> &str {
        self.request.match_info().get(part).unwrap_or_default()
    }

    /// This is for the organization: an application's own token may not do it.
    ///
    /// # Errors
    /// 403.
    pub fn for_the_organization(&self) -> Result<(), ApiError> {
        if self.tenant.only.is_some() { Err(ApiError::forbidden()) } else { Ok(()) }
    }

    /// How the path names the application.
    ///
    /// # Errors
    /// 404: no application can have such a name.
    pub fn app_ref(&self) -> Result<AppRef, ApiError> {
        AppRef::parse(self.part("app")).map_err(|_| ApiError::not_found("application"))
    }

    /// The application that the path names; on a path that has no place for one, the organization's operational application.
    ///
    /// # Errors
    /// 404: the caller has none of this name, or there are no operational endpoints yet. 403: those are the organization's.
    pub async fn app(&self) -> Result<Application, ApiError> {
        if self.request.match_info().get("app").is_none() {
            self.for_the_organization()?;
            let found = self.store().operational_application(&self.tenant).await?;
            return found.ok_or_else(|| ApiError::not_found("endpoint"));
        }
        let found = self.store().application(&self.tenant, &self.app_ref()?).await?;
        found.ok_or_else(|| ApiError::not_found("application"))
    }

    /// The endpoint that the path names.
    ///
    /// # Errors
    /// 404: the application has none of this name.
    pub async fn endpoint(&self, app: AppId) -> Result<Endpoint, ApiError> {
        let missing = || ApiError::not_found("endpoint");
        let named = EndpointRef::parse(self.part("endpoint")).map_err(|_| missing())?;
        self.store().endpoint(&self.tenant, app, &named).await?.ok_or_else(missing)
    }

    /// The message that the path names.
    ///
    /// # Errors
    /// 404: the application has none of this name.
    pub async fn message(&self, app: AppId) -> Result<Message, ApiError> {
        let missing = || ApiError::not_found("message");
        let named = MessageRef::parse(self.part("msg")).map_err(|_| missing())?;
        self.store().message(&self.tenant, app, &named).await?.ok_or_else(missing)
    }
}

/// An answer in JSON.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    let mut bytes = Vec::with_capacity(512);
    serde_json::to_writer(&mut bytes, value).map_err(|error| ApiError::internal(&error))?;
    Ok(HttpResponse::build(status).content_type("application/json").body(bytes))
}

/// The result of a change.
///
/// # Errors
/// 404: there is no such `what`. 409: others change it all the time. Or what the change was refused with.
pub(super) fn done<T>(changed: Changed<T, ApiError>, what: &str) -> Result<T, ApiError> {
    match changed {
        Changed::Done(thing) => Ok(thing),
        Changed::Gone => Err(ApiError::not_found(what)),
        Changed::Refused(error) => Err(error),
        Changed::Busy => Err(ApiError::conflict(format!(
            "the {what} is being changed by others all the time: try again in a moment"
        ))),
    }
}

/// Done, and nothing to say.
pub(super) fn nothing() -> Answer {
    Ok(HttpResponse::NoContent().finish())
}
