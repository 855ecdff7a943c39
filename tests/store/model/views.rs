//! The views: everything a store says about itself, compared with what the model has.
//!
//! A list is [`walk`]ed through page by page, on from its beginning and back from its end: each row exactly once, in order, and `more`
//! exactly where there is more.

mod people;
mod things;
mod traffic;

use std::fmt::Debug;

use sendoff::store::{Order, Page, PageRequest, Scanned, StoreError};

use super::acts::Look;
use super::run::{Checked, World, said};

/// What can be looked at.
pub const VIEWS: [&str; 23] = [
    "applications",
    "an application",
    "the catalog",
    "keys",
    "endpoints",
    "an endpoint",
    "lines",
    "background work",
    "messages",
    "a message",
    "attempts",
    "an attempt",
    "list of deliveries",
    "list of messages",
    "an endpoint's messages",
    "standings",
    "lanes",
    "the oldest",
    "the outbox",
    "processes",
    "what sending needs",
    "counts",
    "what is sought",
];

impl World {
    /// Looks at one of them.
    pub async fn view(&self, look: &Look) -> Checked {
        let view = VIEWS[usize::from(look.view) % VIEWS.len()];
        let seen = match view {
            "applications" => self.applications(look).await,
            "an application" => self.application(look).await,
            "the catalog" => self.catalog(look).await,
            "keys" => self.keys(look).await,
            "endpoints" => self.endpoints(look).await,
            "an endpoint" => self.endpoint(look).await,
            "lines" => self.lines(look).await,
            "background work" => self.backgrounds(look).await,
            "messages" => self.messages(look).await,
            "a message" => self.message(look).await,
            "attempts" => self.attempts(look).await,
            "an attempt" => self.attempt(look).await,
            "list of deliveries" => self.list_deliveries(look).await,
            "list of messages" => self.list_messages(look).await,
            "an endpoint's messages" => self.endpoint_messages(look).await,
            "standings" => self.standings(look).await,
            "lanes" => self.lanes(look).await,
            "the oldest" => self.oldest(look).await,
            "the outbox" => self.outbox().await,
            "processes" => self.processes().await,
            "what sending needs" => self.sending(look).await,
            "counts" => self.counts(look).await,
            _ => self.sought(look).await,
        };
        seen.map_err(|difference| format!("{view}: {difference}"))
    }
}

/// A part of a list, and whether there is more.
pub struct Part<T> {
    data: Vec<T>,
    more: bool,
}

impl<T> From<Page<T>> for Part<T> {
    fn from(page: Page<T>) -> Part<T> {
        Part { data: page.data, more: page.more }
    }
}

impl<T, K> From<Scanned<T, K>> for Part<T> {
    fn from(page: Scanned<T, K>) -> Part<T> {
        Part { data: page.data, more: page.more }
    }
}

/// Whether a flag of a look is set.
pub fn bit(look: &Look, n: u8) -> bool {
    look.filter >> n & 1 == 1
}

/// Walks through a list, of which `wanted` are the keys and rows from the least to the greatest key.
pub async fn walk<T, K, P>(
    look: &Look,
    mut wanted: Vec<(K, T)>,
    key: impl Fn(&T) -> K,
    read: impl AsyncFn(PageRequest<K>) -> Result<P, StoreError>,
) -> Checked
where
    T: PartialEq + Debug,
    K: Clone + PartialEq + Debug,
    P: Into<Part<T>>,
{
    let (limit, order) = (usize::from(look.limit), if look.newest { Order::Descending } else { Order::Ascending });
    if look.newest {
        wanted.reverse();
    }
    let (mut at, mut after) = (0, None);
    loop {
        let page: Part<T> = said(read(PageRequest { limit, order, after: after.clone(), back: false }).await)?.into();
        let end = (at + limit).min(wanted.len());
        compare(&format!("on after {after:?}"), &page, &wanted[at..end], end < wanted.len())?;
        (at, after) = (end, page.data.last().map(&key).or(after));
        if !page.more {
            break;
        }
    }
    while let Some((last, _)) = at.checked_sub(1).and_then(|place| wanted.get(place)) {
        let (back, after) = (true, Some(last.clone()));
        let page: Part<T> = said(read(PageRequest { limit, order, after, back }).await)?.into();
        let begin = (at - 1).saturating_sub(limit);
        compare(&format!("back from {last:?}"), &page, &wanted[begin..at - 1], begin > 0)?;
        at = begin + usize::from(begin > 0);
    }
    Ok(())
}

/// A list that only goes on: `read` gives at most so many after a key.
pub async fn walk_on<T, K, P>(
    look: &Look,
    wanted: Vec<(K, T)>,
    read: impl AsyncFn(Option<K>, usize) -> Result<P, StoreError>,
) -> Checked
where
    T: PartialEq + Debug,
    K: Clone + PartialEq + Debug,
    P: Into<Part<T>>,
{
    let (limit, mut at) = (usize::from(look.limit), 0_usize);
    loop {
        let after = at.checked_sub(1).map(|place| wanted[place].0.clone());
        let page: Part<T> = said(read(after.clone(), limit).await)?.into();
        let end = (at + limit).min(wanted.len());
        compare(&format!("on after {after:?}"), &page, &wanted[at..end], end < wanted.len())?;
        at = end;
        if !page.more {
            return Ok(());
        }
    }
}

fn compare<T: PartialEq + Debug, K: Debug>(what: &str, page: &Part<T>, wanted: &[(K, T)], more: bool) -> Checked {
    let rows = page.data.iter().eq(wanted.iter().map(|(_, row)| row));
    if rows && page.more == more {
        return Ok(());
    }
    let rows: Vec<&T> = wanted.iter().map(|(_, row)| row).collect();
    let found = (&page.data, page.more);
    Err(format!("{what}\n  the store: {found:?}\n  the model: {:?}", (rows, more)))
}
