//! Polling over REST: fetching an application's messages in place of having them posted.
//!
//! * [`endpoint`] – polling endpoints: made, read, changed and deleted. The dialect calls them destinations.
//! * [`poll`] – a page of messages, for readers that keep their own position and for consumers; waiting for the next
//!   one.
//! * [`lease`] – the same for consumers that commit what they have done.
//! * [`stream`] – the same as server-sent events.
//! * [`message`] – a message as it is given out there.
//! * [`token`] – tokens that open one polling endpoint.

pub(in crate::api) mod endpoint;
pub(in crate::api) mod lease;
mod message;
pub(in crate::api) mod poll;
pub(in crate::api) mod stream;
pub(in crate::api) mod token;

use crate::api::authn::permissions::Rights;
use crate::api::http::errors::ApiError;
use crate::api::http::request::Call;
use crate::domain::AppId;
use crate::domain::catalog::polling::PollingEndpoint;
use crate::store::PollingEndpointRef;

impl Call {
    /// The polling endpoint that the path names.
    ///
    /// # Errors
    /// 404: the application has none of this name, or the token that was shown is another's.
    pub(in crate::api) async fn polling_endpoint(&self, app: AppId) -> Result<PollingEndpoint, ApiError> {
        let missing = || ApiError::not_found("polling endpoint");
        let named = PollingEndpointRef::parse(self.part("sink")).map_err(|_| missing())?;
        let found = self.store().polling_endpoint(&self.tenant, app, &named).await?.ok_or_else(missing)?;
        let opened = match self.caller.rights {
            Rights::Poller(only) => Some(only),
            // Asked anew: it may have been made a moment ago.
            Rights::AutoConfig(by) => {
                let by = self.store().autoconfig(&self.tenant, app, by).await?;
                Some(by.and_then(|by| by.polling_endpoint).ok_or_else(missing)?)
            }
            _ => return Ok(found),
        };
        if opened == Some(found.id) { Ok(found) } else { Err(missing()) }
    }
}
