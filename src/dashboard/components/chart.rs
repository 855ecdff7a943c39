//! Charts as server-side SVG, each with a table of the same data.
//!
//! * [`Chart`] – attempts over time, stacked: delivered, failed and retried, dead.
//! * [`LatencyChart`] – response times over time: p50, p95 and p99.
//! * [`Axis`] – the shared time axis: position, label and link of each bucket.
//!
//! Horizontal positions are in percent, so a chart fits any width without stretching its lines.

mod attempt_chart;
mod latency_chart;

use crate::domain::Time;
use crate::store::query::counts::ChartRange;
use crate::store::recording::rollups::Bucket;

pub use crate::dashboard::components::chart::attempt_chart::Chart;
pub use crate::dashboard::components::chart::latency_chart::LatencyChart;

/// The top and bottom of the plot, in pixels. The time labels are below it.
const TOP: f64 = 8.0;
const BASE: f64 = 148.0;
const ROOM: f64 = BASE - TOP;

/// The time axis.
struct Axis<'a> {
    buckets: &'a [Bucket],
    range: ChartRange,
    /// Path and query of the linked list, to which a time range is appended: `/deliveries?`, `/deliveries?app=app_…&`.
    list: &'a str,
}

/// A label of the time axis.
struct Label {
    x: String,
    anchor: &'static str,
    text: Moment,
}

/// The start of a bucket. The script converts it to local time, unless the bucket is a UTC day.
#[derive(Clone, Debug)]
pub(in crate::dashboard) struct Moment {
    /// RFC 3339 to the second.
    pub at: String,
    /// In UTC: `14:05`, `22 Nov 15:00`, `22 Nov`.
    pub text: String,
    /// The form of the local time; `None`: stays in UTC.
    pub local: Option<&'static str>,
}

/// A horizontal grid line and its label.
struct Tick {
    y: String,
    /// The label's baseline.
    text_y: String,
    text: String,
}

impl Tick {
    fn new(y: f64, text: String) -> Tick {
        Tick { y: format!("{y:.1}"), text_y: format!("{:.1}", y + 4.0), text }
    }
}

impl Axis<'_> {
    /// The width of a bucket, in percent.
    fn slot(&self) -> f64 {
        100.0 / self.buckets.len().max(1) as f64
    }

    /// The name of a bucket's length.
    fn per(&self) -> &'static str {
        match self.range {
            ChartRange::Hour => "minute",
            ChartRange::Day => "hour",
            ChartRange::Week => "3 hours",
            ChartRange::Month => "day",
        }
    }

    /// The start of a bucket in UTC: `14:05`, `22 Nov 15:00`, `22 Nov`.
    fn time(&self, at: Time) -> String {
        match self.range {
            ChartRange::Hour => hour(at),
            ChartRange::Day | ChartRange::Week => format!("{} {}", day(at), hour(at)),
            ChartRange::Month => day(at),
        }
    }

    /// The start of a bucket, in full.
    fn moment(&self, at: Time) -> Moment {
        let local = match self.range {
            ChartRange::Hour => Some("minute"),
            ChartRange::Day | ChartRange::Week => Some("moment"),
            ChartRange::Month => None,
        };
        Moment { at: second(at), text: self.time(at), local }
    }

    /// Whether the bucket has not ended: the last one always contains the present.
    fn incomplete(&self, place: usize) -> bool {
        place + 1 == self.buckets.len()
    }

    /// The width of a bucket in seconds, if the script converts its times to local time.
    fn step(&self) -> Option<u64> {
        (self.range != ChartRange::Month).then(|| self.range.width().as_secs())
    }

    /// The range of a bucket: `14:05–14:06`, `22 Nov 15:00–18:00`, `22 Nov`.
    fn span(&self, at: Time) -> String {
        match self.range {
            ChartRange::Month => day(at),
            _ => format!("{}–{}", self.time(at), hour(at.plus(self.range.width()))),
        }
    }

    /// The list of a bucket's deliveries.
    fn href(&self, at: Time) -> String {
        format!("{}since={}&until={}", self.list, second(at), second(at.plus(self.range.width())))
    }

    /// Three to five labels at regular intervals.
    fn labels(&self) -> Vec<Label> {
        let minutes = |count: u64| std::time::Duration::from_secs(count * 60);
        let step = match self.range {
            ChartRange::Hour => minutes(15),
            ChartRange::Day => minutes(360),
            ChartRange::Week => minutes(2 * 1_440),
            ChartRange::Month => minutes(7 * 1_440),
        };
        let label = |(i, bucket): (usize, &Bucket)| {
            let x = (i as f64 + 0.5) * self.slot();
            let anchor = match x {
                x if x < 4.0 => "start",
                x if x > 96.0 => "end",
                _ => "middle",
            };
            let (text, local) = match self.range {
                ChartRange::Hour | ChartRange::Day => (hour(bucket.at), Some("minute")),
                ChartRange::Week => (day(bucket.at), Some("moment")),
                ChartRange::Month => (day(bucket.at), None),
            };
            Label { x: format!("{x:.3}"), anchor, text: Moment { at: second(bucket.at), text, local } }
        };
        self.buckets.iter().enumerate().filter(|(_, bucket)| bucket.at.floor(step) == bucket.at).map(label).collect()
    }
}

