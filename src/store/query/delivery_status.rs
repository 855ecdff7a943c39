//! The status filter of delivery lists.

use crate::domain::deliveries::delivery::State;

/// The status of a delivery in lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeliveryStatus {
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

impl DeliveryStatus {
    /// All statuses.
    pub const ALL: [DeliveryStatus; 6] = [
        DeliveryStatus::Pending,
        DeliveryStatus::Retrying,
        DeliveryStatus::Delivered,
        DeliveryStatus::Dead,
        DeliveryStatus::Failed,
        DeliveryStatus::Canceled,
    ];

    /// The word in URLs.
    pub const fn word(self) -> &'static str {
        match self {
            DeliveryStatus::Pending => "pending",
            DeliveryStatus::Retrying => "retrying",
            DeliveryStatus::Delivered => "delivered",
            DeliveryStatus::Dead => "dead",
            DeliveryStatus::Failed => "failed",
            DeliveryStatus::Canceled => "canceled",
        }
    }

    /// Parses the word.
    pub fn from_word(word: &str) -> Option<DeliveryStatus> {
        DeliveryStatus::ALL.into_iter().find(|one| one.word() == word)
    }

    /// The stored states, if usually few deliveries are in them.
    pub(in crate::store) fn states(self) -> &'static [State] {
        match self {
            DeliveryStatus::Pending => &[State::Fresh],
            DeliveryStatus::Retrying => &[State::Retry],
            DeliveryStatus::Delivered => &[],
            DeliveryStatus::Dead | DeliveryStatus::Canceled => &[State::Dead],
            DeliveryStatus::Failed => &[State::Retry, State::Dead],
        }
    }

    /// The SQL condition on `d`.
    pub(in crate::store) fn condition(self) -> &'static str {
        match self {
            DeliveryStatus::Pending => " AND d.state = 0",
            DeliveryStatus::Retrying => " AND d.state = 1",
            DeliveryStatus::Delivered => " AND d.state = 2",
            DeliveryStatus::Dead => " AND d.state = 3 AND (d.reason IS NULL OR d.reason <> 'canceled')",
            DeliveryStatus::Failed => {
                " AND d.state IN (1, 3) AND d.attempts > 0 AND (d.reason IS NULL OR d.reason <> 'canceled')"
            }
            DeliveryStatus::Canceled => " AND d.state = 3 AND d.reason = 'canceled'",
        }
    }
}
