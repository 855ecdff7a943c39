//! Changes that are worked out on what a thing is: no change undoes another that was made at the same time.
//!
//! Where this needs nothing but the thing itself, it happens inside the transaction that writes, while the thing is held
//! ([`Store::update_application`], [`Store::update_event_type`]). An endpoint's URL has to be looked up, which no transaction waits for:
//! there it is optimistic ([`Store::change_endpoint`]), and worked out anew on what the endpoint has become meanwhile, in turns within a process.

use tokio::sync::{Mutex, MutexGuard};

use crate::domain::catalog::endpoint::{Endpoint, EndpointSpec};
use crate::domain::{EndpointId, Time};
use crate::store::catalog::endpoints::Updated;
use crate::store::{Store, StoreError, Tenant};

/// How often a change of an endpoint is worked out anew.
const TRIES: usize = 8;

/// What became of a change; `E` is why the caller did not want to make it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed<T, E> {
    /// The thing is this now.
    Done(T),
    /// The tenant does not have it.
    Gone,
    /// Working it out gave this in place of a change. Nothing was done.
    Refused(E),
    /// Others changed it as often as it was worked out. Nothing was done.
    Busy,
}

/// Changes that met another change of their endpoint in this process take turns: however many there are, each of them is made.
/// Endpoints share a few locks.
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
    /// Makes of `endpoint` what `work` makes of it, or of what it has become meanwhile.
    ///
    /// # Errors
    /// As [`Store::update_endpoint`].
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
