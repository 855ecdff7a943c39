//! Response times over time: p50, p95 and p99. A line is interrupted where there are too few attempts.
//!
//! The scale is logarithmic, like the histogram that the quantiles are estimated from: a p50 of 20 ms and a p99 of 4 s
//! both stay readable.

use std::time::Duration;

use askama::Template;
use askama::filters::HtmlSafe;

use crate::dashboard::components::chart::{Axis, BASE, Label, Moment, ROOM, SO_FAR, Tick, second};
use crate::dashboard::components::format::count;
use crate::dashboard::endpoints::endpoint_stats::{ResponseTimes, about};
use crate::store::query::counts::ChartRange;
use crate::store::recording::rollups::{Bucket, total};

/// The CSS class and name of each line, in the order of [`ResponseTimes::all`].
const LINES: [&str; 3] = ["p50", "p95", "p99"];
/// The width of a bucket in the coordinates of the lines, which are stretched.
const STEP: f64 = 10.0;

/// A line without gaps.
struct LineSegment {
    kind: &'static str,
    points: String,
}

/// The tooltip and link of a bucket.
struct Spot {
    x: String,
    title: String,
    href: String,
    /// RFC 3339 start of the bucket.
    at: String,
}

struct Row {
    time: Moment,
    incomplete: bool,
    href: String,
    quantiles: [String; 3],
    attempts: String,
}

#[derive(Template)]
#[template(path = "parts/latency_chart.html")]
pub struct LatencyChart {
    per: &'static str,
    /// The length of a bucket in seconds; `None`: times stay in UTC.
    step: Option<u64>,
    slot: String,
    /// The width of all buckets in the coordinates of the lines.
    across: String,
    runs: Vec<LineSegment>,
    spots: Vec<Spot>,
    labels: Vec<Label>,
    ticks: Vec<Tick>,
    summary: String,
    /// The total. The script shows the numbers of a bucket here.
    readout: String,
    rows: Vec<Row>,
}

impl HtmlSafe for LatencyChart {}

impl LatencyChart {
    /// Draws the buckets of a range, in order; `list` as for
    /// [`Chart`](crate::dashboard::components::chart::Chart::new).
    pub fn new(buckets: &[Bucket], range: ChartRange, list: &str) -> LatencyChart {
        let axis = Axis { buckets, range, list };
        let values: Vec<Option<ResponseTimes>> =
            buckets.iter().map(|bucket| ResponseTimes::of(&bucket.counts)).collect();
        let scale = Scale::of(values.iter().flatten().flat_map(ResponseTimes::all).flatten());
        let filled = || buckets.iter().zip(&values).enumerate().filter_map(|(i, (b, v))| Some((i, b, (*v)?)));
        let spot = |(i, bucket, times): (usize, &Bucket, ResponseTimes)| Spot {
            x: format!("{:.3}", i as f64 * axis.slot()),
            title: format!(
                "{} UTC: {}{}",
                axis.span(bucket.at),
                times.text(),
                if axis.incomplete(i) { SO_FAR } else { "" }
            ),
            href: axis.href(bucket.at),
            at: second(bucket.at),
        };
        let row = |(i, bucket, times): (usize, &Bucket, ResponseTimes)| Row {
            time: axis.moment(bucket.at),
            incomplete: axis.incomplete(i),
            href: axis.href(bucket.at),
            quantiles: times.all().map(|time| time.map_or_else(|| "–".to_owned(), about)),
            attempts: count(bucket.counts.attempts()),
        };
        let line = |(line, kind): (usize, &'static str)| {
            let values: Vec<Option<Duration>> = values.iter().map(|times| (*times)?.all()[line]).collect();
            runs(kind, &values, |time| scale.y(time))
        };
        let sum = ResponseTimes::of(&total(buckets)).map_or_else(|| "no attempts".to_owned(), |all| all.text());
        LatencyChart {
            per: axis.per(),
            step: axis.step(),
            slot: format!("{:.3}", axis.slot()),
            across: format!("{}", buckets.len() as f64 * STEP),
            runs: LINES.into_iter().enumerate().flat_map(line).collect(),
            spots: filled().map(spot).collect(),
            labels: axis.labels(),
            ticks: scale.ticks(),
            summary: format!("Response time per {}. Total: {sum}", axis.per()),
            readout: format!("Total: {sum}"),
            rows: filled().map(row).rev().collect(),
        }
    }
}

