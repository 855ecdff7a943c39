//! The past 30 days: messages, deliveries and attempts, written through the store's methods before the engine starts.
//! Responses are invented; the state transitions that follow from them are real.
//!
//! The density of the messages ends at that of the live events, so no chart has a step where the demo began. It starts
//! lower, as if the shop had grown: 30 days of today's traffic would take too long to write.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::HeaderMap;
use uuid::{NoContext, Timestamp, Uuid};

use super::super::CliError;
use super::customers::{Customer, DemoEndpoint, EVENT_TYPES, payload, tenant};
use super::receiver::Behaviour;
use super::shop::EVENT_INTERVAL;
use crate::domain::deliveries::attempt::{Attempt, Failure, Outcome, Trigger};
use crate::domain::deliveries::backoff::RetrySchedule;
use crate::domain::deliveries::delivery;
use crate::domain::deliveries::delivery::{Progress, Transition};
use crate::domain::deliveries::message::{Message, MessageSpec};
use crate::domain::signing::signature::Signing;
use crate::domain::{AttemptId, Time};
use crate::store::ingest::accept::AcceptItem;
use crate::store::recording::record::FinishedAttempt;
use crate::store::{AppRef, Store};

/// The age of the oldest message.
pub(super) const SPAN: Duration = Duration::from_secs(30 * 86_400);
/// The last minute stays empty: live events start there.
const GAP: Duration = Duration::from_secs(60);
/// The share of today's traffic that the shop had at first.
const FIRST_SHARE: f64 = 0.03;
/// The time in which most of the growth took place.
const GROWTH: Duration = Duration::from_secs(18 * 3_600);
/// The age of the first failure of the warehouse's receiver.
const OUTAGE: Duration = Duration::from_secs(90 * 60);
/// Messages or attempts per batch. Each batch is a commit or two, and the start waits for all of them.
const BATCH: usize = 1_000;

/// Writes the 30 days before `now` and returns the number of messages.
pub(super) async fn write(
    store: &Store,
    customers: &[Customer],
    schedule: &RetrySchedule,
    now: Time,
) -> Result<usize, CliError> {
    let mut items = Vec::new();
    // Oldest first: ids grow in order of creation, regardless of their timestamps.
    for (number, age) in (0_u64..).zip(ages()) {
        let customer = &customers[rand::random_range(0..customers.len())];
        let event_type = EVENT_TYPES[rand::random_range(0..EVENT_TYPES.len())].0;
        let spec = MessageSpec {
            event_type: event_type.to_owned(),
            payload: Bytes::from(payload(event_type, number).to_string()),
            ..MessageSpec::default()
        };
        let at = now.minus(age);
        items.push((
            customer,
            AcceptItem {
                tenant: Some(tenant()),
                app: AppRef::Id(customer.app.id),
                only_endpoint: None,
                spec,
                at,
                idempotency_key: None,
                audit: None,
            },
        ));
    }
    let mut accepted: Vec<(&Customer, Arc<Message>)> = Vec::with_capacity(items.len());
    for batch in items.chunks(BATCH) {
        // Concurrent, so they share commits like live messages.
        let verdicts = join_all(batch.iter().map(|(_, item)| store.accept(item.clone()))).await;
        for ((customer, _), verdict) in batch.iter().zip(verdicts) {
            let message = verdict?.map_err(|refusal| CliError::Failed(format!("the demo's history: {refusal}")))?;
            accepted.push((customer, message));
        }
    }
    for round in rounds(&accepted, schedule, now) {
        for batch in round.chunks(BATCH) {
            store.record(batch.to_vec()).await?;
        }
    }
    Ok(accepted.len())
}

/// The ages of all messages, from the oldest on.
fn ages() -> impl Iterator<Item = Duration> {
    std::iter::successors(Some(SPAN), |age| {
        let grown = (-age.as_secs_f64() / GROWTH.as_secs_f64()).exp();
        let share = FIRST_SHARE + (1.0 - FIRST_SHARE) * grown;
        let wait = EVENT_INTERVAL.mul_f64(rand::random_range(0.2..1.8) / share);
        age.checked_sub(wait).filter(|age| *age > GAP)
    })
}

/// All attempts in rounds: the first attempts of all deliveries, then the second ones. Each record continues from the
/// one before it.
fn rounds(accepted: &[(&Customer, Arc<Message>)], schedule: &RetrySchedule, now: Time) -> Vec<Vec<FinishedAttempt>> {
    let mut rounds: Vec<Vec<FinishedAttempt>> = Vec::new();
    for (customer, message) in accepted {
        for demo_endpoint in &customer.endpoints {
            if !demo_endpoint.endpoint.spec.wants(&message.event_type, &message.channels) {
                continue;
            }
            for (number, finished) in
                attempts_of(customer, demo_endpoint, message, schedule, now).into_iter().enumerate()
            {
                if rounds.len() <= number {
                    rounds.push(Vec::new());
                }
                rounds[number].push(finished);
            }
        }
    }
    rounds
}

