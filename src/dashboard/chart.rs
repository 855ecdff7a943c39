//! The chart of the overview: attempts by time, delivered ones upward, failed ones downward, each on its own scale (a handful of
//! failures must be seen beside thousands of deliveries). SVG made here, with a table that says the same.
//!
//! Places along the time are in percent, so that it fits any width without stretching its lines.

use std::time::Duration;

use askama::Template;
use askama::filters::HtmlSafe;

use super::show::count;
use crate::domain::Time;
use crate::store::rollups::{Counts, Minute};

/// The chart's panels, in pixels: delivered above the base line, failed below it.
const UP: f64 = 104.0;
const BASE: f64 = 110.0;
const DOWN: f64 = 44.0;
/// What is more than nothing can be seen.
const LEAST: f64 = 2.0;

/// The time in which attempts are counted together.
pub struct Bucket {
    pub at: Time,
    pub counts: Counts,
}

/// What is drawn for a bucket with something in it. Text, because SVG's attributes are.
struct Bar {
    x: String,
    width: String,
    up: Option<(String, String)>,
    retried: Option<(String, String)>,
    dead: Option<(String, String)>,
    title: String,
}

/// A time below the chart.
struct Label {
    x: String,
    anchor: &'static str,
    text: String,
}

/// A row of the table.
struct Row {
    time: String,
    delivered: String,
    failed: String,
    dead: String,
}

/// The chart with its table.
#[derive(Template)]
#[template(path = "parts/chart.html")]
pub struct Chart {
    /// What a bar stands for: `minute`, `15 minutes`.
    per: &'static str,
    bars: Vec<Bar>,
    labels: Vec<Label>,
    most_delivered: String,
    most_failed: String,
    summary: String,
    rows: Vec<Row>,
}

impl HtmlSafe for Chart {}

/// Sums minutes into buckets of `width`, from `since` until `now`; every bucket is there, also those without anything.
pub fn buckets(minutes: &[Minute], since: Time, now: Time, width: Duration) -> Vec<Bucket> {
    let first = since.floor(width);
    let count = (now.since(first).as_micros() / width.as_micros().max(1)) as usize + 1;
    let mut buckets: Vec<Bucket> = Vec::with_capacity(count);
    for i in 0..count {
        buckets.push(Bucket { at: first.plus(width * i as u32), counts: Counts::default() });
    }
    for minute in minutes {
        let place = (minute.minute.since(first).as_micros() / width.as_micros().max(1)) as usize;
        if let Some(bucket) = buckets.get_mut(place) {
            bucket.counts.delivered += minute.counts.delivered;
            bucket.counts.failed += minute.counts.failed;
            bucket.counts.dead += minute.counts.dead;
        }
    }
    buckets
}

impl Chart {
    /// Of buckets in the order of time, each of `width`; every `step`-th of that span gets a label.
    pub fn new(buckets: &[Bucket], width: Duration, per: &'static str, step: Duration) -> Chart {
        let most_delivered = buckets.iter().map(|bucket| bucket.counts.delivered).max().unwrap_or(0);
        let most_failed = buckets.iter().map(|bucket| bucket.counts.failed).max().unwrap_or(0);
        let slot = 100.0 / buckets.len().max(1) as f64;
        let bars = buckets.iter().enumerate().filter(|(_, bucket)| bucket.counts.attempts() > 0);
        let bars = bars.map(|(i, bucket)| Bar::new(bucket, i as f64 * slot, slot, width, most_delivered, most_failed));
        let labels = buckets.iter().enumerate().filter(|(_, bucket)| bucket.at.floor(step) == bucket.at);
        let labels = labels.map(|(i, bucket)| Label::new(bucket.at, (i as f64 + 0.5) * slot));
        let delivered: i64 = buckets.iter().map(|bucket| bucket.counts.delivered).sum();
        let failed: i64 = buckets.iter().map(|bucket| bucket.counts.failed).sum();
        let filled = buckets.iter().rev().filter(|bucket| bucket.counts.attempts() > 0);
        Chart {
            per,
            bars: bars.collect(),
            labels: labels.collect(),
            most_delivered: count(most_delivered),
            most_failed: count(most_failed),
            summary: format!("Attempts by time: {} delivered, {} failed", count(delivered), count(failed)),
            rows: filled.map(Row::new).collect(),
        }
    }
}

