//! How many messages are under way at once. Pure: after TCP's congestion control (RFC 5681), with the time passed in.

use std::time::Duration;

use tokio::time::Instant;

/// The widest window, and how wide a new one is.
pub const WIDEST: u32 = 32;
const FIRST: u32 = 4;
/// So many must pass at the greatest width that holds before the next greater one is tried again; twice as many each time
/// that it proves too wide.
const PATIENCE: u32 = 32;
const MOST_PATIENCE: u32 = 128;
/// At the narrowest, a pause follows what is too much: this at first, doubled each time up to [`MOST_PAUSES`] times this, with
/// jitter. A retry that is too much again costs a longer wait of its schedule, so retries are more careful.
const FIRST_PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(500)];
const MOST_PAUSES: u32 = 32;
/// At most so many messages are remembered as having narrowed the window.
const MOST_NARROWING: usize = 64;

/// An attempt's place in the order in which attempts began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Began(u64);

/// The window of one process.
#[derive(Debug, Clone)]
pub struct Window {
    width: u32,
    /// How many have passed since the width changed.
    passed: u32,
    /// The width that last held for a full round.
    held: u32,
    learned: Learned,
    /// What was learned by the time a message last got through.
    proven: Learned,
    /// How many attempts have begun, and how many had when the window was last narrowed.
    begun: u64,
    narrowed_at: u64,
    /// The messages that narrowed it since another got through.
    narrowed_by: Vec<String>,
    /// After a first attempt that was too much, for all; and after a retry, for retries.
    pauses: [Pause; 2],
}

/// What follows at the narrowest when it is too much still.
#[derive(Debug, Clone, Copy)]
struct Pause {
    /// How many times the first one the next one lasts.
    times: u32,
    until: Option<Instant>,
}

impl Pause {
    const NONE: Self = Self { times: 1, until: None };
}

/// What the window knows of the endpoint.
#[derive(Debug, Clone, Copy)]
struct Learned {
    /// The width that last proved too wide; none where none did.
    too_wide: Option<u32>,
    /// Up to this the window doubles.
    target: u32,
    patience: u32,
}

impl Learned {
    const NOTHING: Self = Self { too_wide: None, target: WIDEST, patience: PATIENCE };
}

impl Default for Window {
    fn default() -> Self {
        Self::of(FIRST)
    }
}

impl Window {
    /// A window that begins at a width.
    pub fn of(width: u32) -> Self {
        Self {
            width: width.clamp(1, WIDEST),
            passed: 0,
            held: 0,
            learned: Learned::NOTHING,
            proven: Learned::NOTHING,
            begun: 0,
            narrowed_at: 0,
            narrowed_by: Vec::new(),
            pauses: [Pause::NONE; 2],
        }
    }

    /// The window after an outage, which teaches no width: what was learned before it counts.
    pub fn restart(&mut self) {
        let width = self.proven.too_wide.map_or(FIRST, |too_wide| FIRST.min(too_wide - 1));
        *self = Self { learned: self.proven, proven: self.proven, begun: self.begun, ..Self::of(width) };
    }

    /// How many may be under way at once.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// How many may be under way of first attempts and of retries, and of both together. Retries hold at most half; at the
    /// narrowest they have a place of their own, so that one that always times out never holds the only one.
    pub fn places(&self) -> (u32, u32, u32) {
        (self.width, (self.width / 2).max(1), self.width.max(2))
    }

    /// How long no first attempt, or no retry, may begin.
    pub fn pause(&self, is_first: bool, now: Instant) -> Duration {
        let pauses = if is_first { &self.pauses[..1] } else { &self.pauses[..] };
        let until = pauses.iter().filter_map(|pause| pause.until).max();
        until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }

    /// An attempt begins.
    pub fn begin(&mut self) -> Began {
        self.begun += 1;
        Began(self.begun)
    }

