//! The time range of a page, from the URL.

use crate::dashboard::components::format::UrlQuery;
use crate::store::query::counts::Range;

/// A link to another range.
pub struct RangeLink {
    pub name: &'static str,
    pub href: String,
    pub current: bool,
}

/// The range in the URL (`?range=7d`); the last hour by default.
pub fn of(query: &UrlQuery) -> Range {
    let wanted = query.get("range").unwrap_or_default();
    Range::ALL.into_iter().find(|range| word(*range) == wanted).unwrap_or(Range::Hour)
}

/// The value in the URL.
pub fn word(range: Range) -> &'static str {
    match range {
        Range::Hour => "1h",
        Range::Day => "24h",
        Range::Week => "7d",
        Range::Month => "30d",
    }
}

/// The start of a sentence about the range.
pub fn opening(range: Range) -> &'static str {
    match range {
        Range::Hour => "In the last hour",
        Range::Day => "In the last 24 hours",
        Range::Week => "In the last 7 days",
        Range::Month => "In the last 30 days",
    }
}

/// Links to all ranges; `href` makes the URL of each.
pub fn links(current: Range, href: impl Fn(Range) -> String) -> Vec<RangeLink> {
    let name = |range| match range {
        Range::Hour => "1 h",
        Range::Day => "24 h",
        Range::Week => "7 d",
        Range::Month => "30 d",
    };
    let link = |range| RangeLink { name: name(range), href: href(range), current: range == current };
    Range::ALL.into_iter().map(link).collect()
}
