//! How a delivery stands, in the words of the lists: what each word means as a condition, and where few deliveries can be in it.

use crate::domain::deliveries::delivery::State;

/// How a delivery stands, in the words of the lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeliveryStatus {
    /// Waits for its first attempt, or for one that somebody asked for.
    Pending,
    Retrying,
    Delivered,
    /// Given up, and not because somebody canceled it.
    Dead,
    /// The last attempt failed: retrying or dead.
    Failed,
    Canceled,
}

impl DeliveryStatus {
    /// All of them.
    pub const ALL: [DeliveryStatus; 6] = [
        DeliveryStatus::Pending,
        DeliveryStatus::Retrying,
        DeliveryStatus::Delivered,
        DeliveryStatus::Dead,
        DeliveryStatus::Failed,
        DeliveryStatus::Canceled,
    ];

    /// Its word in URLs.
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

    /// The status of a word.
    pub fn from_word(word: &str) -> Option<DeliveryStatus> {
        DeliveryStatus::ALL.into_iter().find(|one| one.word() == word)
    }

    /// The states that it may be in, where few deliveries are in them.
    pub(in crate::store) fn states(self) -> &'static [State] {
        match self {
            DeliveryStatus::Pending => &[State::Fresh],
            DeliveryStatus::Retrying => &[State::Retry],
            DeliveryStatus::Delivered => &[],
            DeliveryStatus::Dead | DeliveryStatus::Canceled => &[State::Dead],
            DeliveryStatus::Failed => &[State::Retry, State::Dead],
        }
    }

    /// As a condition on `d`.
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
