//! Polling: an application's messages, fetched by the receiver instead of sent to a URL.
//!
//! * [`endpoint`]: polling endpoints. The dialect calls them destinations, or sinks in paths.
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
use crate::api::http::request::ApiCall;
use crate::domain::AppId;
use crate::domain::catalog::polling::PollingEndpoint;
use crate::store::PollingEndpointRef;

impl ApiCall {
    /// The polling endpoint in the path.
    ///
    /// # Errors
    /// 404: the application has no such polling endpoint, or the token belongs to another one.
    pub(in crate::api) async fn polling_endpoint(&self, app: AppId) -> Result<PollingEndpoint, ApiError> {
        let missing = || ApiError::not_found("polling endpoint");
        let named = PollingEndpointRef::parse(self.path_param("sink")).map_err(|_| missing())?;
        let found = self.store().polling_endpoint(&self.tenant, app, &named).await?.ok_or_else(missing)?;
        let opened = match self.caller.permissions {
            Permissions::Poller(only) => Some(only),
            // Not cached: it may have been created a moment ago.
            Permissions::AutoConfig(by) => {
                let by = self.store().autoconfig(&self.tenant, app, by).await?;
                Some(by.and_then(|by| by.polling_endpoint).ok_or_else(missing)?)
            }
            _ => return Ok(found),
        };
        if opened == Some(found.id) { Ok(found) } else { Err(missing()) }
    }
}
