//! The delivery settings of an installation.

use std::time::Duration;

use crate::domain::deliveries::backoff::RetrySchedule;

/// The limits on sending, retrying and giving up.
#[derive(Clone, Debug)]
pub struct DeliverySettings {
    /// The retry schedule of endpoints without their own.
    pub schedule: RetrySchedule,
    /// The timeout of an attempt at endpoints without their own.
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
