//! Standard error, written by a thread of its own: nobody waits for its reader. A pager that waits, a program that was
//! stopped or a slow disk under the journal costs log lines, and never an answer.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How many bytes may wait to be written. Lines past that are dropped.
const MOST_BYTES: usize = 1 << 20;
/// The most bytes of one write, so that a pipe takes the lines of several programs whole.
const PIECE_BYTES: usize = 4_096;
/// How long a process waits at its end for a reader that takes nothing, and for one that is slow.
const STALL_LIMIT: Duration = Duration::from_secs(1);
const FLUSH_LIMIT: Duration = Duration::from_secs(5);
/// The pause before a descriptor that does not block is tried again.
const TRY_AGAIN: Duration = Duration::from_millis(20);

/// Lines on their way to a writer.
#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Whole lines that nobody writes yet.
    waiting: Vec<u8>,
    /// How many lines were dropped since the last that were taken.
    dropped: u64,
    /// Whether lines are being written.
    writing: bool,
    /// How many pieces were written.
    pieces: u64,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds whole lines, or drops and counts them where too much waits.
    fn push(&self, lines: &[u8]) {
        let mut state = self.lock();
        if state.waiting.len() + lines.len() <= MOST_BYTES {
            state.waiting.extend_from_slice(lines);
            drop(state);
            self.changed.notify_all();
        } else {
            state.dropped += count(lines);
            drop(state);
            count_dropped(lines);
        }
    }

    /// Writes lines for ever.
    fn write_to(&self, mut out: impl Write) {
        loop {
            let (lines, dropped) = self.take();
            for piece in pieces(&lines) {
                if write_whole(&mut out, piece).is_err() {
                    count_dropped(piece);
                }
                self.lock().pieces += 1;
                self.changed.notify_all();
            }
            self.lock().writing = false;
            self.changed.notify_all();
            if dropped > 0 {
                tracing::warn!(dropped, "log lines were dropped: standard error was not read");
            }
        }
    }

    /// Waits for lines. Answers also how many were dropped after them.
    fn take(&self) -> (Vec<u8>, u64) {
        let waits = |state: &mut State| state.waiting.is_empty();
        let mut state = self.changed.wait_while(self.lock(), waits).unwrap_or_else(PoisonError::into_inner);
        state.writing = true;
        (std::mem::take(&mut state.waiting), std::mem::take(&mut state.dropped))
    }

    /// Waits until all is written, or nothing moves any more.
    fn flush(&self) {
        let end = Instant::now() + FLUSH_LIMIT;
        let mut state = self.lock();
        while (state.writing || !state.waiting.is_empty()) && Instant::now() < end {
            let before = state.pieces;
            let rests = |state: &mut State| state.pieces == before && (state.writing || !state.waiting.is_empty());
            let waited = self.changed.wait_timeout_while(state, STALL_LIMIT, rests);
            let (after, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            if timeout.timed_out() {
                return;
            }
            state = after;
        }
    }
}

/// The queue of this process and its thread; `None` where the system gives no thread.
fn queue() -> Option<&'static Queue> {
    static QUEUE: OnceLock<Option<&'static Queue>> = OnceLock::new();
    *QUEUE.get_or_init(|| {
        let queue: &'static Queue = Box::leak(Box::default());
        // The standard library's own handle has a lock, which a write that waits would hold.
        let descriptor = io::stderr().as_fd().try_clone_to_owned().map(File::from).ok()?;
        let thread = thread::Builder::new().name("stderr".to_owned()).spawn(move || queue.write_to(descriptor));
        thread.ok().map(|_| queue)
    })
}

/// Writes whole lines to standard error, at once. What can't be written is dropped.
pub(crate) fn write_now(lines: &[u8]) {
    let _ = write_whole(&mut io::stderr(), lines);
}

/// Has whole lines written to standard error, and does not wait for that.
pub(crate) fn write(lines: &[u8]) {
    match queue() {
        Some(queue) => queue.push(lines),
        None => write_now(lines),
    }
}