/// The attempts of one delivery until `now`; the engine makes later ones.
fn attempts_of(
    customer: &Customer,
    demo_endpoint: &DemoEndpoint,
    message: &Message,
    schedule: &RetrySchedule,
    now: Time,
) -> Vec<FinishedAttempt> {
    let signing = Signing::new(&demo_endpoint.secret, [], &[]);
    let mut made = Vec::new();
    let mut at = message.accepted_at.plus(Duration::from_millis(rand::random_range(3..20)));
    let mut progress = Progress { attempts: 0, step: 0, generation: 0, trigger: Trigger::Scheduled };
    while at <= now {
        let outcome = outcome(demo_endpoint.behaviour, now.since(at));
        let next = delivery::after(&outcome, progress.step, schedule, at.plus(outcome.duration), rand::random());
        let attempt = Attempt {
            id: attempt_id_at(at),
            app_id: message.app_id,
            message_id: message.id,
            endpoint_id: demo_endpoint.endpoint.id,
            number: progress.attempts + 1,
            trigger: progress.trigger,
            at,
            url: demo_endpoint.endpoint.spec.url.clone(),
            request_headers: headers(&signing, message, at),
            outcome,
            next_at: next.due(),
        };
        let org = customer.app.org.clone();
        // No lease has been taken in this new store, so each slot is at its initial epoch.
        made.push(FinishedAttempt {
            org,
            attempt,
            before: progress,
            next,
            slot: 0,
            epoch: 0,
            disable: None,
            rests_until: None,
        });
        let Transition::Retry { due, step } = next else { break };
        (at, progress.step, progress.attempts) = (due, step, progress.attempts + 1);
    }
    made
}

/// An attempt id with that timestamp. The usual increasing ids would not match the attempts' order.
fn attempt_id_at(at: Time) -> AttemptId {
    let nanos = (at.micros() % 1_000_000 * 1_000) as u32;
    AttemptId(Uuid::new_v7(Timestamp::from_unix(NoContext, at.seconds() as u64, nanos)))
}

fn headers(signing: &Signing, message: &Message, at: Time) -> Vec<(String, String)> {
    let mut headers = HeaderMap::new();
    signing.sign(&mut headers, message.id, at, message.payload.as_deref().unwrap_or_default());
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let mut headers: Vec<_> = headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    headers.push(("content-type".to_owned(), "application/json".to_owned()));
    headers
}

/// The response of a customer's server at that age.
fn outcome(behaviour: Behaviour, ago: Duration) -> Outcome {
    let quick = Duration::from_micros(rand::random_range(4_000..70_000));
    let (status, text, duration) = match behaviour {
        Behaviour::HangsUp if ago < OUTAGE => {
            let detail = "the connection was closed before an answer";
            return Outcome::failed(Failure::Closed, detail, quick);
        }
        Behaviour::Flaky if rand::random_range(0..3) == 0 => (500, "Something went wrong on our side.\n", quick),
        Behaviour::Slow => (200, "It took a while.\n", Duration::from_millis(rand::random_range(1_000..2_000))),
        _ => (200, "Thank you.\n", quick),
    };
    let failed = status != 200;
    Outcome {
        failure: failed.then_some(Failure::Status),
        detail: if failed { format!("answered {status}") } else { String::new() },
        status: Some(status),
        duration,
        response_headers: vec![("content-type".to_owned(), "text/plain; charset=utf-8".to_owned())],
        response_body: Bytes::from_static(text.as_bytes()),
        retry_after: None,
    }
}

#[cfg(test)]
mod tests {
    use crate::cli::demo::history::*;

    /// No chart of the demo has a gap, or a step where live events begin.
    #[test]
    fn thirty_days_end_at_the_density_of_live_events() {
        let ages: Vec<Duration> = ages().collect();
        let within = |from: Duration, to: Duration| ages.iter().filter(|age| (from..to).contains(*age)).count() as f64;
        let live = 3.0 * 3_600.0 / EVENT_INTERVAL.as_secs_f64();
        let last = within(Duration::ZERO, Duration::from_secs(3 * 3_600)) / live;
        assert!((0.78..1.05).contains(&last), "{last} of the density of live events");
        for day in 0..30 {
            let day = Duration::from_secs(day * 86_400);
            assert!(within(day, day + Duration::from_secs(86_400)) > 40.0, "{day:?} ago");
        }
        assert!(ages.is_sorted_by(|one, next| one > next), "oldest first");
    }
}
