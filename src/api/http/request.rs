//! [`ApiCall`]: a request from an authenticated caller who has the permission it needs. Every handler but the probes
//! takes one, before its body is read.

use std::future::{Ready, ready};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::{StatusCode, header};
use actix_web::web::Data;
use actix_web::{FromRequest, HttpMessage, HttpRequest, HttpResponse};
use futures_util::future::{Either, LocalBoxFuture};
use serde::Serialize;
use url::Url;

use crate::api::ApiState;
use crate::api::authn::authenticator::Authenticator;
use crate::api::authn::credential::{AuthenticationError, Caller};
use crate::api::authn::permissions::{Permission, Permissions};
use crate::api::http::errors::{ApiError, ApiResult};
use crate::api::http::query::{PageKey, Query};
use crate::domain::catalog::application::Application;
use crate::domain::catalog::endpoint::Endpoint;
use crate::domain::deliveries::message::Message;
use crate::domain::signing::secret::SignatureType;
use crate::domain::time::Clock;
use crate::domain::{AppId, Time};
use crate::egress::Egress;
use crate::store::catalog::change::UpdateResult;
use crate::store::ingest::idempotency::IdempotencyKey;
use crate::store::{AppRef, EndpointRef, MessageRef, Order, PageRequest, Store, Tenant};
use crate::traffic::hangup::Hangup;
use crate::traffic::proxies::network;
use crate::traffic::rate_limits::CallerId;

/// An authenticated and authorized API call.
pub(in crate::api) struct ApiCall {
    pub tenant: Tenant,
    pub now: Time,
    /// Records the caller in the audit log. Bound to the idempotency key once there is one.
    store: Store,
    plain: Store,
    pub caller: Arc<Caller>,
    state: Data<ApiState>,
    request: HttpRequest,
}

impl FromRequest for ApiCall {
    type Error = ApiError;
    /// Ready immediately for a cached caller, which is nearly always.
    type Future = Either<Ready<Result<ApiCall, ApiError>>, LocalBoxFuture<'static, Result<ApiCall, ApiError>>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let Some(state) = request.app_data::<Data<ApiState>>().cloned() else {
            return Either::Left(ready(Err(ApiError::internal(&"the API was mounted without its state"))));
        };
        let Some(token) = bearer_token(request) else {
            let unauthorized = || {
                ApiError::unauthorized(
                    "send a token in the header Authorization: Bearer TOKEN (see `sendoff token` and `sendoff key`)",
                )
            };
            let limited = state.authenticator.limit_anonymous(client_address(request, &state));
            return Either::Left(ready(Err(limited.err().map_or_else(unauthorized, ApiError::from))));
        };
        // Tokens carry wall-clock times.
        let (now, wall) = (state.clock.now(), state.clock.wall());
        match state.authenticator.authenticate_cached(token, || client_address(request, &state), wall) {
            Some(found) => Either::Left(ready(
                found
                    .map_err(ApiError::from)
                    .and_then(|caller| ApiCall::authorize(caller, now, state, request.clone())),
            )),
            None => {
                let (token, from, request) = (token.to_owned(), client_address(request, &state), request.clone());
                Either::Right(Box::pin(async move {
                    let caller = state.authenticator.authenticate(&token, from, wall).await?;
                    ApiCall::authorize(caller, now, state, request)
                }))
            }
        }
    }
}