    /// A message got through, or was told what is wrong with it.
    pub fn passed(&mut self, is_first: bool) {
        self.narrowed_by.clear();
        self.pauses[0] = Pause::NONE;
        if !is_first {
            self.pauses[1] = Pause::NONE;
        }
        self.passed = self.passed.saturating_add(1);
        if self.passed >= self.width {
            self.grow();
        }
        self.proven = self.learned;
    }

    /// A full round has passed.
    fn grow(&mut self) {
        self.held = self.width;
        match self.learned.too_wide {
            // It was not, or is not any more.
            Some(too_wide) if self.width >= too_wide => self.learned = Learned::NOTHING,
            Some(too_wide) if self.width + 1 == too_wide && self.passed < self.learned.patience => return,
            Some(_) | None => {}
        }
        let Learned { too_wide, target, .. } = self.learned;
        let limit = too_wide.filter(|too_wide| self.width + 1 < *too_wide).map_or(WIDEST, |too_wide| too_wide - 1);
        let grown = if self.width < target { (self.width * 2).min(target) } else { self.width + 1 };
        (self.width, self.passed) = (grown.min(limit), 0);
    }

    /// The endpoint said that it was too much. True where that may mean that it is down: at the narrowest. `random` is from
    /// 0 up to 1.
    pub fn too_much(&mut self, webhook_id: &str, is_first: bool, began: Began, random: f64, now: Instant) -> bool {
        let was_narrowest = self.width == 1;
        // Once a round, and once a message until another gets through.
        if began.0 <= self.narrowed_at || self.narrowed_by.iter().any(|id| id == webhook_id) {
            return was_narrowest;
        }
        self.narrowed_at = self.begun;
        self.narrowed_by.truncate(MOST_NARROWING - 1);
        self.narrowed_by.push(webhook_id.to_owned());
        if was_narrowest {
            // A retry has failed before: it holds up retries alone.
            let kind = usize::from(!is_first);
            let pause = &mut self.pauses[kind];
            pause.until = Some(now + (FIRST_PAUSES[kind] * pause.times).mul_f64(0.5 + random / 2.0));
            pause.times = (pause.times * 2).min(MOST_PAUSES);
            return true;
        }
        let is_again = self.learned.too_wide == Some(self.width);
        // Where one less held, that is the right width; else nobody knows.
        let target = if self.held + 1 == self.width { self.held } else { self.width / 2 };
        let patience = if is_again { (self.learned.patience * 2).min(MOST_PATIENCE) } else { PATIENCE };
        self.learned = Learned { too_wide: Some(self.width), target, patience };
        (self.width, self.passed) = (self.width / 2, 0);
        false
    }

