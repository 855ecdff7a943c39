//! Which loads of endpoints are under way, and which of them bring what is out of date already: an application changed after they began. Its
//! lanes may not have been there yet to be loaded anew, and with a store of our own nothing else would tell.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::domain::{AppId, EndpointId};
use crate::store::directory::LiveEndpoint;

/// Endpoints that are to be loaded as they are now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Load {
    pub asked: Vec<EndpointId>,
    number: u64,
}

/// The loads under way.
#[derive(Debug, Default)]
pub struct Loads {
    next: u64,
    outstanding: BTreeSet<u64>,
    /// Applications that changed while something was being loaded: what began with a smaller number than this is out of date.
    changed: HashMap<AppId, u64>,
}

impl Loads {
    /// A load begins.
    pub fn begin(&mut self, asked: Vec<EndpointId>) -> Load {
        self.next += 1;
        self.outstanding.insert(self.next);
        Load { asked, number: self.next }
    }

    /// An application has changed.
    pub fn changed(&mut self, app: AppId) {
        if !self.outstanding.is_empty() {
            self.changed.insert(app, self.next + 1);
        }
    }

    /// A load has ended. Gives back which of `lives` are to be loaded again.
    pub fn ended(&mut self, load: &Load, lives: &[Arc<LiveEndpoint>]) -> Vec<EndpointId> {
        let outdated = |app: &AppId| self.changed.get(app).is_some_and(|since| load.number < *since);
        let again = lives.iter().filter(|live| outdated(&live.endpoint.app_id)).map(|live| live.endpoint.id).collect();
        self.outstanding.remove(&load.number);
        let first = self.outstanding.first().copied().unwrap_or(u64::MAX);
        self.changed.retain(|_, since| first < *since);
        again
    }
}
