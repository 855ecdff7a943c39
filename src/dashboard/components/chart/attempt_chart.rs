//! Attempts over time, as stacked bars: delivered, failed and retried, dead.

use std::cmp::Ordering;

use askama::Template;
use askama::filters::HtmlSafe;

use crate::dashboard::components::chart::second;
use crate::dashboard::components::chart::{Axis, BASE, Label, Moment, ROOM, SO_FAR, TOP, Tick};
use crate::dashboard::components::format::{count, counted};
use crate::store::query::counts::ChartRange;
use crate::store::query::period_totals::PeriodTotals;
use crate::store::recording::rollups::{Bucket, Counts, total};

/// The minimum height of a part that is not zero, in pixels. Larger parts are in proportion to their counts.
const LEAST: f64 = 1.0;

/// A part of a bar, with formatted SVG attributes.
struct BarPart {
    kind: &'static str,
    y: String,
    height: String,
}

/// The bar of a bucket that is not empty.
struct Bar {
    x: String,
    width: String,
    parts: Vec<BarPart>,
    title: String,
    href: String,
    /// RFC 3339 start of the bucket.
    at: String,
    incomplete: bool,
}

struct Row {
    time: Moment,
    incomplete: bool,
    href: String,
    delivered: String,
    retried: String,
    failed: String,
}

#[derive(Template)]
#[template(path = "parts/attempt_chart.html")]
pub struct Chart {
    /// The length of a bucket: `minute`, `3 hours`.
    per: &'static str,
    /// The length of a bucket in seconds; `None`: times stay in UTC.
    step: Option<u64>,
    /// The width of a bar including its gap, in percent.
    slot: String,
    bars: Vec<Bar>,
    labels: Vec<Label>,
    ticks: Vec<Tick>,
    summary: String,
    /// The totals, or a comparison with the previous period. The script shows the numbers of a bar here.
    readout: String,
    rows: Vec<Row>,
}

impl HtmlSafe for Chart {}

impl Chart {
    /// Draws the buckets of a range, in order. Bars link to `list`, the path and query of a list of deliveries, to
    /// which `since` and `until` are appended: `/deliveries?`, `/deliveries?app=app_…&`.
    pub fn new(buckets: &[Bucket], range: ChartRange, list: &str) -> Chart {
        let axis = Axis { buckets, range, list };
        let most = buckets.iter().map(|bucket| bucket.counts.attempts()).max().unwrap_or(0);
        let top = round_up(most);
        let sum = total(buckets);
        let filled = || buckets.iter().enumerate().filter(|(_, bucket)| bucket.counts.attempts() > 0);
        let tick = |value: i64| Tick::new(BASE - value as f64 / top as f64 * ROOM, short(value));
        Chart {
            per: axis.per(),
            step: axis.step(),
            slot: format!("{:.3}", axis.slot()),
            bars: filled().map(|(i, bucket)| Bar::new(&axis, i, bucket, top)).collect(),
            labels: axis.labels(),
            ticks: [0, top / 2, top].map(tick).into(),
            summary: format!("Attempts per {}: {}", axis.per(), said(&sum)),
            readout: format!("{}.", said(&sum)),
            rows: filled().rev().map(|(i, bucket)| Row::new(&axis, i, bucket)).collect(),
        }
    }

    /// Adds a comparison of the last full period with the one before. Without attempts in the earlier one, there is
    /// nothing to compare.
    pub fn compared(self, totals: &PeriodTotals) -> Chart {
        let PeriodTotals { previous, last, range } = totals;
        let (before, after) = (previous.attempts(), last.attempts());
        if before == 0 {
            return self;
        }
        let period = match range {
            ChartRange::Hour => "hour",
            ChartRange::Day => "24 hours",
            ChartRange::Week => "7 days",
            ChartRange::Month => "30 days",
        };
        let change = (after - before) as f64 / before as f64 * 100.0;
        let change = match after.cmp(&before) {
            Ordering::Equal => "as many as".to_owned(),
            // More than tenfold, a percentage is hard to read.
            Ordering::Greater if change >= 900.0 => format!("{} times as many as", count(after / before)),
            Ordering::Greater => format!("{} % more than", count((change.round() as i64).max(1))),
            Ordering::Less => format!("{} % fewer than", count((-change.round() as i64).clamp(1, 100))),
        };
        let readout = format!(
            "Last full {period}: {}, {change} in the {period} before; {} failed, before {}.",
            counted(after, "attempt", "attempts"),
            count(last.failed),
            count(previous.failed),
        );
        Chart { readout, ..self }
    }
}

