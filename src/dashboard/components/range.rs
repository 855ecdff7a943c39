//! The time range of a page, from the URL.

use crate::dashboard::components::format::UrlQuery;
use crate::store::query::counts::ChartRange;

/// A link to another range.
pub struct RangeLink {
    pub name: &'static str,
    pub href: String,
    pub current: bool,
}

/// The range in the URL (`?range=7d`); the last hour by default.
pub fn of(query: &UrlQuery) -> ChartRange {
    let wanted = query.get("range").unwrap_or_default();
    ChartRange::ALL.into_iter().find(|range| word(*range) == wanted).unwrap_or(ChartRange::Hour)
}

/// The value in the URL.
pub fn word(range: ChartRange) -> &'static str {
    match range {
        ChartRange::Hour => "1h",
        ChartRange::Day => "24h",
        ChartRange::Week => "7d",
        ChartRange::Month => "30d",
    }
}

/// The start of a sentence about the range.
pub fn opening(range: ChartRange) -> &'static str {
    match range {
        ChartRange::Hour => "In the last hour",
        ChartRange::Day => "In the last 24 hours",
        ChartRange::Week => "In the last 7 days",
        ChartRange::Month => "In the last 30 days",
    }
}

/// Links to all ranges; `href` makes the URL of each.
pub fn links(current: ChartRange, href: impl Fn(ChartRange) -> String) -> Vec<RangeLink> {
    let name = |range| match range {
        ChartRange::Hour => "1 h",
        ChartRange::Day => "24 h",
        ChartRange::Week => "7 d",
        ChartRange::Month => "30 d",
    };
    let link = |range| RangeLink { name: name(range), href: href(range), current: range == current };
    ChartRange::ALL.into_iter().map(link).collect()
}
