//! A thread that gives a GPU its long passes.
//!
//! To ask for an encode, nearly a thousand kernels, takes several milliseconds, in which the device's own thread has short
//! passes to begin.

use std::{
    cell::RefCell,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::mpsc,
    thread::{self, JoinHandle},
};

use super::super::{device::DeviceId, error::EngineError};

type Job = Box<dyn FnOnce() + Send>;

/// The thread. Dropping this waits until what it was given is done.
#[derive(Debug)]
pub(super) struct Launcher {
    /// Both there until it is dropped.
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread was given, and what comes of it.
#[derive(Debug)]
pub(super) struct Launched<T> {
    answer: mpsc::Receiver<thread::Result<T>>,
    here: RefCell<Option<thread::Result<T>>>,
}

impl Launcher {
    /// A thread that computes no gradients.
    ///
    /// # Errors
    /// [`EngineError::Thread`].
    pub(super) fn spawn(id: DeviceId) -> Result<Self, EngineError> {
        let (jobs, given) = mpsc::channel::<Job>();
        let body = move || {
            let _no_grad = tch::no_grad_guard();
            given.into_iter().for_each(|job| job());
        };
        let thread = thread::Builder::new()
            .name(format!("launch-{id}"))
            .spawn(body);
        let thread = thread.map_err(|source| EngineError::Thread {
            device: id,
            source: source.into(),
        })?;
        Ok(Self {
            jobs: Some(jobs),
            thread: Some(thread),
        })
    }

    /// Has the thread do this after what it was given before.
    pub(super) fn launch<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Launched<T> {
        let (sender, answer) = mpsc::sync_channel(1);
        let job = move || {
            // Nobody may wait for it any more.
            drop(sender.send(catch_unwind(AssertUnwindSafe(work))));
        };
        let jobs = self.jobs.as_ref().expect("it isn't dropped");
        // The thread lives as long as `self`.
        drop(jobs.send(Box::new(job)));
        Launched {
            answer,
            here: RefCell::default(),
        }
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        drop(self.jobs.take());
        // It catches the panics of what it is given.
        drop(self.thread.take().map(JoinHandle::join));
    }
}

impl<T> Launched<T> {
    /// Whether there is nothing to wait for: it has panicked, or is done and what came of it `is_over`.
    pub(super) fn is_over(&self, is_over: impl FnOnce(&T) -> bool) -> bool {
        let mut here = self.here.borrow_mut();
        if here.is_none() {
            *here = self.answer.try_recv().ok();
        }
        match &*here {
            None => false,
            Some(Err(_)) => true,
            Some(Ok(answer)) => is_over(answer),
        }
    }

    /// Waits until it is done. To be called once.
    ///
    /// # Panics
    /// As it did.
    pub(super) fn wait(&self) -> T {
        let answer = self.here.take().unwrap_or_else(|| {
            let answer = self.answer.recv();
            answer.expect("the thread does what it is given, and answers once")
        });
        answer.unwrap_or_else(|panic| resume_unwind(panic))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_launches_waits_for_nobody_and_all_is_done_in_its_order() {
        let launcher = Launcher::spawn(DeviceId::Cpu).unwrap();
        let (gate, gated) = mpsc::channel();
        let first = launcher.launch(move || gated.recv().unwrap());
        let second = launcher.launch(|| "second");
        assert!(!first.is_over(|_| true) && !second.is_over(|_| true));
        gate.send("first").unwrap();
        assert_eq!(second.wait(), "second");
        assert!(first.is_over(|_| true), "it was before the second");
        assert!(!first.is_over(|_| false), "the device is not through");
        assert_eq!(first.wait(), "first");
    }

    #[test]
    fn a_panic_comes_to_who_waits_and_the_thread_goes_on() {
        let launcher = Launcher::spawn(DeviceId::Cpu).unwrap();
        let panics = launcher.launch(|| -> u8 { panic!("as a model may") });
        drop(launcher.launch(|| "nobody waits"));
        let last = launcher.launch(|| "last");
        drop(launcher);
        assert!(last.is_over(|_| true), "all is done");
        assert_eq!(last.wait(), "last");
        assert!(panics.is_over(|_| false), "there is nothing to wait for");
        let panic = catch_unwind(AssertUnwindSafe(|| panics.wait())).unwrap_err();
        assert_eq!(panic.downcast_ref(), Some(&"as a model may"));
    }
}