impl Bar {
    fn new(axis: &Axis<'_>, place: usize, bucket: &Bucket, top: i64) -> Bar {
        let parts = stack([bucket.counts.delivered, bucket.counts.retried, bucket.counts.dead], top);
        let part = |(kind, (y, height)): (&'static str, (f64, f64))| BarPart {
            kind,
            y: format!("{y:.1}"),
            height: format!("{height:.1}"),
        };
        Bar {
            x: format!("{:.3}", place as f64 * axis.slot()),
            width: format!("{:.3}", axis.slot() * 0.8),
            parts: ["delivered", "retried", "dead"]
                .into_iter()
                .zip(parts)
                .filter(|(_, (_, h))| *h > 0.0)
                .map(part)
                .collect(),
            title: format!(
                "{} UTC: {}{}",
                axis.span(bucket.at),
                said(&bucket.counts),
                if axis.incomplete(place) { SO_FAR } else { "" }
            ),
            href: axis.href(bucket.at),
            at: second(bucket.at),
            incomplete: axis.incomplete(place),
        }
    }
}

impl Row {
    fn new(axis: &Axis<'_>, place: usize, bucket: &Bucket) -> Row {
        Row {
            time: axis.moment(bucket.at),
            incomplete: axis.incomplete(place),
            href: axis.href(bucket.at),
            delivered: count(bucket.counts.delivered),
            retried: count(bucket.counts.retried),
            failed: count(bucket.counts.dead),
        }
    }
}

fn said(counts: &Counts) -> String {
    let [delivered, retried, dead] = [counts.delivered, counts.retried, counts.dead].map(count);
    format!("{delivered} delivered, {retried} failed and retried, {dead} dead")
}

/// The top and height of each part, from the base up: in proportion, but at least [`LEAST`]. If the sum exceeds the
/// plot, the highest part shrinks.
fn stack(parts: [i64; 3], top: i64) -> [(f64, f64); 3] {
    let height = |part: i64| if part > 0 { (part as f64 / top.max(1) as f64 * ROOM).max(LEAST) } else { 0.0 };
    let mut heights = parts.map(height);
    let over = heights.iter().sum::<f64>() - ROOM;
    if let Some(highest) = heights.iter_mut().max_by(|one, other| one.total_cmp(other)).filter(|_| over > 0.0) {
        *highest -= over;
    }
    let mut y = BASE;
    heights.map(|height| {
        y = (y - height).max(TOP);
        (y, height)
    })
}

/// The next round number with a round half: 2, 4, 6, 8, 10, 12, 16, 20, 24, 30 …
fn round_up(most: i64) -> i64 {
    const ROUND: [i64; 14] = [2, 4, 6, 8, 10, 12, 16, 20, 24, 30, 40, 50, 60, 80];
    let mut unit = 1i64;
    while unit.saturating_mul(80) < most {
        unit = unit.saturating_mul(10);
    }
    ROUND.map(|n| n.saturating_mul(unit)).into_iter().find(|n| *n >= most).unwrap_or(i64::MAX)
}

/// Round numbers in short: `8,000`, `120k`, `1.2M`.
fn short(n: i64) -> String {
    match n {
        0..10_000 => count(n),
        10_000..1_000_000 => format!("{}k", n as f64 / 1_000.0),
        _ => format!("{}M", n as f64 / 1_000_000.0),
    }
}

#[cfg(test)]
mod tests {
    use crate::dashboard::components::chart::attempt_chart::*;
    use crate::domain::Time;

    fn bucket(at: &str, delivered: i64, retried: i64, dead: i64) -> Bucket {
        let counts = Counts { delivered, failed: retried + dead, dead, retried, ..Counts::default() };
        Bucket { at: Time::parse(at).unwrap(), counts }
    }

