//! The thread that children are started from.
//!
//! A child asks the kernel to be killed with its parent, and there a parent is a thread: were a child started
//! from a runtime's worker or blocking thread, it would die whenever that thread is retired. This thread lives
//! as long as the pool.

use std::{io, sync::mpsc, thread};

use tokio::{
    process::{Child, Command},
    runtime::Handle,
    sync::oneshot,
};

struct Order {
    command: Command,
    /// Whose reactor serves the child's pipes.
    runtime: Handle,
    reply: oneshot::Sender<io::Result<Child>>,
}

/// Starts children; dropped, its thread ends, and the kernel kills the children that are left.
#[derive(Debug)]
pub(super) struct Spawner {
    orders: mpsc::Sender<Order>,
}

impl Spawner {
    pub(super) fn start() -> io::Result<Self> {
        let (orders, incoming) = mpsc::channel::<Order>();
        thread::Builder::new()
            .name("decoder-spawner".into())
            .spawn(move || {
                for Order {
                    mut command,
                    runtime,
                    reply,
                } in incoming
                {
                    let _entered = runtime.enter();
                    // If the caller is gone the child comes back and is killed as it is dropped.
                    let _ = reply.send(command.spawn());
                }
            })?;
        Ok(Self { orders })
    }

    /// Starts `command` on behalf of the current runtime.
    pub(super) async fn spawn(&self, command: Command) -> io::Result<Child> {
        let (reply, child) = oneshot::channel();
        let gone = || io::Error::other("the thread that starts decoders has ended");
        self.orders
            .send(Order {
                command,
                runtime: Handle::current(),
                reply,
            })
            .map_err(|_| gone())?;
        child.await.map_err(|_| gone())?
    }
}
