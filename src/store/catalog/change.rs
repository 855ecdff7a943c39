//! Read-modify-write updates without lost updates.
//!
//! Applications and event types are updated while their row is locked ([`Store::update_application`],
//! [`Store::update_event_type`]). An endpoint's URL needs a DNS lookup, and no transaction waits for that. Endpoint
//! updates are therefore optimistic ([`Store::change_endpoint`]): on a conflict the change is computed again, and
//! conflicting changes in one process take turns.

use tokio::sync::{Mutex, MutexGuard};

use crate::domain::catalog::endpoint::{Endpoint, EndpointSpec};
use crate::domain::{EndpointId, Time};
use crate::store::catalog::endpoints::Updated;
use crate::store::{Store, StoreError, Tenant};

/// The most attempts at an optimistic endpoint update.
const TRIES: usize = 8;

/// The result of an update. `E` is the caller's reason to abort it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed<T, E> {
    /// Updated to this value.
    Done(T),
    /// The tenant does not have it.
    Gone,
    /// The caller aborted the update.
    Refused(E),
    /// Every attempt met a concurrent update. Nothing was changed.
    Busy,
}

/// Locks that serialize endpoint changes after a conflict, so that any number of concurrent changes in one process
/// succeed. Endpoints share 64 locks.
#[derive(Debug)]
pub(in crate::store) struct Turns([Mutex<()>; 64]);

impl Default for Turns {
    fn default() -> Turns {
        Turns(std::array::from_fn(|_| Mutex::default()))
    }
}

impl Turns {
    async fn of(&self, endpoint: EndpointId) -> Option<MutexGuard<'_, ()>> {
        let [.., last] = *endpoint.0.as_bytes();
        Some(self.0.get(usize::from(last) % self.0.len())?.lock().await)
    }
}

impl Store {
    /// Updates `endpoint` to the result of `work`, which runs again on the current endpoint after a conflict.
    ///
    /// # Errors
    /// As for [`Store::update_endpoint`].
    pub async fn change_endpoint<E>(
        &self,
        tenant: &Tenant,
        mut endpoint: Endpoint,
        mut work: impl AsyncFnMut(&Endpoint) -> Result<EndpointSpec, E>,
        now: Time,
    ) -> Result<Changed<Endpoint, E>, StoreError> {
        let mut turn = None;
        for _ in 0..TRIES {
            let spec = match work(&endpoint).await {
                Ok(spec) => spec,
                Err(refused) => return Ok(Changed::Refused(refused)),
            };
            match self.update_endpoint(tenant, &endpoint, spec, now).await? {
                Updated::Done(endpoint) => return Ok(Changed::Done(*endpoint)),
                Updated::Gone => return Ok(Changed::Gone),
                Updated::Stale => {
                    if turn.is_none() {
                        turn = self.inner.turns.of(endpoint.id).await;
                    }
                    match self.endpoint(tenant, endpoint.app_id, &endpoint.id.into()).await? {
                        Some(found) => endpoint = found,
                        None => return Ok(Changed::Gone),
                    }
                }
            }
        }
        Ok(Changed::Busy)
    }
}