    #[test]
    fn bars_have_a_title_and_a_link() {
        let buckets = [
            bucket("2026-11-22T00:00:00Z", 10, 1, 1),
            bucket("2026-11-22T01:00:00Z", 0, 0, 0),
            bucket("2026-11-22T02:00:00Z", 1_500, 0, 0),
        ];
        let html = Chart::new(&buckets, ChartRange::Day, "/deliveries?app=app_1&").to_string();
        assert!(html.contains("Attempts per hour: 1,510 delivered, 1 failed and retried, 1 dead"), "{html}");
        assert!(html.contains("22 Nov 00:00–01:00 UTC: 10 delivered, 1 failed and retried, 1 dead"), "{html}");
        let href = "/deliveries?app=app_1&#38;since=2026-11-22T00:00:00Z&#38;until=2026-11-22T01:00:00Z";
        assert_eq!(html.matches(href).count(), 2, "a bar and a row: {html}");
        assert_eq!(html.matches("<tr>").count(), 3, "a head and two rows: {html}");
        assert_eq!(html.matches("class=\"hit\"").count(), 2, "{html}");
    }

    #[test]
    fn the_last_bar_is_marked_as_incomplete() {
        let buckets = [bucket("2026-11-22T00:00:00Z", 1, 0, 0), bucket("2026-11-22T01:00:00Z", 2, 0, 0)];
        let html = Chart::new(&buckets, ChartRange::Day, "/?").to_string();
        assert_eq!(html.matches("so-far").count(), 1, "{html}");
        assert!(html.contains("01:00–02:00 UTC: 2 delivered, 0 failed and retried, 0 dead so far"), "{html}");
        assert!(html.contains("22 Nov 01:00</time></a> so far"), "{html}");
    }

    #[test]
    fn a_period_is_compared_with_the_one_before() {
        let said = |before: (i64, i64), after: (i64, i64)| {
            let counts = |(delivered, failed)| Counts { delivered, failed, ..Counts::default() };
            let totals = PeriodTotals { previous: counts(before), last: counts(after), range: ChartRange::Day };
            Chart::new(&[], ChartRange::Day, "/?").compared(&totals).readout
        };
        let start = "Last full 24 hours: ";
        assert_eq!(
            said((90, 10), (108, 1)),
            format!("{start}109 attempts, 9 % more than in the 24 hours before; 1 failed, before 10.")
        );
        assert!(said((100, 0), (1, 0)).contains("1 attempt, 99 % fewer than"));
        assert!(said((100_000, 0), (99_999, 0)).contains("1 % fewer"));
        assert!(said((2, 0), (30, 0)).contains("15 times as many as"));
        assert!(said((2, 0), (2, 0)).contains("2 attempts, as many as in the"));
        assert_eq!(said((0, 0), (2, 0)), "0 delivered, 0 failed and retried, 0 dead.");
    }

    #[test]
    fn empty_charts_have_no_bars() {
        let html = Chart::new(&[], ChartRange::Hour, "/?").to_string();
        assert!(!html.contains("<rect"), "{html}");
    }

    #[test]
    fn bars_fit_the_plot_and_every_part_is_visible() {
        for parts in [[1, 0, 0], [0, 1, 1], [12_000, 9, 3], [1, 1_000_000, 1], [0, 0, 7], [1, 1, 1_000_000]] {
            let top = round_up(parts.iter().sum());
            let mut base = BASE;
            for ((y, height), part) in stack(parts, top).into_iter().zip(parts) {
                assert_eq!(height > 0.0, part > 0, "{parts:?}");
                assert!(height == 0.0 || height >= LEAST - 0.01, "{parts:?}");
                assert!(y >= TOP - 0.01 && (y + height - base).abs() < 0.01, "{parts:?}: {y} {height}");
                base = y;
            }
        }
    }

    #[test]
    fn heights_are_proportional() {
        for (count, height) in [(1_000, 140.0), (500, 70.0), (100, 14.0), (20, 2.8), (8, 1.12), (1, 1.0), (0, 0.0)] {
            let [(_, delivered), ..] = stack([count, 0, 0], 1_000);
            assert!((delivered - height).abs() < 0.01, "{count}: {delivered}");
        }
    }

    #[test]
    fn scale_ends_at_a_round_number() {
        for (most, top) in [(0, 2), (1, 2), (3, 4), (10, 10), (13, 16), (81, 100), (206, 240), (7_001, 8_000)] {
            assert_eq!(round_up(most), top, "{most}");
        }
        assert_eq!(round_up(i64::MAX), i64::MAX);
        assert_eq!([8_000, 12_000, 1_200_000].map(short), ["8,000", "12k", "1.2M"]);
    }
}
