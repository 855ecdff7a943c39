//! Polling: an application's messages, fetched by the receiver instead of sent to a URL.
//!
//! * [`endpoint`]: polling endpoints. Svix calls them destinations, or sinks in paths.
//! * [`poll`]: a page of messages, for readers that keep their own position and for consumers; long polling.
//! * [`lease`]: pages under a lease, for consumers that commit.
//! * [`stream`]: server-sent events.
//! * [`message`]: a message as a poller gets it.
//! * [`token`]: tokens for one polling endpoint.
//!
//! # Invariants
//!
//! * Messages come in the order of acceptance, and none is skipped: a position may only advance past messages that were
//!   returned or filtered.
//! * A consumer is either a reader with iterators or a reader with leases, never both.
//! * A polling token reaches one polling endpoint and nothing else.

pub(in crate::api) mod endpoint;
pub(in crate::api) mod lease;
mod message;
pub(in crate::api) mod poll;
pub(in crate::api) mod stream;
pub(in crate::api) mod token;

use crate::api::authn::permissions::Permissions;
use crate::api::http::errors::ApiError;
use crate::api::http::request::{ApiCall, require};
use crate::domain::catalog::polling::PollingEndpoint;
use crate::store::PollingEndpointRef;

impl ApiCall {
    /// The polling endpoint in the path.
    ///
    /// # Errors
    /// 404: the application has no such polling endpoint, or the token belongs to another one.
    pub(in crate::api) async fn polling_endpoint(&self) -> Result<PollingEndpoint, ApiError> {
        const WHAT: &str = "polling endpoint";
        let app = self.app().await?.id;
        let named = PollingEndpointRef::parse(self.path_param("sink")).map_err(|_| ApiError::not_found(WHAT))?;
        let found = require(self.store().polling_endpoint(&self.tenant, app, &named).await?, WHAT)?;
        let only = match self.caller.permissions {
            Permissions::Poller(only) => Some(only),
            // Not cached: it may be new.
            Permissions::AutoConfig(id) => self
                .store()
                .autoconfig(&self.tenant, app, id)
                .await?
                .and_then(|subscription| subscription.polling_endpoint),
            _ => Some(found.id),
        };
        require(Some(found).filter(|found| only == Some(found.id)), WHAT)
    }
}
