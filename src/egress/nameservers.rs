//! Whether the name servers work at all. "No answer" and SERVFAIL are what every name gets when ours are broken, and also what one name
//! gets whose own servers are; the second is a failure of its receiver, and only the first is ours.
//!
//! So after such a failure they are asked for what has an answer everywhere, past the cache: the root's name servers, and some names that
//! had addresses lately. Any answer, also "no such name", says that they work.

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

/// How long a probe may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long its result holds: so often the name servers are asked at the most.
const HOLDS: Duration = Duration::from_secs(1);
/// How many names are remembered that had addresses, and how many of them a probe asks for.
const REMEMBERED: usize = 16;
const ASKED: usize = 3;

/// The name servers, as far as it is known how they do. Cheap to clone.
#[derive(Clone)]
pub struct NameServers {
    /// Without a cache.
    probes: TokioResolver,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// How many lookups of a name are under way.
    under_way: Mutex<HashMap<Name, usize>>,
    /// Names that had addresses lately, the newest last.
    good: Mutex<VecDeque<Name>>,
    /// What the last probe found, and when. Held while one is under way.
    last: tokio::sync::Mutex<Option<(Instant, bool)>>,
}

impl std::fmt::Debug for NameServers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NameServers").finish_non_exhaustive()
    }
}

/// A lookup that is under way, until it is dropped.
pub struct Asked<'s> {
    shared: &'s Shared,
    name: Name,
}

impl NameServers {
    /// Those that `builder` asks.
    ///
    /// # Errors
    /// What hickory makes of a configuration that it can't use.
    pub fn new(mut builder: ResolverBuilder<TokioRuntimeProvider>) -> Result<NameServers, NetError> {
        let options = builder.options_mut();
        options.cache_size = 0;
        options.attempts = 1;
        options.timeout = PATIENCE;
        Ok(NameServers { probes: builder.build()?, shared: Arc::default() })
    }

    /// The same, as far as is known of them, asked by another configuration.
    ///
    /// # Errors
    /// Those of [`NameServers::new`].
    pub fn asking(&self, builder: ResolverBuilder<TokioRuntimeProvider>) -> Result<NameServers, NetError> {
        Ok(NameServers { shared: Arc::clone(&self.shared), ..NameServers::new(builder)? })
    }

    /// A lookup of `name` begins.
    pub fn asked(&self, name: &Name) -> Asked<'_> {
        *locked(&self.shared.under_way).entry(name.clone()).or_default() += 1;
        Asked { shared: &self.shared, name: name.clone() }
    }

    /// Whether `name` is being looked up.
    pub fn is_asked(&self, name: &Name) -> bool {
        locked(&self.shared.under_way).contains_key(name)
    }

    /// `name` has addresses.
    pub fn answered(&self, name: &Name) {
        let mut good = locked(&self.shared.good);
        if !good.contains(name) {
            if good.len() == REMEMBERED {
                good.pop_front();
            }
            good.push_back(name.clone());
        }
    }

    /// Whether they answer, by a probe that is at most 1 s old. A failure of `name` is the reason to ask; it proves nothing.
    pub async fn serve(&self, name: Option<&Name>) -> bool {
        let mut last = self.shared.last.lock().await;
        if let Some((at, serve)) = *last
            && at.elapsed() < HOLDS
        {
            return serve;
        }
        let serve = self.probe(name).await;
        *last = Some((Instant::now(), serve));
        serve
    }

    async fn probe(&self, failed: Option<&Name>) -> bool {
        let known: Vec<Name> = {
            let good = locked(&self.shared.good);
            good.iter().rev().filter(|name| Some(*name) != failed).take(ASKED).cloned().collect()
        };
        let mut questions = vec![(Name::root(), RecordType::NS)];
        questions.extend(known.into_iter().map(|name| (name, RecordType::A)));
        let asked = questions.into_iter().map(|(name, kind)| {
            let probes = self.probes.clone();
            Box::pin(async move {
                match probes.lookup(name, kind).await {
                    Err(error) if !is_answer(&error) => Err(error),
                    _ => Ok(()),
                }
            })
        });
        matches!(timeout(PATIENCE, select_ok(asked)).await, Ok(Ok(_)))
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        let mut under_way = locked(&self.shared.under_way);
        if let Some(count) = under_way.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                under_way.remove(&self.name);
            }
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
