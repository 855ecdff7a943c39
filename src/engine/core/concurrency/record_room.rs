//! The limit on requests in flight and unrecorded results. While receivers answer faster than the store records,
//! results pile up to this limit; each recorded result then allows another request. A reserve at the end is for
//! applications with few results, so an application with very many due deliveries does not make the others wait.

use std::collections::HashMap;

use crate::domain::AppId;

/// Maximum requests in flight and unrecorded results before sending stops. Bounds memory while the store is
/// unavailable, and the number of deliveries that a crash would repeat.
const MOST: usize = 4_096;
/// The part of [`MOST`] reserved for applications with fewer than [`FEW`] requests and results.
const RESERVE: usize = 512;
const FEW: usize = 64;

/// Requests in flight and unrecorded results, in total and by application.
#[derive(Debug, Default)]
pub struct RecordRoom {
    used: usize,
    by_app: HashMap<AppId, usize>,
}

impl RecordRoom {
    /// Whether nothing is in flight or unrecorded.
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Whether no application may send.
    pub fn is_full(&self) -> bool {
        self.used >= MOST
    }

    /// Whether only applications with few results may send.
    pub fn is_scarce(&self) -> bool {
        self.used >= MOST - RESERVE
    }

    /// Whether the application may send.
    pub fn admits(&self, app: AppId) -> bool {
        !self.is_full() && (!self.is_scarce() || self.by_app.get(&app).is_none_or(|used| *used < FEW))
    }

    /// A request starts.
    pub fn take(&mut self, app: AppId) {
        self.used += 1;
        *self.by_app.entry(app).or_default() += 1;
    }

    /// A request's result is recorded, or the request was not made.
    pub fn give_back(&mut self, app: AppId) {
        self.used = self.used.saturating_sub(1);
        if let Some(used) = self.by_app.get_mut(&app) {
            *used = used.saturating_sub(1);
            if *used == 0 {
                self.by_app.remove(&app);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_part_is_for_applications_with_few_results() {
        let [wide, other] = [1, 2].map(|number| AppId(uuid::Uuid::from_u128(number)));
        let mut room = RecordRoom::default();
        let take_all = |room: &mut RecordRoom, app| {
            let mut taken = 0;
            while room.admits(app) {
                room.take(app);
                taken += 1;
            }
            taken
        };
        assert_eq!(take_all(&mut room, wide), MOST - RESERVE);
        assert_eq!(take_all(&mut room, other), FEW);
        assert!(room.is_scarce() && !room.is_full());
        (0..FEW).for_each(|_| room.give_back(other));
        room.give_back(wide);
        assert_eq!((take_all(&mut room, other), room.admits(wide)), (FEW, false), "a place that becomes free");
        (0..RESERVE).for_each(|number| room.take(AppId(uuid::Uuid::from_u128(9 + number as u128))));
        assert!(room.is_full() && !room.admits(AppId(uuid::Uuid::from_u128(8))), "the memory is bounded in any case");
        (0..MOST).for_each(|_| room.give_back(wide));
        (0..FEW).for_each(|_| room.give_back(other));
        (0..RESERVE).for_each(|number| room.give_back(AppId(uuid::Uuid::from_u128(9 + number as u128))));
        assert!(room.is_empty() && room.by_app.is_empty(), "nothing remains: {room:?}");
    }
}
