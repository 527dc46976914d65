//! The executor: cooperative, single-threaded, polling.
//!
//! Nothing here interrupts a future and nothing wakes one: devices are polled, so
//! every task is polled in turn, for ever, until the one that is waited for is
//! done. Wakers therefore do nothing. A task gives way with [`yield_now`]; a task
//! that does not is a bug.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use core::future::Future;
use core::pin::{Pin, pin};
use core::task::{Context, Poll, Waker};

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Background tasks, polled in turn while something is waited for.
#[derive(Default)]
pub struct Executor {
    tasks: VecDeque<Task>,
}

impl Executor {
    /// An executor without tasks.
    pub const fn new() -> Self {
        Self {
            tasks: VecDeque::new(),
        }
    }

    /// Adds a background task.
    pub fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.push_back(Box::pin(task));
    }

    /// Number of background tasks that are not done.
    pub fn pending(&self) -> usize {
        self.tasks.len()
    }

    /// Drives `main` to its end, giving every background task one turn between two
    /// turns of `main`.
    pub fn run<T>(&mut self, main: impl Future<Output = T>) -> T {
        let mut main = pin!(main);
        let mut context = Context::from_waker(Waker::noop());
        loop {
            if let Poll::Ready(output) = main.as_mut().poll(&mut context) {
                return output;
            }
            self.tasks
                .retain_mut(|task| task.as_mut().poll(&mut context).is_pending());
            core::hint::spin_loop();
        }
    }
}

/// Drives one future to its end without background tasks.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    Executor::new().run(future)
}

/// Lets every other task have a turn.
pub fn yield_now() -> impl Future<Output = ()> {
    let mut yielded = false;
    core::future::poll_fn(move |_| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        Poll::Pending
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::sync::Arc;
    use core::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn tasks_take_turns_with_main() {
        let count = Arc::new(AtomicU32::new(0));
        let mut executor = Executor::new();
        for turns in [2, 5] {
            let count = count.clone();
            executor.spawn(async move {
                for _ in 0..turns {
                    count.fetch_add(1, Ordering::Relaxed);
                    yield_now().await;
                }
            });
        }
        executor.run(async {
            for _ in 0..3 {
                yield_now().await;
            }
        });
        assert_eq!(count.load(Ordering::Relaxed), 2 + 3);
        assert_eq!(executor.pending(), 1);
    }

    #[test]
    fn main_returns_its_value() {
        assert_eq!(block_on(async { 7 }), 7);
    }
}
