//! Pagination by key: an iterator is the key to continue after, never an offset.

use futures_util::{Stream, StreamExt};
use uuid::Uuid;

use crate::domain::limits::PAGE_BYTES;
use crate::store::StoreError;

/// The order of a list.
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

/// The requested part of a list.
#[derive(Clone, Debug)]
pub struct PageRequest<K> {
    /// Maximum number of items, 1–250.
    pub limit: usize,
    pub order: Order,
    /// The key to continue after.
    pub after: Option<K>,
    /// Read the items before `after` instead.
    pub back: bool,
}

impl<K> PageRequest<K> {
    /// The first `limit` items.
    pub fn first(limit: usize, order: Order) -> PageRequest<K> {
        PageRequest { limit, order, after: None, back: false }
    }

    /// The order in which rows are read: reversed when paging back.
    pub(in crate::store) fn reading(&self) -> Order {
        if self.back { self.order.reversed() } else { self.order }
    }

    /// The comparison operator and the sort direction.
    pub(in crate::store) fn sql(&self) -> (&'static str, &'static str) {
        match self.reading() {
            Order::Ascending => (">", "ASC"),
            Order::Descending => ("<", "DESC"),
        }
    }

    /// The number of rows to read: one extra row tells whether there are more.
    pub(in crate::store) fn rows(&self) -> i64 {
        self.limit as i64 + 1
    }

    /// Builds a page from a stream of rows; `make` returns an item and its approximate size in bytes. The page ends
    /// early at [`PAGE_BYTES`], which bounds the memory.
    ///
    /// # Errors
    /// The store is unavailable, or a row cannot be read.
    pub(in crate::store) async fn fill<R, T>(
        &self,
        rows: impl Stream<Item = Result<R, sqlx::Error>> + Unpin,
        make: impl FnMut(R) -> Result<(T, usize), StoreError>,
    ) -> Result<Page<T>, StoreError> {
        let (items, cut) = read_within(rows, make).await?;
        let page = self.page(items);
        Ok(Page { more: page.more || cut, ..page })
    }

    /// Builds a page from the rows read.
    pub(in crate::store) fn page<T>(&self, mut rows: Vec<T>) -> Page<T> {
        let more = rows.len() > self.limit;
        rows.truncate(self.limit);
        if self.back {
            rows.reverse();
        }
        Page { data: rows, more }
    }
}

/// Reads rows until their items exceed [`PAGE_BYTES`]. The second value is `true` if this limit ended the read, so
/// there may be more.
///
/// # Errors
/// The store is unavailable, or a row cannot be read.
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
    /// The id to continue after; by default the smallest or largest possible one.
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
    /// Whether there are more in the direction of reading.
    pub more: bool,
}

impl<T> Page<T> {
    /// Converts the items.
    pub fn map<U>(self, convert: impl FnMut(T) -> U) -> Page<U> {
        Page { data: self.data.into_iter().map(convert).collect(), more: self.more }
    }
}

/// Maximum rows scanned for one page of a filtered list, even if none matches.
pub const SCAN: usize = 10_000;

/// A page of a filtered list. It may end before it is full, because at most [`SCAN`] rows are scanned for it.
#[derive(Clone, Debug)]
pub struct Scanned<T, K> {
    pub data: Vec<T>,
    /// Whether there are more items in the direction of reading. After an early end: whether there may be.
    pub more: bool,
    /// The last scanned key, if the scan limit ended the page: continue after it.
    pub stopped: Option<K>,
}

impl<T, K> Scanned<T, K> {
    /// An empty page.
    pub(in crate::store) fn nothing() -> Scanned<T, K> {
        Scanned { data: Vec::new(), more: false, stopped: None }
    }

    /// `page`, with the key at which the scan stopped.
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