/// The token in `Authorization: Bearer TOKEN`.
fn bearer_token(request: &HttpRequest) -> Option<&str> {
    let value = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
    let (kind, token) = value.split_once(' ')?;
    kind.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The client's address, behind trusted proxies.
fn client_address(request: &HttpRequest, state: &ApiState) -> Option<IpAddr> {
    let forwarded = request.headers().get_all(header::X_FORWARDED_FOR).map(|value| value.as_bytes());
    // Collected: the header iterator is not double-ended.
    let forwarded: Vec<&[u8]> = forwarded.collect();
    let peer = request.peer_addr()?.ip();
    Some(state.authenticator.traffic().proxies.caller(peer, forwarded.into_iter()))
}

/// The subject of a request's limits: its caller, or its address while the caller is not known.
pub(in crate::api) fn limited_as(request: &HttpRequest, state: &ApiState) -> CallerId {
    if let Some(caller) = request.extensions().get::<CallerId>() {
        return caller.clone();
    }
    let address = client_address(request, state).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    CallerId::Address(network(address))
}

/// Counts a request that needs no token against its address's rate limit.
///
/// # Errors
/// 429: the address exceeds its limit.
pub(in crate::api) fn limit_anonymous_request(request: &HttpRequest, state: &ApiState) -> Result<(), ApiError> {
    Ok(state.authenticator.limit_anonymous(client_address(request, state))?)
}

impl ApiCall {
    /// The wall-clock time, to compare with times from other clocks.
    pub fn wall(&self) -> Time {
        self.state.clock.wall()
    }

    /// Whether the caller is still authorized. `true` while the store is unavailable, because only the store knows.
    pub async fn is_still_authorized(&self) -> bool {
        let Some(token) = bearer_token(&self.request) else { return false };
        let wall = self.wall();
        let from = || client_address(&self.request, &self.state);
        let found = match self.authenticator().authenticate_cached(token, from, wall) {
            Some(found) => found,
            None => self.authenticator().authenticate(token, from(), wall).await,
        };
        matches!(found, Ok(_) | Err(AuthenticationError::Store(_) | AuthenticationError::Limited(_)))
    }

    /// Checks the caller's permission for this operation.
    fn authorize(
        caller: Arc<Caller>,
        now: Time,
        state: Data<ApiState>,
        request: HttpRequest,
    ) -> Result<ApiCall, ApiError> {
        // With all permissions the path does not matter.
        if caller.permissions != Permissions::All {
            let path = request.match_pattern().unwrap_or_default();
            caller.permissions.check(Permission::required(request.method(), &path))?;
        }
        request.extensions_mut().insert(caller.limited_as.clone());
        let plain = state.store.by(caller.actor.clone());
        Ok(ApiCall { tenant: caller.tenant.clone(), now, caller, store: plain.clone(), plain, state, request })
    }

    pub fn authenticator(&self) -> &Authenticator {
        &self.state.authenticator
    }

    pub fn public_url(&self) -> &Url {
        &self.state.public_url
    }

    pub fn portal_url(&self) -> &Url {
        &self.state.portal_url
    }

    /// The store, with the caller as the actor in the audit log.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The same store, never bound to an idempotency key: for writes that are not the operation's result.
    pub fn plain_store(&self) -> &Store {
        &self.plain
    }

    /// The same call, on a store bound to an idempotency key.
    pub fn with_key(self, key: IdempotencyKey) -> ApiCall {
        ApiCall { store: self.store.with_idempotency_key(key), ..self }
    }

    pub fn request(&self) -> &HttpRequest {
        &self.request
    }

    /// Detects that the caller has closed its side of the connection.
    pub fn hangup(&self) -> Hangup {
        self.request.conn_data::<Hangup>().cloned().unwrap_or_default()
    }

    pub fn clock(&self) -> Clock {
        self.state.clock
    }

    /// The retention of messages.
    pub fn retention(&self) -> Duration {
        self.state.retention
    }

    /// The signature type of new endpoints that specify none.
    pub fn signature_type(&self) -> SignatureType {
        self.state.signature_type
    }

    pub fn egress(&self) -> &Egress {
        &self.state.egress
    }

    pub fn query(&self) -> Query<'_> {
        Query::parse(self.request.query_string())
    }

    /// The query of a list, and the page it requests (see [`Query::page`]).
    ///
    /// # Errors
    /// 422: invalid page parameters.
    pub fn list_query<K: PageKey>(
        &self,
        order: Order,
        may_choose: bool,
    ) -> Result<(Query<'_>, PageRequest<K>), ApiError> {
        let query = self.query();
        let page = query.page(order, may_choose)?;
        Ok((query, page))
    }

    /// The path parameter `{part}`. Ids, uids and names contain no characters that URLs escape.
    pub fn path_param(&self, part: &str) -> &str {
        self.request.match_info().get(part).unwrap_or_default()
    }

    /// Rejects application tokens: this operation is for the organization.
    ///
    /// # Errors
    /// 403.
    pub fn require_organization(&self) -> Result<(), ApiError> {
        if self.tenant.only.is_some() { Err(ApiError::needs_organization()) } else { Ok(()) }
    }

    /// The id or uid of the application in the path.
    ///
    /// # Errors
    /// 404: not a valid id or uid.
    pub fn app_ref(&self) -> Result<AppRef, ApiError> {
        AppRef::parse(self.path_param("app")).map_err(|_| ApiError::not_found("application"))
    }

    /// The application in the path; on paths without one, the organization's operational application.
    ///
    /// # Errors
    /// 404: not found, or there are no operational endpoints yet. 403: operational endpoints need an organization
    /// token.
    pub async fn app(&self) -> Result<Application, ApiError> {
        if self.request.match_info().get("app").is_none() {
            self.require_organization()?;
            return require(self.store().operational_application(&self.tenant).await?, "endpoint");
        }
        require(self.store().application(&self.tenant, &self.app_ref()?).await?, "application")
    }

    /// The endpoint in the path.
    ///
    /// # Errors
    /// 404: the application has no such endpoint.
    pub async fn endpoint(&self) -> Result<Endpoint, ApiError> {
        self.endpoint_of(self.app().await?.id).await
    }

    /// The endpoint in the path, in an application looked up before.
    ///
    /// # Errors
    /// 404: the application has no such endpoint.
    pub async fn endpoint_of(&self, app: AppId) -> Result<Endpoint, ApiError> {
        let named = EndpointRef::parse(self.path_param("endpoint")).map_err(|_| ApiError::not_found("endpoint"))?;
        require(self.store().endpoint(&self.tenant, app, &named).await?, "endpoint")
    }

    /// The message in the path.
    ///
    /// # Errors
    /// 404: the application has no such message.
    pub async fn message(&self) -> Result<Message, ApiError> {
        let app = self.app().await?.id;
        let named = MessageRef::parse(self.path_param("msg")).map_err(|_| ApiError::not_found("message"))?;
        require(self.store().message(&self.tenant, app, &named).await?, "message")
    }
}

