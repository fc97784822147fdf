//! The operations of one connection by their ids.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use axum::extract::ws::Message;
use tokio::{sync::mpsc, task::AbortHandle};

/// Which operations run, and that only those are heard of.
#[derive(Debug, Default)]
pub(super) struct Operations(Mutex<Running>);

#[derive(Debug, Default)]
struct Running {
    by_id: HashMap<String, Operation>,
    last: u64,
}

#[derive(Debug)]
struct Operation {
    number: u64,
    task: Option<AbortHandle>,
}

/// An operation that was let in. Its id may be another's later, its number never.
#[derive(Debug, Clone)]
pub(super) struct Ticket {
    pub(super) id: String,
    number: u64,
}

/// Why an operation was not let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NotEntered {
    IdInUse,
    Full,
}

impl Operations {
    /// The sections that hold it can't panic halfway.
    fn lock(&self) -> MutexGuard<'_, Running> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets an operation in.
    pub(super) fn enter(&self, id: &str, operations_max: usize) -> Result<Ticket, NotEntered> {
        let mut running = self.lock();
        if running.by_id.contains_key(id) {
            return Err(NotEntered::IdInUse);
        }
        if running.by_id.len() >= operations_max {
            return Err(NotEntered::Full);
        }
        running.last += 1;
        let number = running.last;
        let operation = Operation { number, task: None };
        running.by_id.insert(id.to_owned(), operation);
        Ok(Ticket {
            id: id.to_owned(),
            number,
        })
    }

    /// Remembers the task of an operation, unless it has ended already.
    pub(super) fn started(&self, ticket: &Ticket, task: AbortHandle) {
        if let Some(operation) = self.lock().by_id.get_mut(&ticket.id)
            && operation.number == ticket.number
        {
            operation.task = Some(task);
        }
    }

    /// Stops an operation; nothing more is sent of it, even if its task is just about to.
    pub(super) fn stop(&self, id: &str) {
        let stopped = self.lock().by_id.remove(id);
        if let Some(task) = stopped.and_then(|operation| operation.task) {
            task.abort();
        }
    }

    /// Queues a message of an operation if that still runs; whether it does.
    pub(super) fn send(
        &self,
        ticket: &Ticket,
        room: mpsc::Permit<'_, Message>,
        message: Message,
    ) -> bool {
        let running = self.lock();
        let runs = is_current(&running, ticket);
        if runs {
            room.send(message);
        }
        runs
    }

    /// Queues the last message of an operation if that still runs. Its id is free before the client can know.
    pub(super) fn finish(
        &self,
        ticket: &Ticket,
        room: mpsc::Permit<'_, Message>,
        message: Message,
    ) {
        let mut running = self.lock();
        if is_current(&running, ticket) {
            running.by_id.remove(&ticket.id);
            room.send(message);
        }
    }
}

fn is_current(running: &Running, ticket: &Ticket) -> bool {
    let operation = running.by_id.get(&ticket.id);
    operation.is_some_and(|operation| operation.number == ticket.number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_id_belongs_to_one_operation_at_a_time() {
        let operations = Operations::default();
        let (sender, mut queue) = mpsc::channel(4);
        let text = || Message::Text("x".into());
        let first = operations.enter("a", 2).expect("there is room");
        assert_eq!(
            operations.enter("a", 2).map(|_| ()),
            Err(NotEntered::IdInUse)
        );
        operations.enter("b", 2).expect("there is room");
        assert_eq!(operations.enter("c", 2).map(|_| ()), Err(NotEntered::Full));
        operations.stop("a");
        let second = operations.enter("a", 2).expect("it is free again");
        let room = sender.reserve().await.expect("the queue lives");
        assert!(!operations.send(&first, room, text()), "it was stopped");
        let room = sender.reserve().await.expect("the queue lives");
        operations.finish(&first, room, text());
        assert!(
            queue.try_recv().is_err(),
            "nothing was sent of the stopped one"
        );
        let room = sender.reserve().await.expect("the queue lives");
        assert!(operations.send(&second, room, text()));
        let room = sender.reserve().await.expect("the queue lives");
        operations.finish(&second, room, text());
        assert!(queue.try_recv().is_ok() && queue.try_recv().is_ok());
        operations.enter("a", 2).expect("it is free again");
    }
}
