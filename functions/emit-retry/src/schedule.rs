//! What comes after an attempt. Pure: the schedule of contract §5, clock and randomness passed in.

use std::time::Duration;

/// `Retry-After` is honoured up to this.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3_600);
/// From this wait on there is jitter: the first three are the seed's 1 s, 3 s and 9 s, as they stand.
const FIRST_WITH_JITTER: usize = 3;
/// ± 20 %
const JITTER: f64 = 0.2;
/// The longest wait that may be set; see `store::outbox`, where what lies further ahead counts as a wrong clock.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3_600);
const MOST_WAITS: usize = 50;

/// The waits between attempts: one attempt more than there are waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule(Vec<Duration>);

impl Default for Schedule {
    /// 1 s, 3 s, 9 s, 1 min, 5 min, 30 min, 2 h, 6 h, 12 h, 24 h, 24 h: twelve attempts in some three days.
    fn default() -> Self {
        let hours = |hours: u64| hours * 3_600;
        let seconds = [1, 3, 9, 60, 300, 1_800, hours(2), hours(6), hours(12), hours(24), hours(24)];
        Self(seconds.map(Duration::from_secs).to_vec())
    }
}

impl Schedule {
    /// Reads waits such as `1s,3s,9s,1m,5m,30m,2h`: whole numbers of `s`, `m` or `h` with commas, at most 50 of at most
    /// 24 h each.
    ///
    /// # Errors
    /// What would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        let waits: Option<Vec<Duration>> = text.split(',').map(|wait| parse_wait(wait.trim())).collect();
        let waits = waits.filter(|waits| waits.len() <= MOST_WAITS);
        waits
            .map(Self)
            .ok_or_else(|| format!("must be waits as 1s,3s,9s,1m,5m,2h: at most {MOST_WAITS}, each at most 24h"))
    }
}

fn parse_wait(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let factor = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        _ => return None,
    };
    let digits = Some(digits).filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))?;
    let wait = Duration::from_secs(digits.parse::<u64>().ok()?.checked_mul(factor)?);
    (wait <= LONGEST_WAIT).then_some(wait)
}

/// How an attempt ended, as far as it matters for what comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// A 2xx: ops has it.
    Delivered,
    /// A 410: the endpoint is gone, and says so.
    Gone,
    /// A 429 or 503, with the `Retry-After` that came with it.
    Busy(Option<Duration>),
    /// Any other status, or no answer.
    Failed,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Nothing: it is delivered.
    Done,
    /// Another attempt after this wait.
    Wait(Duration),
    /// Another attempt when there would have been one without this: it did not use up the schedule.
    AsBefore,
    /// Someone has to look at it, for the endpoint is gone.
    Park,
    /// That was the last attempt.
    Die,
}

/// What comes after an attempt. `step` is how many attempts of the schedule were used up before it, `random` is from
/// 0 up to 1.
pub fn next(schedule: &Schedule, step: u32, answer: Answer, random: f64) -> Next {
    let retry_after = match answer {
        Answer::Delivered => return Next::Done,
        Answer::Gone => return Next::Park,
        Answer::Busy(after) => after.unwrap_or_default().min(MAX_RETRY_AFTER),
        Answer::Failed => Duration::ZERO,
    };
    let place = usize::try_from(step).unwrap_or(usize::MAX);
    let Some(wait) = schedule.0.get(place) else { return Next::Die };
    let jittered = if place >= FIRST_WITH_JITTER {
        wait.mul_f64(1.0 - JITTER + 2.0 * JITTER * random.clamp(0.0, 1.0))
    } else {
        *wait
    };
    Next::Wait(jittered.max(retry_after))
}

/// What comes after an attempt that the schedule did not want, such as a probe: nothing dies of it.
pub fn unscheduled(answer: Answer) -> Next {
    match answer {
        Answer::Delivered => Next::Done,
        Answer::Gone => Next::Park,
        Answer::Busy(_) | Answer::Failed => Next::AsBefore,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn seconds(step: u32, answer: Answer, random: f64) -> f64 {
        match next(&Schedule::default(), step, answer, random) {
            Next::Wait(wait) => wait.as_secs_f64(),
            other => unreachable!("{other:?}"),
        }
    }

    #[test]
    fn the_first_three_waits_are_exact_and_the_others_have_a_fifth_of_jitter() {
        for (step, wait) in [(0, 1.0), (1, 3.0), (2, 9.0)] {
            assert_eq!(seconds(step, Answer::Failed, 0.0), wait);
            assert_eq!(seconds(step, Answer::Failed, 0.999), wait);
        }
        for (step, wait) in [(3, 60.0), (4, 300.0), (5, 1_800.0), (6, 7_200.0), (10, 86_400.0)] {
            assert!((seconds(step, Answer::Failed, 0.0) - wait * 0.8).abs() < 0.01);
            assert!((seconds(step, Answer::Failed, 0.5) - wait).abs() < 0.01);
            assert!((seconds(step, Answer::Failed, 1.0) - wait * 1.2).abs() < 0.01);
        }
    }

    #[test]
    fn the_twelfth_failure_is_the_last() {
        assert!(matches!(next(&Schedule::default(), 10, Answer::Failed, 0.5), Next::Wait(_)));
        assert_eq!(next(&Schedule::default(), 11, Answer::Failed, 0.5), Next::Die);
        assert_eq!(next(&Schedule::default(), u32::MAX, Answer::Busy(None), 0.5), Next::Die);
    }

    #[test]
    fn retry_after_is_honoured_up_to_an_hour_and_never_shortens_a_wait() {
        let busy = |seconds| Answer::Busy(Some(Duration::from_secs(seconds)));
        assert_eq!(seconds(0, busy(120), 0.5), 120.0);
        assert_eq!(seconds(0, busy(86_400), 0.5), 3_600.0);
        assert_eq!(seconds(2, busy(1), 0.5), 9.0);
    }

    #[test]
    fn a_410_parks_and_a_2xx_ends_it_whenever_they_come() {
        for step in [0, 5, 11, 99] {
            assert_eq!(next(&Schedule::default(), step, Answer::Gone, 0.5), Next::Park);
            assert_eq!(next(&Schedule::default(), step, Answer::Delivered, 0.5), Next::Done);
        }
    }

    #[test]
    fn an_attempt_that_the_schedule_did_not_want_never_kills() {
        assert_eq!(unscheduled(Answer::Failed), Next::AsBefore);
        assert_eq!(unscheduled(Answer::Busy(Some(Duration::from_secs(9)))), Next::AsBefore);
        assert_eq!((unscheduled(Answer::Delivered), unscheduled(Answer::Gone)), (Next::Done, Next::Park));
    }

    #[test]
    fn a_schedule_is_read_as_it_is_written() {
        let schedule = Schedule::parse("1s, 2m,3h").unwrap();
        assert_eq!(schedule.0, [1, 120, 10_800].map(Duration::from_secs));
        for wrong in ["", "1", "s", "1d", "-1s", "1.5s", "25h", "1s,,2s", "99999999999999999999s", "1é"] {
            assert!(Schedule::parse(wrong).is_err(), "{wrong}");
        }
    }
}