/// A JSON response.
pub(in crate::api) fn json(status: StatusCode, value: &impl Serialize) -> ApiResult {
    let mut bytes = Vec::with_capacity(512);
    serde_json::to_writer(&mut bytes, value).map_err(|error| ApiError::internal(&error))?;
    Ok(HttpResponse::build(status).content_type("application/json").body(bytes))
}

/// A JSON response that contains a secret: it must not be cached.
pub(in crate::api) fn json_secret(value: &impl Serialize) -> ApiResult {
    let mut response = json(StatusCode::OK, value)?;
    response.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Converts the outcome of an update.
///
/// # Errors
/// 404: no such `what`. 409: concurrent updates kept winning. Otherwise the error that rejected the update.
pub(in crate::api) fn change_result<T>(changed: UpdateResult<T, ApiError>, what: &str) -> Result<T, ApiError> {
    let busy = || ApiError::conflict(format!("the {what} is being changed by other requests: try again in a moment"));
    changed.into_result(|| ApiError::not_found(what), busy)
}

/// The resource, if it exists.
///
/// # Errors
/// 404: there is no such `what`.
pub(in crate::api) fn require<T>(found: Option<T>, what: &str) -> Result<T, ApiError> {
    found.ok_or_else(|| ApiError::not_found(what))
}

/// 204 without a body.
pub(in crate::api) fn no_content() -> ApiResult {
    Ok(HttpResponse::NoContent().finish())
}

/// 204 if the resource existed.
///
/// # Errors
/// 404: there was no such `what`.
pub(in crate::api) fn no_content_if(existed: bool, what: &str) -> ApiResult {
    if existed { no_content() } else { Err(ApiError::not_found(what)) }
}
