//! Pagination shared by the lists.

use crate::dashboard::components::filters::Asked;
use crate::dashboard::components::parts::When;
use crate::domain::Time;

/// Rows per page.
pub const LINES: usize = 50;

/// The links before and after a page.
pub struct Rest {
    /// Whether any filter is set; `clear` is the list without filters.
    pub filtered: bool,
    pub clear: String,
    /// The first page, unless this is it.
    pub first: Option<String>,
    pub next: Option<String>,
    /// The search stopped early: where to continue, and how far back it went.
    pub on: Option<(String, When)>,
}

impl Rest {
    /// `last` is the cursor of the next page, `stopped` the cursor and time at which the search stopped early.
    pub fn of(asked: &Asked, paged: bool, last: Option<String>, stopped: Option<(String, Time)>, now: Time) -> Rest {
        let on = stopped.map(|(cursor, time)| (asked.after(&cursor), When::new(time, now)));
        Rest {
            filtered: asked.any(),
            clear: asked.bare().to_owned(),
            first: paged.then(|| asked.first()),
            next: last.filter(|_| on.is_none()).map(|cursor| asked.after(&cursor)),
            on,
        }
    }
}