/// The end of the tooltip of a bucket that has not ended.
const SO_FAR: &str = " so far";

/// `14:05`.
fn hour(at: Time) -> String {
    at.to_string().get(11..16).unwrap_or_default().to_owned()
}

/// `22 Nov`.
fn day(at: Time) -> String {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let text = at.to_string();
    let number =
        |range: std::ops::Range<usize>| text.get(range).and_then(|digits| digits.parse::<usize>().ok()).unwrap_or(1);
    format!("{} {}", number(8..10), MONTHS.get(number(5..7) - 1).unwrap_or(&""))
}

/// RFC 3339 to the second, `2026-11-22T14:05:00Z`: needs no escaping in a query.
pub fn second(at: Time) -> String {
    format!("{}Z", at.to_string().get(..19).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use crate::dashboard::components::chart::*;
    use crate::store::recording::rollups::Counts;

    #[test]
    fn bucket_labels_fit_the_range() {
        let at = Time::parse("2026-11-22T15:00:00Z").unwrap();
        let said = |range| {
            let axis = Axis { buckets: &[], range, list: "/deliveries?" };
            (axis.span(at), axis.href(at))
        };
        assert_eq!(said(ChartRange::Hour).0, "15:00–15:01");
        assert_eq!(said(ChartRange::Week).0, "22 Nov 15:00–18:00");
        assert_eq!(said(ChartRange::Month).0, "22 Nov");
        let href = "/deliveries?since=2026-11-22T15:00:00Z&until=2026-11-22T16:00:00Z";
        assert_eq!(said(ChartRange::Day), ("22 Nov 15:00–16:00".to_owned(), href.to_owned()));
    }

    #[test]
    fn every_range_has_three_to_five_labels() {
        let width = |range: ChartRange| range.width();
        for hours in 0..400u64 {
            let now = Time::parse("2026-01-01T00:07:00Z").unwrap().plus(std::time::Duration::from_secs(hours * 3_611));
            for range in ChartRange::ALL {
                let count = now.since(range.since(now)).as_secs() / width(range).as_secs() + 1;
                let bucket = |n| Bucket { at: range.since(now).plus(width(range) * n), counts: Counts::default() };
                let buckets: Vec<Bucket> = (0..count as u32).map(bucket).collect();
                let axis = Axis { buckets: &buckets, range, list: "/?" };
                assert!((3..=5).contains(&axis.labels().len()), "{range:?} at {now}");
            }
        }
    }
}
