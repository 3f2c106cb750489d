//! Threads that decode for many cameras in turns.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::PixelPool;
use crate::sync::{Arc, Builder, Condvar, JoinHandle, Mutex, MutexGuard, PoisonError, current};

/// What a piece of work says after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// More can be done at once: it goes to the end of the line.
    Again,
    /// Nothing can be done before somebody schedules it.
    Parked,
}

/// Work that is done in turns of at most one picture. The pool never runs it on two threads at once.
pub(crate) trait Work: Send + Sync {
    fn turn(&self) -> Turn;
    fn slot(&self) -> &Slot;
    /// A turn panicked: the thread goes on with other work.
    fn crashed(&self);
}

/// A piece of work's place in the pool.
#[derive(Debug, Default)]
pub(crate) struct Slot(Mutex<Place>);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Parked,
    Queued,
    Running,
    /// Scheduled again while running.
    RunningAgain,
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, Place> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
struct Line {
    waiting: VecDeque<Arc<dyn Work>>,
    is_closed: bool,
}

#[derive(Default)]
struct Shared {
    line: Mutex<Line>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queue(&self, work: Arc<dyn Work>) {
        self.lock().waiting.push_back(work);
        self.changed.notify_one();
    }

    fn next(&self) -> Option<Arc<dyn Work>> {
        let mut line = self.lock();
        loop {
            if line.is_closed {
                return None;
            }
            match line.waiting.pop_front() {
                Some(work) => return Some(work),
                None => line = self.changed.wait(line).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    fn run(&self) {
        while let Some(work) = self.next() {
            *work.slot().lock() = Place::Running;
            let turn = catch_unwind(AssertUnwindSafe(|| work.turn())).unwrap_or_else(|_| {
                work.crashed();
                Turn::Again
            });
            let mut place = work.slot().lock();
            let again = turn == Turn::Again || *place == Place::RunningAgain;
            *place = if again { Place::Queued } else { Place::Parked };
            drop(place);
            if again {
                self.queue(work);
            }
        }
    }
}

/// Named threads and the buffers that they fill. Closing it, or dropping it, ends the threads after the turn that each is
/// in.
pub(crate) struct DecodePool {
    name: String,
    pub(super) pixels: PixelPool,
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl fmt::Debug for DecodePool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DecodePool({} threads)", self.threads().len())
    }
}

impl DecodePool {
    pub(crate) fn start(threads: usize, name: &str) -> io::Result<Self> {
        let (pixels, shared, running) = Default::default();
        let pool = Self { name: name.to_owned(), pixels, shared, threads: running };
        pool.grow(threads.max(1))?;
        Ok(pool)
    }

    /// Starts threads until there are so many.
    pub(crate) fn grow(&self, threads: usize) -> io::Result<()> {
        let mut running = self.threads();
        for index in running.len()..threads {
            let shared = self.shared.clone();
            // Linux shows fifteen bytes of a thread's name.
            running.push(Builder::new().name(format!("decode{index} {}", self.name)).spawn(move || shared.run())?);
        }
        Ok(())
    }

    fn threads(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the work a turn soon, and another one when it is in the middle of one.
    pub(crate) fn schedule(&self, work: &Arc<impl Work + 'static>) {
        let mut place = work.slot().lock();
        match *place {
            Place::Parked => {
                *place = Place::Queued;
                drop(place);
                self.shared.queue(work.clone());
            }
            Place::Running => *place = Place::RunningAgain,
            Place::Queued | Place::RunningAgain => {}
        }
    }
}

impl DecodePool {
    /// Ends the threads and waits for them.
    pub(crate) fn close(&self) {
        let mut line = self.shared.lock();
        line.is_closed = true;
        line.waiting.clear();
        drop(line);
        self.shared.changed.notify_all();
        let threads = std::mem::take(&mut *self.threads());
        for thread in threads {
            // A consumer may drop the last handle inside a turn; a thread cannot wait for itself.
            if thread.thread().id() != current().id() {
                let _ = thread.join();
            }
        }
    }
}

impl Drop for DecodePool {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{SyncSender, sync_channel};

    use super::*;

    struct Counter {
        slot: Slot,
        left: Mutex<u32>,
        name: char,
        log: SyncSender<char>,
    }

    impl Work for Counter {
        fn turn(&self) -> Turn {
            let mut left = self.left.lock().unwrap();
            if *left == 0 {
                return Turn::Parked;
            }
            *left -= 1;
            self.log.send(self.name).unwrap();
            Turn::Again
        }

        fn slot(&self) -> &Slot {
            &self.slot
        }

        fn crashed(&self) {}
    }

    #[test]
    fn turns_are_fair_and_work_can_be_scheduled_again() {
        let (log, logged) = sync_channel(0); // each turn waits until the test has seen it
        let work =
            |name, left| Arc::new(Counter { slot: Slot::default(), left: Mutex::new(left), name, log: log.clone() });
        let pool = DecodePool::start(1, "test").unwrap();
        let (a, b) = (work('a', 3), work('b', 3));
        pool.schedule(&a);
        pool.schedule(&a); // twice is once
        pool.schedule(&b);
        let turns: String = (0..6).map(|_| logged.recv().unwrap()).collect();
        assert!(["ababab", "aababb"].contains(&turns.as_str()), "{turns}");
        *a.left.lock().unwrap() = 1;
        pool.schedule(&a);
        assert_eq!(logged.recv(), Ok('a'));
        drop(pool);
        drop((a, b, log));
        assert!(logged.recv().is_err(), "nothing runs after the pool is gone");
    }
}