    /// Holds everything back for so long.
    pub fn hold(&mut self, pause: Duration, now: Instant) {
        self.pauses[0].until = self.pauses[0].until.max(Some(now + pause));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Instant {
        Instant::now()
    }

    /// A round at the window's width: all pass.
    fn round(window: &mut Window) {
        (0..window.width()).for_each(|_| window.passed(true));
    }

    /// A round in which one more than `places` is too much for the rest.
    fn round_at(window: &mut Window, places: u32, number: &mut u32) {
        let began: Vec<Began> = (0..window.width()).map(|_| window.begin()).collect();
        for (place, began) in began.into_iter().enumerate() {
            *number += 1;
            if place < places as usize {
                window.passed(true);
            } else {
                window.too_much(&format!("msg_{number}"), true, began, 0.5, now());
            }
        }
    }

    #[test]
    fn it_begins_at_4_and_doubles_with_each_full_round_up_to_32() {
        let mut window = Window::default();
        let mut widths = vec![window.width()];
        for _ in 0..5 {
            round(&mut window);
            widths.push(window.width());
        }
        assert_eq!(widths, [4, 8, 16, 32, 32, 32]);
    }

    #[test]
    fn too_much_halves_it_once_a_round() {
        let mut window = Window::of(32);
        let began: Vec<Began> = (0..32).map(|_| window.begin()).collect();
        for (place, began) in began.into_iter().enumerate() {
            assert!(!window.too_much(&place.to_string(), true, began, 0.5, now()));
        }
        assert_eq!(window.width(), 16);
        let began = window.begin();
        window.too_much("next", true, began, 0.5, now());
        assert_eq!(window.width(), 8);
    }

    #[test]
    fn one_message_narrows_it_once_until_another_gets_through() {
        let mut window = Window::of(16);
        for wanted in [8, 8, 8] {
            let began = window.begin();
            window.too_much("poison", true, began, 0.5, now());
            assert_eq!(window.width(), wanted);
        }
        window.passed(true);
        let began = window.begin();
        window.too_much("poison", true, began, 0.5, now());
        assert_eq!(window.width(), 4);
    }

    #[test]
    fn it_settles_at_what_the_endpoint_takes_and_seldom_asks_for_more() {
        for places in [1, 2, 5, 20, 31] {
            let (mut window, mut number, mut refused) = (Window::default(), 0, 0);
            for _ in 0..100 {
                round_at(&mut window, places, &mut number);
            }
            let began_at = number;
            for _ in 0..400 {
                refused += u32::from(window.width() > places);
                round_at(&mut window, places, &mut number);
            }
            let sent = number - began_at;
            assert!(window.width() <= places + 1 && refused * 25 < sent, "{places}: {refused} of {sent}");
            assert!(sent >= 400 * places * 3 / 4, "{places}: {sent} sent in 400 rounds");
        }
    }

    #[test]
    fn it_widens_again_when_the_endpoint_takes_more() {
        let (mut window, mut number) = (Window::default(), 0);
        (0..50).for_each(|_| round_at(&mut window, 5, &mut number));
        assert!(window.width() <= 6);
        (0..60).for_each(|_| round(&mut window));
        assert_eq!(window.width(), 32);
    }

    #[test]
    fn an_outage_teaches_no_width() {
        let mut window = Window::default();
        (0..4).for_each(|_| round(&mut window));
        for number in 0..20 {
            let began = window.begin();
            window.too_much(&number.to_string(), true, began, 0.5, now());
        }
        assert_eq!(window.width(), 1);
        window.restart();
        let mut widths = Vec::new();
        for _ in 0..4 {
            widths.push(window.width());
            round(&mut window);
        }
        assert_eq!(widths, [4, 8, 16, 32]);
    }

    #[test]
    fn only_at_the_narrowest_too_much_may_mean_down_and_a_pause_follows_that_doubles() {
        let (mut window, at) = (Window::of(2), now());
        let mut may_be_down = Vec::new();
        let mut pauses = Vec::new();
        for number in 0..8 {
            let began = window.begin();
            may_be_down.push(window.too_much(&number.to_string(), true, began, 1.0, at));
            pauses.push(window.pause(true, at).as_millis());
        }
        assert_eq!(may_be_down, [false, true, true, true, true, true, true, true]);
        assert_eq!(pauses, [0, 100, 200, 400, 800, 1_600, 3_200, 3_200]);
        window.passed(true);
        assert!(window.pause(true, at).is_zero());
    }

    #[test]
    fn a_retry_that_is_too_much_at_the_narrowest_holds_up_no_first_attempt() {
        let (mut window, at) = (Window::of(1), now());
        let began = window.begin();
        assert!(window.too_much("retry", false, began, 1.0, at));
        assert!(window.pause(true, at).is_zero() && !window.pause(false, at).is_zero());
        window.passed(true);
        assert!(!window.pause(false, at).is_zero(), "another's first attempt says nothing of retries");
        window.passed(false);
        assert!(window.pause(false, at).is_zero());
    }

    #[test]
    fn retries_hold_at_most_half_and_at_the_narrowest_a_place_of_their_own() {
        let places: Vec<_> = [1, 2, 3, 32].into_iter().map(|width| Window::of(width).places()).collect();
        assert_eq!(places, [(1, 1, 2), (2, 1, 2), (3, 1, 3), (32, 16, 32)]);
    }
}
