//! A call: a request whose token was good. Every handler but the probes' begins with one, before the body is read.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::http::{StatusCode, header};
use actix_web::web::Data;
use actix_web::{FromRequest, HttpRequest, HttpResponse};
use serde::Serialize;

use super::ApiState;
use super::errors::{Answer, ApiError};
use super::query::Query;
use crate::domain::application::Application;
use crate::domain::endpoint::Endpoint;
use crate::domain::message::Message;
use crate::domain::{AppId, Time};
use crate::egress::Egress;
use crate::store::once::Once;
use crate::store::{AppRef, EndpointRef, MessageRef, Store, Tenant};

/// Who calls, when, and what the path names.
pub(super) struct Call {
    pub tenant: Tenant,
    pub now: Time,
    store: Store,
    state: Data<ApiState>,
    request: HttpRequest,
}

impl FromRequest for Call {
    type Error = ApiError;
    type Future = Ready<Result<Call, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(admit(request))
    }
}

fn admit(request: &HttpRequest) -> Result<Call, ApiError> {
    let Some(state) = request.app_data::<Data<ApiState>>() else {
        return Err(ApiError::internal(&"the API was mounted without its state"));
    };
    let shown = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = shown.and_then(|value| value.split_once(' ')).filter(|(kind, _)| kind.eq_ignore_ascii_case("bearer"));
    let Some((_, token)) = token else {
        return Err(ApiError::unauthorized(
            "show a token in the header Authorization: Bearer TOKEN (see `sendoff token`)",
        ));
    };
    let now = state.clock.now();
    match state.tokens.read(token.trim(), now) {
        Ok(tenant) => {
            Ok(Call { tenant, now, store: state.store.clone(), state: state.clone(), request: request.clone() })
        }
        Err(error) => Err(ApiError::unauthorized(error.to_string())),
    }
}

impl Call {
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The same call, on the store that acts for it once.
    pub fn under(self, once: Once) -> Call {
        Call { store: self.store.once(once), ..self }
    }

    pub fn request(&self) -> &HttpRequest {
        &self.request
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

    /// The application that the path names.
    ///
    /// # Errors
    /// 404: the caller has none of this name.
    pub async fn app(&self) -> Result<Application, ApiError> {
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

/// Done, and nothing to say.
pub(super) fn nothing() -> Answer {
    Ok(HttpResponse::NoContent().finish())
}
