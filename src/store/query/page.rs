//! Lists are read page by page, along their ids: an iterator is the id to go on from, never an offset.

use futures_util::{Stream, StreamExt};
use uuid::Uuid;

use crate::domain::limits::PAGE_BYTES;
use crate::store::StoreError;

/// Which way a list runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Oldest first.
    #[default]
    Ascending,
    /// Newest first.
    Descending,
}

impl Order {
    fn reversed(self) -> Order {
        match self {
            Order::Ascending => Order::Descending,
            Order::Descending => Order::Ascending,
        }
    }
}

/// Which part of a list is wanted.
#[derive(Clone, Debug)]
pub struct PageRequest<K> {
    /// At most this many items, 1–250.
    pub limit: usize,
    pub order: Order,
    /// Go on after this key.
    pub after: Option<K>,
    /// Walk back from `after` instead of on.
    pub back: bool,
}

impl<K> PageRequest<K> {
    /// The first `limit` items.
    pub fn first(limit: usize, order: Order) -> PageRequest<K> {
        PageRequest { limit, order, after: None, back: false }
    }

    /// The order in which the rows are to be read: walking back reads towards the beginning.
    pub(in crate::store) fn reading(&self) -> Order {
        if self.back { self.order.reversed() } else { self.order }
    }

    /// The comparison and the direction of the statement that reads the page.
    pub(in crate::store) fn sql(&self) -> (&'static str, &'static str) {
        match self.reading() {
            Order::Ascending => (">", "ASC"),
            Order::Descending => ("<", "DESC"),
        }
    }

    /// How many rows to read: one more than wanted tells whether there are more.
    pub(in crate::store) fn rows(&self) -> i64 {
        self.limit as i64 + 1
    }

    /// Makes a page of rows as they are read; `make` gives an item and about how many bytes it has. It ends early where its items have
    /// more than [`PAGE_BYTES`], so that no more than that is held.
    ///
    /// # Errors
    /// The store is away, or a row cannot be read.
    pub(in crate::store) async fn fill<R, T>(
        &self,
        rows: impl Stream<Item = Result<R, sqlx::Error>> + Unpin,
        make: impl FnMut(R) -> Result<(T, usize), StoreError>,
    ) -> Result<Page<T>, StoreError> {
        let (items, cut) = read_within(rows, make).await?;
        let page = self.page(items);
        Ok(Page { more: page.more || cut, ..page })
    }

    /// Makes a page of the rows that were read.
    pub(in crate::store) fn page<T>(&self, mut rows: Vec<T>) -> Page<T> {
        let more = rows.len() > self.limit;
        rows.truncate(self.limit);
        if self.back {
            rows.reverse();
        }
        Page { data: rows, more }
    }
}

/// Reads rows until their items have more than [`PAGE_BYTES`]. The second value says that this is why it ended: there may be more.
///
/// # Errors
/// The store is away, or a row cannot be read.
pub(in crate::store) async fn read_within<R, T>(
    mut rows: impl Stream<Item = Result<R, sqlx::Error>> + Unpin,
    mut make: impl FnMut(R) -> Result<(T, usize), StoreError>,
) -> Result<(Vec<T>, bool), StoreError> {
    let (mut items, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next().await {
        let (item, size) = make(row?)?;
        items.push(item);
        bytes += size;
        if bytes > PAGE_BYTES {
            return Ok((items, true));
        }
    }
    Ok((items, false))
}

impl<K: Copy + Into<Uuid>> PageRequest<K> {
    /// The id to read on from; before the first or after the last one where the request names none.
    pub(in crate::store) fn bound(&self) -> Uuid {
        match (self.after, self.reading()) {
            (Some(after), _) => after.into(),
            (None, Order::Ascending) => Uuid::nil(),
            (None, Order::Descending) => Uuid::max(),
        }
    }
}

/// A part of a list, in the list's order.
#[derive(Clone, Debug)]
pub struct Page<T> {
    pub data: Vec<T>,
    /// Whether there are more in the direction that was walked.
    pub more: bool,
}

impl<T> Page<T> {
    /// The same page of other things.
    pub fn map<U>(self, convert: impl FnMut(T) -> U) -> Page<U> {
        Page { data: self.data.into_iter().map(convert).collect(), more: self.more }
    }
}

/// How many rows are looked at for one page of a filtered list: what a filter costs that nothing matches.
pub const SCAN: usize = 10_000;

/// A page of a filtered list. It may end before it is full, because only [`SCAN`] rows are looked at for it.
#[derive(Clone, Debug)]
pub struct Scanned<T, K> {
    pub data: Vec<T>,
    /// Whether there are, or after such an end may be, more in the direction that was walked.
    pub more: bool,
    /// The last key that was looked at, where that is why the page ended: go on after it.
    pub stopped: Option<K>,
}

impl<T, K> Scanned<T, K> {
    /// Nothing, and nothing more.
    pub(in crate::store) fn nothing() -> Scanned<T, K> {
        Scanned { data: Vec::new(), more: false, stopped: None }
    }

    /// `page`, which was looked for up to `end` if that is `Some`.
    pub(in crate::store) fn new(page: Page<T>, end: Option<K>) -> Scanned<T, K> {
        let stopped = end.filter(|_| !page.more);
        Scanned { data: page.data, more: page.more || stopped.is_some(), stopped }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_row_more_says_that_there_is_more_and_walking_back_keeps_the_order() {
        let on = PageRequest::<u8>::first(2, Order::Ascending);
        assert_eq!((on.page(vec![1, 2, 3]).data, on.page(vec![1, 2, 3]).more), (vec![1, 2], true));
        assert!(!on.page(vec![1, 2]).more);
        let back = PageRequest { after: Some(4), back: true, ..on };
        assert_eq!(back.reading(), Order::Descending);
        assert_eq!(back.page(vec![3, 2, 1]).data, [2, 3]);
    }
}
