//! The last use of each API key, written to the store in the background, at most once per [`USAGE_INTERVAL`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::domain::{KeyId, Time};
use crate::store::{Store, StoreError};

/// Minimum interval between two writes of a key's last use.
const USAGE_INTERVAL: Duration = Duration::from_secs(60);
/// Minimum interval after a failed write.
const USAGE_RETRY: Duration = Duration::from_secs(10);

/// The uses of a process's API keys. Cheap to clone; clones share the state.
#[derive(Clone)]
pub(in crate::api::authn) struct KeyUsageLog {
    store: Store,
    uses: Arc<Mutex<HashMap<KeyId, KeyUsage>>>,
}

/// The last use of a key.
struct KeyUsage {
    last: Time,
    /// The last use written to the store.
    written: Time,
    /// No write before this time.
    rest_until: Time,
}

impl KeyUsageLog {
    pub(in crate::api::authn) fn new(store: Store) -> KeyUsageLog {
        KeyUsageLog { store, uses: Arc::default() }
    }

    /// Records a use. Writes it in the background, unless the key was written within [`USAGE_INTERVAL`].
    pub(in crate::api::authn) fn record(&self, id: KeyId, now: Time) {
        {
            let mut uses = self.uses();
            let one = uses.entry(id).or_insert(KeyUsage { last: now, written: Time::ZERO, rest_until: Time::ZERO });
            one.last = one.last.max(now);
            if now < one.rest_until {
                return;
            }
            one.rest_until = now.plus(USAGE_INTERVAL);
        }
        let log = self.clone();
        tokio::spawn(async move {
            if let Err(error) = log.write().await {
                tracing::warn!(%error, key = %id, "the last use of an API key was not recorded: retrying with its next use");
                log.uses().entry(id).and_modify(|one| one.rest_until = now.plus(USAGE_RETRY));
            }
        });
    }

    /// Writes the uses that the store does not have yet.
    ///
    /// # Errors
    /// The store is unavailable; the next use of a key retries.
    pub(in crate::api::authn) async fn write(&self) -> Result<(), StoreError> {
        let uses: Vec<(KeyId, Time)> = {
            let uses = self.uses();
            uses.iter().filter(|(_, one)| one.last > one.written).map(|(id, one)| (*id, one.last)).collect()
        };
        self.store.api_keys_used(&uses).await?;
        let mut usage = self.uses();
        for (id, at) in uses {
            usage.entry(id).and_modify(|one| one.written = one.written.max(at));
        }
        Ok(())
    }

    /// The time before which a use of the key is not written.
    #[cfg(test)]
    pub(in crate::api::authn) fn rests_until(&self, id: KeyId) -> Time {
        self.uses()[&id].rest_until
    }

    fn uses(&self) -> MutexGuard<'_, HashMap<KeyId, KeyUsage>> {
        self.uses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
