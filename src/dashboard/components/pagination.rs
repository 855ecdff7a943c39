//! Pagination shared by the lists.

use crate::dashboard::components::filters::FilterParams;
use crate::dashboard::components::widgets::RelativeTime;
use crate::domain::Time;

/// Rows per page.
pub const LINES: usize = 50;

/// The links before and after a page.
pub struct Pagination {
    /// Whether any filter is set; `clear` is the list without filters.
    pub filtered: bool,
    pub clear: String,
    /// The first page, unless this is it.
    pub first: Option<String>,
    pub next: Option<String>,
    /// If the search stopped early: the link to continue, and the time that it reached.
    pub resume: Option<(String, RelativeTime)>,
}

impl Pagination {
    /// `last` is the cursor of the next page, `stopped` the cursor and time at which the search stopped early.
    pub fn of(
        params: &FilterParams,
        paged: bool,
        last: Option<String>,
        stopped: Option<(String, Time)>,
        now: Time,
    ) -> Pagination {
        let resume = stopped.map(|(cursor, time)| (params.after(&cursor), RelativeTime::new(time, now)));
        Pagination {
            filtered: params.any(),
            clear: params.bare().to_owned(),
            first: paged.then(|| params.first()),
            next: last.filter(|_| resume.is_none()).map(|cursor| params.after(&cursor)),
            resume,
        }
    }
}
