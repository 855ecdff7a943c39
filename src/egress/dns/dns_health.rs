//! Health of the name servers. A timeout or SERVFAIL has one of two causes. If our name servers are down, it is a
//! failure of this machine. If only the name servers of one receiver are down, it is a failure of that receiver.
//!
//! After such a failure a probe asks, without the cache, for the root's NS records and for names that resolved
//! recently. Any answer, including "no such name", proves that the name servers work.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::select_ok;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{ResolverBuilder, TokioResolver};
use tokio::time::{Instant, timeout};

use super::resolver::is_answer;

const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// The time that a probe's result is reused. Limits probes to one per second.
const PROBE_TTL: Duration = Duration::from_secs(1);
/// Maximum remembered names that resolved.
const REMEMBERED_NAMES: usize = 16;
/// Remembered names that a probe asks for.
const PROBED_NAMES: usize = 3;

/// The health of the name servers. Clones are cheap and share results.
#[derive(Clone)]
pub struct DnsHealth {
    /// Without a cache.
    probes: TokioResolver,
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Lookups in flight per name.
    active: Mutex<HashMap<Name, usize>>,
    /// Names that resolved recently, newest last.
    resolved: Mutex<VecDeque<Name>>,
    /// Time and result of the last probe. Locked during a probe.
    last: tokio::sync::Mutex<Option<(Instant, bool)>>,
}

impl std::fmt::Debug for DnsHealth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DnsHealth").finish_non_exhaustive()
    }
}

/// A lookup in flight; dropping it ends the lookup.
pub struct ActiveLookup<'s> {
    inner: &'s Inner,
    name: Name,
}

impl DnsHealth {
    /// Probes with a resolver from `builder`.
    ///
    /// # Errors
    /// hickory rejects the configuration.
    pub fn new(mut builder: ResolverBuilder<TokioRuntimeProvider>) -> Result<DnsHealth, NetError> {
        let options = builder.options_mut();
        options.cache_size = 0;
        options.attempts = 1;
        options.timeout = PROBE_TIMEOUT;
        Ok(DnsHealth { probes: builder.build()?, inner: Arc::default() })
    }

    /// The same health record, probed with a resolver from `builder`.
    ///
    /// # Errors
    /// hickory rejects the configuration.
    pub fn with_builder(&self, builder: ResolverBuilder<TokioRuntimeProvider>) -> Result<DnsHealth, NetError> {
        Ok(DnsHealth { inner: Arc::clone(&self.inner), ..DnsHealth::new(builder)? })
    }

    /// Marks a lookup of `name` as in flight.
    pub fn begin_lookup(&self, name: &Name) -> ActiveLookup<'_> {
        *lock(&self.inner.active).entry(name.clone()).or_default() += 1;
        ActiveLookup { inner: &self.inner, name: name.clone() }
    }

    /// Whether a lookup of `name` is in flight.
    pub fn is_looking_up(&self, name: &Name) -> bool {
        lock(&self.inner.active).contains_key(name)
    }

    /// Remembers that `name` resolved.
    pub fn record_answer(&self, name: &Name) {
        let mut resolved = lock(&self.inner.resolved);
        if !resolved.contains(name) {
            if resolved.len() == REMEMBERED_NAMES {
                resolved.pop_front();
            }
            resolved.push_back(name.clone());
        }
    }

    /// Whether the name servers answer, from a probe at most 1 s old. The probe does not ask for `failed`.
    pub async fn is_healthy(&self, failed: Option<&Name>) -> bool {
        let mut last = self.inner.last.lock().await;
        if let Some((at, healthy)) = *last
            && at.elapsed() < PROBE_TTL
        {
            return healthy;
        }
        let healthy = self.probe(failed).await;
        *last = Some((Instant::now(), healthy));
        healthy
    }

    async fn probe(&self, failed: Option<&Name>) -> bool {
        let names: Vec<Name> = {
            let resolved = lock(&self.inner.resolved);
            resolved.iter().rev().filter(|name| Some(*name) != failed).take(PROBED_NAMES).cloned().collect()
        };
        let mut questions = vec![(Name::root(), RecordType::NS)];
        questions.extend(names.into_iter().map(|name| (name, RecordType::A)));
        let lookups = questions.into_iter().map(|(name, kind)| {
            let probes = self.probes.clone();
            Box::pin(async move {
                match probes.lookup(name, kind).await {
                    Err(error) if !is_answer(&error) => Err(error),
                    _ => Ok(()),
                }
            })
        });
        matches!(timeout(PROBE_TIMEOUT, select_ok(lookups)).await, Ok(Ok(_)))
    }
}

impl Drop for ActiveLookup<'_> {
    fn drop(&mut self) {
        let mut active = lock(&self.inner.active);
        if let Some(count) = active.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                active.remove(&self.name);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
