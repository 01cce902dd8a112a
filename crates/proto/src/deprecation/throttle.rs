//! How often a log may be told the same (A22).

use std::collections::HashMap;
use std::time::Duration;

/// Keys that are told apart at one time: as many as sessions are kept. Those for which there is no room
/// share one place, so they are still told of, but together.
pub const MAX_KEYS: usize = 10_000;
/// Bytes of a key that count. Keys that begin alike up to here are one.
pub const MAX_KEY: usize = 256;

/// At most one notice in an interval for each key, whatever comes in between.
///
/// `now` is the time since any fixed moment, by a clock that does not go back.
///
/// ```
/// use std::time::Duration;
/// use thinpipe_proto::deprecation::Throttle;
///
/// let mut throttle = Throttle::new(Duration::from_secs(300));
/// let at = Duration::from_secs;
/// assert_eq!(throttle.admit("inspector", at(0)), Some(0));
/// assert_eq!(throttle.admit("inspector", at(299)), None);
/// assert_eq!(throttle.admit("inspector", at(300)), Some(1), "one was held back");
/// ```
#[derive(Debug, Clone)]
pub struct Throttle {
    every: Duration,
    places: HashMap<Box<str>, Place>,
    shared: Option<Place>,
    /// Before this no place becomes free, so looking for one would be of no use.
    full_until: Duration,
    max: usize,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    told: Duration,
    held_back: u64,
}

impl Throttle {
    /// One notice in `every` for a key.
    #[must_use]
    pub fn new(every: Duration) -> Self {
        Self::with_max(every, MAX_KEYS)
    }

    fn with_max(every: Duration, max: usize) -> Self {
        Self {
            every,
            places: HashMap::new(),
            shared: None,
            full_until: Duration::ZERO,
            max,
        }
    }

    /// Whether there may be a notice now: then how many were held back since the last
    /// one (as far as its place was kept), else `None`.
    pub fn admit(&mut self, key: &str, now: Duration) -> Option<u64> {
        let key = cut(key);
        if let Some(place) = self.places.get_mut(key) {
            return place.admit(self.every, now);
        }
        if self.has_room(now) {
            self.places.insert(key.into(), Place::new(now));
            return Some(0);
        }
        match &mut self.shared {
            Some(place) => place.admit(self.every, now),
            None => {
                self.shared = Some(Place::new(now));
                Some(0)
            }
        }
    }

    /// Makes room where no notice would be held back any more. All places are looked at only when one of
    /// them can have become free.
    fn has_room(&mut self, now: Duration) -> bool {
        if self.places.len() < self.max {
            return true;
        }
        if now < self.full_until {
            return false;
        }
        let every = self.every;
        self.places
            .retain(|_, place| now < place.told.saturating_add(every));
        let next = self
            .places
            .values()
            .map(|place| place.told.saturating_add(every))
            .min();
        self.full_until = next.unwrap_or(now);
        self.places.len() < self.max
    }
}

impl Place {
    fn new(told: Duration) -> Self {
        Self { told, held_back: 0 }
    }

    fn admit(&mut self, every: Duration, now: Duration) -> Option<u64> {
        if now < self.told.saturating_add(every) {
            self.held_back = self.held_back.saturating_add(1);
            return None;
        }
        let held_back = self.held_back;
        *self = Self::new(now);
        Some(held_back)
    }
}

/// The beginning of a key, in whole characters.
fn cut(key: &str) -> &str {
    if key.len() <= MAX_KEY {
        return key;
    }
    let end = (0..=MAX_KEY).rev().find(|end| key.is_char_boundary(*end));
    &key[..end.unwrap_or_default()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(300);
    const SECOND: Duration = Duration::from_secs(1);

    /// A22: a client that comes every second is told of twelve times in an hour.
    #[test]
    fn a22_the_log_is_bounded_under_load() {
        let mut throttle = Throttle::new(EVERY);
        let mut told = Vec::new();
        for second in 0..3600 {
            for _ in 0..10 {
                told.extend(throttle.admit("client", SECOND * second));
            }
        }
        assert_eq!(told.len(), 12);
        assert_eq!(told[1..], [2999; 11], "what was held back is counted");
    }

    #[test]
    fn a22_clients_do_not_silence_each_other() {
        let mut throttle = Throttle::new(EVERY);
        assert_eq!(throttle.admit("a", SECOND), Some(0));
        assert_eq!(throttle.admit("b", SECOND), Some(0));
        assert_eq!(throttle.admit("a", SECOND), None);
    }

    /// A22, T2: the number of keys is bounded, and those beyond share one place.
    #[test]
    fn a22_names_that_never_repeat_fill_neither_memory_nor_the_log() {
        let mut throttle = Throttle::with_max(EVERY, 100);
        let mut told = 0;
        for client in 0..10_000 {
            told += usize::from(throttle.admit(&client.to_string(), SECOND).is_some());
        }
        assert_eq!(throttle.places.len(), 100);
        assert_eq!(told, 101);
        // What is over makes room again.
        assert_eq!(throttle.admit("new", SECOND + EVERY), Some(0));
        assert_eq!(throttle.places.len(), 1);
    }

    #[test]
    fn a22_only_places_that_are_over_are_given_away() {
        let mut throttle = Throttle::with_max(EVERY, 2);
        throttle.admit("early", SECOND);
        throttle.admit("late", SECOND * 200);
        assert_eq!(throttle.admit("first without room", SECOND * 210), Some(0));
        assert_eq!(throttle.admit("second without room", SECOND * 220), None);
        assert_eq!(throttle.admit("third", SECOND * 301), Some(0));
        assert_eq!(throttle.admit("late", SECOND * 302), None);
        assert_eq!(throttle.admit("early", SECOND * 303), None, "shared again");
        assert_eq!(throttle.places.len(), 2);
    }

    #[test]
    fn a22_a_long_key_is_cut_between_characters() {
        let mut throttle = Throttle::new(EVERY);
        let long = "é".repeat(MAX_KEY);
        assert_eq!(throttle.admit(&long, SECOND), Some(0));
        assert_eq!(throttle.admit(&long[..MAX_KEY], SECOND), None);
    }
}
