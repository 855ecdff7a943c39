//! The status filter of delivery lists.

use crate::domain::deliveries::delivery::DeliveryState;

/// The status of a delivery in lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeliveryStatusFilter {
    /// Waiting for its first attempt, or for a resend.
    Pending,
    Retrying,
    Delivered,
    /// Given up, but not canceled.
    Dead,
    /// Retrying or dead after a failed attempt.
    Failed,
    Canceled,
}

impl DeliveryStatusFilter {
    /// All statuses.
    pub const ALL: [DeliveryStatusFilter; 6] = [
        DeliveryStatusFilter::Pending,
        DeliveryStatusFilter::Retrying,
        DeliveryStatusFilter::Delivered,
        DeliveryStatusFilter::Dead,
        DeliveryStatusFilter::Failed,
        DeliveryStatusFilter::Canceled,
    ];

    /// The word in URLs.
    pub const fn word(self) -> &'static str {
        match self {
            DeliveryStatusFilter::Pending => "pending",
            DeliveryStatusFilter::Retrying => "retrying",
            DeliveryStatusFilter::Delivered => "delivered",
            DeliveryStatusFilter::Dead => "dead",
            DeliveryStatusFilter::Failed => "failed",
            DeliveryStatusFilter::Canceled => "canceled",
        }
    }

    /// Parses the word.
    pub fn from_word(word: &str) -> Option<DeliveryStatusFilter> {
        DeliveryStatusFilter::ALL.into_iter().find(|one| one.word() == word)
    }

    /// The stored states, if usually few deliveries are in them.
    pub(in crate::store) fn states(self) -> &'static [DeliveryState] {
        match self {
            DeliveryStatusFilter::Pending => &[DeliveryState::Fresh],
            DeliveryStatusFilter::Retrying => &[DeliveryState::Retry],
            DeliveryStatusFilter::Delivered => &[],
            DeliveryStatusFilter::Dead | DeliveryStatusFilter::Canceled => &[DeliveryState::Dead],
            DeliveryStatusFilter::Failed => &[DeliveryState::Retry, DeliveryState::Dead],
        }
    }

    /// The SQL condition on `d`.
    pub(in crate::store) fn condition(self) -> &'static str {
        match self {
            DeliveryStatusFilter::Pending => " AND d.state = 0",
            DeliveryStatusFilter::Retrying => " AND d.state = 1",
            DeliveryStatusFilter::Delivered => " AND d.state = 2",
            DeliveryStatusFilter::Dead => " AND d.state = 3 AND (d.reason IS NULL OR d.reason <> 'canceled')",
            DeliveryStatusFilter::Failed => {
                " AND d.state IN (1, 3) AND d.attempts > 0 AND (d.reason IS NULL OR d.reason <> 'canceled')"
            }
            DeliveryStatusFilter::Canceled => " AND d.state = 3 AND d.reason = 'canceled'",
        }
    }
}