/// The segments of a line: one per run of consecutive buckets with a value. A single bucket becomes a dash.
fn runs(kind: &'static str, values: &[Option<Duration>], y: impl Fn(Duration) -> f64) -> Vec<LineSegment> {
    let mut found = Vec::new();
    let mut place = 0;
    for stretch in values.chunk_by(|one, next| one.is_some() == next.is_some()) {
        let middle = |i: usize| ((place + i) as f64 + 0.5) * STEP;
        let points = stretch.iter().enumerate().filter_map(|(i, value)| Some((middle(i), y((*value)?))));
        let points: Vec<(f64, f64)> = match points.collect::<Vec<_>>()[..] {
            [(x, y)] => vec![(x - STEP * 0.4, y), (x + STEP * 0.4, y)],
            ref more => more.to_vec(),
        };
        if !points.is_empty() {
            let texts: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
            found.push(LineSegment { kind, points: texts.join(" ") });
        }
        place += stretch.len();
    }
    found
}

/// A logarithmic scale: powers of ten in milliseconds.
struct Scale {
    least: i32,
    most: i32,
}

impl Scale {
    fn of(values: impl Iterator<Item = Duration> + Clone) -> Scale {
        let power = |value: Duration| (value.as_secs_f64() * 1_000.0).max(1.0).log10();
        let least = values.clone().map(power).fold(f64::INFINITY, f64::min);
        let most = values.map(power).fold(0.0, f64::max);
        let least = if least.is_finite() { least.floor() as i32 } else { 0 };
        // A maximum at exactly a power of ten needs no space above it.
        Scale { least, most: ((most - 0.001).ceil() as i32).max(least + 1) }
    }

    fn y(&self, value: Duration) -> f64 {
        let power = (value.as_secs_f64() * 1_000.0).max(1.0).log10();
        BASE - (power - f64::from(self.least)) / f64::from(self.most - self.least) * ROOM
    }

    fn ticks(&self) -> Vec<Tick> {
        let tick = |power: i32| {
            let millis = 10u64.pow(power.unsigned_abs());
            let text = if millis < 1_000 { format!("{millis} ms") } else { format!("{} s", millis / 1_000) };
            Tick::new(self.y(Duration::from_millis(millis)), text)
        };
        (self.least..=self.most).map(tick).collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::dashboard::components::chart::latency_chart::*;
    use crate::domain::Time;
    use crate::store::recording::rollups::Counts;

    /// One bucket per minute with `count` attempts in the given histogram slot; slot 99 means none.
    fn minutes(of: &[(usize, i64)]) -> Vec<Bucket> {
        let start = Time::parse("2026-11-22T14:00:00Z").unwrap();
        let bucket = |(n, (place, count)): (usize, &(usize, i64))| {
            let mut counts = Counts::default();
            if let Some(one) = counts.latency.get_mut(*place) {
                *one = *count;
                counts.delivered = *count;
            }
            Bucket { at: start.plus(ChartRange::Hour.width() * n as u32), counts }
        };
        of.iter().enumerate().map(bucket).collect()
    }

    #[test]
    fn lines_have_gaps_without_attempts() {
        let buckets = minutes(&[(3, 10), (3, 20), (99, 0), (8, 1)]);
        let html = LatencyChart::new(&buckets, ChartRange::Hour, "/list?").to_string();
        let lines = ["p50", "p95", "p99"].map(|kind| html.matches(&format!("<polyline class=\"{kind}\"")).count());
        assert_eq!(lines, [2, 1, 0], "p95 of 20 attempts, and p99 of none: {html}");
        assert_eq!(html.matches("<tr>").count(), 4, "a head and three rows: {html}");
        assert!(html.contains("14:01–14:02 UTC: p50 37 ms · p95 48 ms<"), "{html}");
        assert!(html.contains("14:00–14:01 UTC: p50 37 ms<"), "{html}");
        assert_eq!(
            html.matches("/list?since=2026-11-22T14:03:00Z&#38;until=2026-11-22T14:04:00Z").count(),
            2,
            "{html}"
        );
    }

    #[test]
    fn scale_contains_all_values() {
        for buckets in [minutes(&[]), minutes(&[(0, 1)]), minutes(&[(0, 1), (11, 1)]), minutes(&[(6, 5)])] {
            let times = buckets.iter().filter_map(|bucket| ResponseTimes::of(&bucket.counts));
            let values: Vec<_> = times.flat_map(|times| times.all()).flatten().collect();
            let scale = Scale::of(values.iter().copied());
            assert!((2..=6).contains(&scale.ticks().len()));
            assert!(
                values.iter().all(|value| (BASE - ROOM - 0.1..=BASE + 0.1).contains(&scale.y(*value))),
                "{values:?}"
            );
        }
        assert_eq!(about(Duration::from_secs(15)), "15 s or more");
    }
}
