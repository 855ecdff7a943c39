//! Messages to applications that are not in the routing cache and too large to be read in the accepting transaction.
//! These messages wait beside the queue while their application is loaded, and do not block others.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use tokio::task::JoinHandle;

use super::queue::Write;
use crate::domain::AppId;
use crate::store::ingest::routing_load;
use crate::store::{Inner, StoreError};

/// The waiting messages by application. One application is loaded at a time, in order of arrival.
#[derive(Default)]
pub(super) struct PendingLoads {
    waiting: HashMap<AppId, Vec<Write>>,
    /// The applications in `waiting`, except for the one being loaded.
    next: VecDeque<AppId>,
    task: Option<(AppId, JoinHandle<Result<(), StoreError>>)>,
    /// The number of waiting messages.
    count: usize,
}

impl PendingLoads {
    /// Adds messages, and starts the next load. Messages beyond `most` in total fail with [`StoreError::Overloaded`].
    pub(super) fn add(&mut self, inner: &Arc<Inner>, writes: Vec<(AppId, Write)>, most: usize) {
        for (app, write) in writes {
            if self.count >= most {
                write.fail(&StoreError::Overloaded);
                continue;
            }
            self.count += 1;
            if !self.waiting.contains_key(&app) {
                self.next.push_back(app);
            }
            self.waiting.entry(app).or_default().push(write);
        }
        // Called after each batch, so the messages of the previous load have been stored: a load in between could evict
        // their application from the cache.
        if self.task.is_none()
            && let Some(app) = self.next.pop_front()
        {
            let inner = inner.clone();
            self.task = Some((app, tokio::spawn(async move { routing_load::load(&inner, app).await })));
        }
    }

    /// Waits for a load and returns its messages; pending forever if there is none. Cancel-safe.
    pub(super) async fn ready(&mut self) -> Vec<Write> {
        let (app, loaded) = match &mut self.task {
            Some((app, task)) => (*app, task.await),
            None => std::future::pending().await,
        };
        self.task = None;
        let writes = self.waiting.remove(&app).unwrap_or_default();
        self.count -= writes.len();
        let failed = match loaded {
            Ok(Ok(())) => return writes,
            Ok(Err(error)) => error,
            Err(error) => StoreError::Unavailable(format!("cannot load the application's endpoints: {error}")),
        };
        for write in writes {
            write.fail(&failed);
        }
        Vec::new()
    }
}