/// Waits until all lines are written: at most 1 s where nobody reads them, at most 5 s where someone does slowly.
pub(crate) fn flush() {
    if let Some(queue) = queue() {
        queue.flush();
    }
}

/// Writes all of it, however often it takes.
fn write_whole(out: &mut impl Write, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match out.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Another program may have set the terminal or pipe so.
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(TRY_AGAIN),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whole lines of at most [`PIECE_BYTES`] together; a longer line is a piece of its own.
fn pieces(mut lines: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let within = lines.len().min(PIECE_BYTES);
        let ends = |bytes: &[u8]| bytes.iter().rposition(|byte| *byte == b'\n');
        let first_end = || lines.iter().position(|byte| *byte == b'\n');
        let end = ends(&lines[..within]).or_else(first_end).map_or(lines.len(), |end| end + 1);
        let (piece, rest) = lines.split_at(end);
        lines = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

fn count(lines: &[u8]) -> u64 {
    lines.iter().map(|byte| u64::from(*byte == b'\n')).sum()
}

fn count_dropped(lines: &[u8]) {
    metrics::counter!("opshook_log_lines_dropped_total").increment(count(lines));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::{BufRead, Read};
    use std::sync::Arc;

    use super::*;

    fn line(number: usize) -> Vec<u8> {
        format!("{number:099}\n").into_bytes()
    }

    #[test]
    fn nobody_waits_for_a_reader_that_was_stopped_and_its_lines_come_when_it_goes_on() {
        let (reader, writer) = io::pipe().unwrap();
        let queue = Arc::new(Queue::default());
        let writing = Arc::clone(&queue);
        thread::spawn(move || writing.write_to(writer));
        // What is being written may be as much as what waits.
        let pushed = 3 * MOST_BYTES / 100;
        (0..pushed).for_each(|number| queue.push(&line(number)));
        let begun = Instant::now();
        queue.flush();
        assert!(begun.elapsed() >= STALL_LIMIT, "it gave up at once");
        let reading = thread::spawn(move || {
            let lines = io::BufReader::new(reader).lines().map_while(Result::ok);
            lines.take_while(|line| line != "afterwards").map(|line| line.parse().unwrap()).collect::<Vec<usize>>()
        });
        while queue.lock().writing || !queue.lock().waiting.is_empty() {
            queue.flush();
        }
        queue.push(b"afterwards\n");
        let read = reading.join().unwrap();
        assert!((MOST_BYTES / 100..pushed).contains(&read.len()), "{} of {pushed}", read.len());
        assert!(read.is_sorted_by(|before, after| before < after), "each line once, whole and in order");
    }

    #[test]
    fn what_was_pushed_is_written_when_a_flush_ends() {
        let (mut reader, writer) = io::pipe().unwrap();
        let queue = Arc::new(Queue::default());
        let writing = Arc::clone(&queue);
        thread::spawn(move || writing.write_to(writer));
        let all = thread::spawn(move || {
            let mut read = vec![0; 500_000];
            reader.read_exact(&mut read).unwrap();
            read
        });
        (0..5_000).for_each(|number| queue.push(&line(number)));
        queue.flush();
        assert!(queue.lock().waiting.is_empty() && !queue.lock().writing);
        assert_eq!(all.join().unwrap().len(), 500_000);
    }

    #[test]
    fn lines_are_written_whole_and_as_many_as_fit_into_a_piece() {
        let lines = [line(1).repeat(50), vec![b'x'; 5_000], b"\n".to_vec(), line(2), b"no end".to_vec()].concat();
        let lengths: Vec<usize> = pieces(&lines).map(<[u8]>::len).collect();
        assert_eq!(lengths, [4_000, 1_000, 5_001, 100, 6]);
        assert_eq!(pieces(&lines).collect::<Vec<_>>().concat(), lines);
    }
}
