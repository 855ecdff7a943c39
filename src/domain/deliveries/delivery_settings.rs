//! The settings of delivery that an installation chooses.

use std::time::Duration;

use crate::domain::deliveries::backoff::RetrySchedule;

/// How deliveries are sent, retried and given up.
#[derive(Clone, Debug)]
pub struct DeliverySettings {
    /// For endpoints without a schedule of their own.
    pub schedule: RetrySchedule,
    /// Of an attempt, for endpoints without a timeout of their own.
    pub timeout: Duration,
    /// The concurrency limits: all requests of a process, and requests to one endpoint.
    pub max_in_flight: usize,
    pub endpoint_max_in_flight: usize,
    /// The longest wait of a shutdown for attempts in flight.
    pub drain: Duration,
    /// Endpoints that only fail for this long are disabled.
    pub disable_after: Duration,
    /// Consumers of polling endpoints that have not polled for this long are reported.
    pub consumer_silent_after: Duration,
}