impl Bar {
    fn new(bucket: &Bucket, x: f64, slot: f64, width: Duration, most_delivered: i64, most_failed: i64) -> Bar {
        let Counts { delivered, failed, dead, .. } = bucket.counts;
        let height = |part: i64, most: i64, room: f64| (part as f64 / most.max(1) as f64 * room).max(LEAST);
        let rect = |y: f64, height: f64| Some((format!("{y:.1}"), format!("{height:.1}")));
        let up = height(delivered, most_delivered, UP);
        let (dead_height, all_height) = (height(dead, most_failed, DOWN), height(failed, most_failed, DOWN));
        let retried_height = (all_height - if dead > 0 { dead_height } else { 0.0 }).max(LEAST);
        let retried = failed - dead;
        let below = BASE + 2.0;
        let dead_from = if retried > 0 { below + retried_height } else { below };
        Bar {
            x: format!("{:.3}", x + slot * 0.1),
            width: format!("{:.3}", slot * 0.8),
            up: if delivered > 0 { rect(BASE - up, up) } else { None },
            retried: if retried > 0 { rect(below, retried_height) } else { None },
            dead: if dead > 0 { rect(dead_from, dead_height) } else { None },
            title: format!(
                "{}–{} UTC: {} delivered, {} failed{}",
                hour(bucket.at),
                hour(bucket.at.plus(width)),
                count(delivered),
                count(failed),
                if dead > 0 { format!(", {} of them dead", count(dead)) } else { String::new() },
            ),
        }
    }
}

impl Label {
    fn new(at: Time, x: f64) -> Label {
        let anchor = match x {
            x if x < 4.0 => "start",
            x if x > 96.0 => "end",
            _ => "middle",
        };
        Label { x: format!("{x:.3}"), anchor, text: hour(at) }
    }
}

impl Row {
    fn new(bucket: &Bucket) -> Row {
        let Counts { delivered, failed, dead, .. } = bucket.counts;
        Row { time: hour(bucket.at), delivered: count(delivered), failed: count(failed), dead: count(dead) }
    }
}

/// `14:30`.
fn hour(at: Time) -> String {
    at.to_string().get(11..16).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn minute(at: &str, delivered: i64, failed: i64, dead: i64) -> Minute {
        let counts = Counts { delivered, failed, dead, retried: failed - dead, ..Counts::default() };
        Minute { minute: Time::parse(at).unwrap(), counts }
    }

    #[test]
    fn buckets_hold_every_minute_and_nothing_twice() {
        let (since, now) =
            (Time::parse("2026-11-21T14:37:12Z").unwrap(), Time::parse("2026-11-22T14:37:12Z").unwrap());
        let minutes = [
            minute("2026-11-21T14:37:00Z", 1, 0, 0),
            minute("2026-11-22T00:00:00Z", 10, 2, 1),
            minute("2026-11-22T14:37:00Z", 100, 0, 0),
        ];
        let quarter = MINUTE * 15;
        let buckets = buckets(&minutes, since, now, quarter);
        assert_eq!(buckets.len(), 97);
        assert_eq!(buckets.iter().map(|bucket| bucket.counts.delivered).sum::<i64>(), 111);
        assert_eq!((buckets[0].counts.delivered, buckets[96].counts.delivered), (1, 100));
        let html = Chart::new(&buckets, quarter, "15 minutes", MINUTE * 360).to_string();
        assert!(html.contains("00:00–00:15 UTC: 10 delivered, 2 failed, 1 of them dead"), "{html}");
        assert_eq!(html.matches("<tr>").count(), 4, "a head and three rows: {html}");
    }

    #[test]
    fn nothing_at_all_is_a_chart_too() {
        let now = Time::parse("2026-11-22T14:37:12Z").unwrap();
        let buckets = buckets(&[], now.minus(MINUTE * 60), now, MINUTE);
        assert_eq!(buckets.len(), 61);
        assert!(!Chart::new(&buckets, MINUTE, "minute", MINUTE * 15).to_string().contains("<rect"));
    }

    #[test]
    fn bars_stay_inside() {
        for (delivered, failed, dead) in [(1, 0, 0), (0, 1, 1), (12_000, 9, 3), (1, 1_000_000, 1)] {
            let bucket = Bucket {
                at: Time::ZERO,
                counts: Counts { delivered, failed, dead, ..Counts::default() },
            };
            let bar = Bar::new(&bucket, 0.0, 2.0, MINUTE, delivered, failed);
            for (y, height) in [bar.up, bar.retried, bar.dead].into_iter().flatten() {
                let (y, height): (f64, f64) = (y.parse().unwrap(), height.parse().unwrap());
                assert!(y >= 5.9 && height >= LEAST && y + height <= BASE + DOWN + 5.0, "{y} {height}");
            }
        }
    }
}
