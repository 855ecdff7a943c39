//! Messages to applications that have to be loaded first. They wait beside the queue: everybody else's messages go on
//! meanwhile.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use tokio::task::JoinHandle;

use super::queue::Write;
use crate::domain::AppId;
use crate::store::ingest::routing_load;
use crate::store::{Inner, StoreError};

/// The messages that wait. One application is loaded at a time, in the order in which they came.
#[derive(Default)]
pub(super) struct Loading {
    waiting: HashMap<AppId, Vec<Write>>,
    /// The applications in `pending_deliveries`, but for the one that is being loaded.
    next: VecDeque<AppId>,
    task: Option<(AppId, JoinHandle<Result<(), StoreError>>)>,
    /// How many messages wait.
    count: usize,
}

impl Loading {
    /// Takes messages whose applications have to be loaded, and has the next one loaded. Beyond `most` messages in
    /// all, callers are turned away.
    pub(super) fn wait(&mut self, inner: &Arc<Inner>, writes: Vec<(AppId, Write)>, most: usize) {
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
        // Only now that what was loaded before has had its transaction: with another one in between it might be
        // forgotten again.
        if self.task.is_none()
            && let Some(app) = self.next.pop_front()
        {
            let inner = inner.clone();
            self.task = Some((app, tokio::spawn(async move { routing_load::load(&inner, app).await })));
        }
    }

    /// The messages whose application has been loaded. Never, if none is being loaded. Dropped before it is done, it
    /// loses nothing.
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
            Err(error) => StoreError::Unavailable(format!("its endpoints were not loaded: {error}")),
        };
        for write in writes {
            write.fail(&failed);
        }
        Vec::new()
    }
}
