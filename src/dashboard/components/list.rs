//! What the lists have in common: how long a page is, and where it goes on.

use crate::dashboard::components::filters::Asked;
use crate::dashboard::components::parts::When;
use crate::domain::Time;

/// How many rows are on a page.
pub const LINES: usize = 50;

/// What lies before and after a page.
pub struct Rest {
    /// There is any filter; without it the list is at `clear`.
    pub filtered: bool,
    pub clear: String,
    /// The first page, unless this is it.
    pub first: Option<String>,
    pub next: Option<String>,
    /// The page ended because enough was looked at: where the search goes on, and how far back it has come.
    pub on: Option<(String, When)>,
}

impl Rest {
    /// Of a page that ends with the cursor `last` and goes on, or at which the search `stopped`.
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
