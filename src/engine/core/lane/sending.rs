//! Sending from a lane: whether its next delivery may be sent, and the effect of its outcome.

use std::time::Duration;

use super::{Lane, QueuedDelivery};
use crate::domain::deliveries::attempt::Outcome;
use crate::engine::core::clock_reading::ClockReading;
use crate::engine::core::hold::Hold;
use crate::engine::core::rate_limit::{AppRateLimits, RateLimit};

impl Lane {
    /// The reason that this endpoint may not get another request, if there is one.
    ///
    /// `free` is the remaining capacity of the process. A lane takes at most a quarter of it, so a few hanging
    /// endpoints leave room for all others.
    fn hold(&self, now: ClockReading, free: usize, apps: &AppRateLimits) -> Option<Hold> {
        if self.queued() == 0 {
            return Some(Hold::Empty);
        }
        if self.paused() {
            return Some(Hold::Disabled);
        }
        if !self.owned {
            return Some(Hold::NotOwned);
        }
        if self.ordered() && self.held.len() > self.queued() {
            return Some(Hold::Sequence);
        }
        if now.mono < self.paused_until {
            return Some(Hold::LocalFailure(self.paused_until));
        }
        match self.breaker.cap(now.mono) {
            Err(until) => return Some(Hold::CircuitBreaker(until)),
            Ok(cap) if self.in_flight >= cap.min((free / 4).max(1)) => return Some(Hold::EndpointLimit),
            Ok(_) => {}
        }
        let wait = self.rate_limits(apps).filter_map(|limit| limit.ready(now.mono).err()).max();
        wait.map(|wait| Hold::RateLimit(now.mono + wait))
    }

    /// The rate limits of the endpoint and its application.
    fn rate_limits<'l>(&'l self, apps: &'l AppRateLimits) -> impl Iterator<Item = &'l RateLimit> {
        apps.get((self.live.endpoint.app_id, self.slot)).into_iter().chain(&self.limit)
    }

    /// Takes the next delivery to send.
    ///
    /// # Errors
    /// The reason that this endpoint may not get another request.
    pub fn next(&mut self, now: ClockReading, free: usize, apps: &AppRateLimits) -> Result<QueuedDelivery, Hold> {
        if let Some(hold) = self.hold(now, free, apps) {
            return Err(hold);
        }
        // Takes from both limits or neither: a token taken early and used late would exceed the rate of a later second.
        for limit in self.rate_limits(apps) {
            let _ = limit.take(now.mono);
        }
        let retry = !self.retries.is_empty() && (self.retry_next || self.fresh.is_empty());
        self.retry_next = !retry;
        let queue = if retry { &mut self.retries } else { &mut self.fresh };
        let delivery = queue.pop_front().ok_or(Hold::Empty)?;
        if self.in_flight == 0 {
            self.responses.request_started(now.mono);
        }
        self.in_flight += 1;
        self.last_active = now.mono;
        Ok(delivery)
    }

    /// An attempt ended. Its delivery stays held until the result is recorded.
    pub fn sent(&mut self, outcome: &Outcome, now: ClockReading) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.local_failures = 0;
        self.breaker.learn(outcome, now.mono);
        if !self.breaker.unreachable() {
            self.responses.responded(now.mono);
        }
        self.last_active = now.mono;
    }

    /// The rest of the circuit breaker's pause, if the lane is paused.
    pub fn breaker_pause(&self, now: ClockReading) -> Option<Duration> {
        self.breaker.cap(now.mono).err().map(|until| until.saturating_sub(now.mono))
    }

    /// An attempt was not made for a local reason, which says nothing about the endpoint. The lane pauses for
    /// `wait(failures in a row)`; attempts that fail together count once. Returns the remaining pause.
    pub fn failed_locally(&mut self, now: Duration, wait: impl Fn(u32) -> Duration) -> Duration {
        self.in_flight = self.in_flight.saturating_sub(1);
        if now >= self.paused_until {
            self.local_failures = self.local_failures.saturating_add(1);
            self.paused_until = now + wait(self.local_failures);
        }
        self.last_active = now;
        self.paused_until - now
    }
}
