//! Read-modify-write updates without lost updates.
//!
//! Applications and event types are updated while their row is locked ([`Store::update_application`],
//! [`Store::update_event_type`]). An endpoint's URL needs a DNS lookup, and no transaction waits for that. Endpoint
//! updates are therefore optimistic ([`Store::change_endpoint`]): on a conflict the change is computed again, and
//! conflicting changes in one process take turns.

use tokio::sync::{Mutex, MutexGuard};

use crate::domain::catalog::endpoint::{Endpoint, EndpointSpec};
use crate::domain::{EndpointId, Time};
use crate::store::catalog::endpoint_update::OptimisticUpdate;
use crate::store::{Store, StoreError, Tenant};

/// Maximum attempts at an optimistic endpoint update.
const TRIES: usize = 8;

/// The result of an update. `E` is the caller's reason to abort it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpdateResult<T, E> {
    /// Updated to this value.
    Updated(T),
    /// The tenant does not have it.
    NotFound,
    /// The caller aborted the update.
    Aborted(E),
    /// Every attempt met a concurrent update. Nothing was changed.
    Conflict,
}

impl<T, E> UpdateResult<T, E> {
    /// The updated value, or an error for each other result.
    ///
    /// # Errors
    /// The reason to abort, `not_found` or `conflict`.
    pub fn into_result(self, not_found: impl FnOnce() -> E, conflict: impl FnOnce() -> E) -> Result<T, E> {
        match self {
            UpdateResult::Updated(value) => Ok(value),
            UpdateResult::NotFound => Err(not_found()),
            UpdateResult::Aborted(error) => Err(error),
            UpdateResult::Conflict => Err(conflict()),
        }
    }
}

/// Locks that serialize endpoint changes after a conflict, so any number of concurrent changes in one process succeed.
/// Endpoints share 64 locks.
#[derive(Debug)]
pub(in crate::store) struct ChangeLocks([Mutex<()>; 64]);

impl Default for ChangeLocks {
    fn default() -> ChangeLocks {
        ChangeLocks(std::array::from_fn(|_| Mutex::default()))
    }
}

impl ChangeLocks {
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
    ) -> Result<UpdateResult<Endpoint, E>, StoreError> {
        let mut turn = None;
        for _ in 0..TRIES {
            let spec = match work(&endpoint).await {
                Ok(spec) => spec,
                Err(refused) => return Ok(UpdateResult::Aborted(refused)),
            };
            match self.update_endpoint(tenant, &endpoint, spec, now).await? {
                OptimisticUpdate::Updated(endpoint) => return Ok(UpdateResult::Updated(*endpoint)),
                OptimisticUpdate::NotFound => return Ok(UpdateResult::NotFound),
                OptimisticUpdate::Stale => {
                    if turn.is_none() {
                        turn = self.inner.change_locks.of(endpoint.id).await;
                    }
                    match self.endpoint(tenant, endpoint.app_id, &endpoint.id.into()).await? {
                        Some(found) => endpoint = found,
                        None => return Ok(UpdateResult::NotFound),
                    }
                }
            }
        }
        Ok(UpdateResult::Conflict)
    }
}
