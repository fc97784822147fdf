//! Features, tested at their boundary: a real Postgres, the real model on the CPU, real sockets.
#![expect(
    clippy::unwrap_used,
    reason = "a test that can't go on should say where"
)]
#![expect(
    unreachable_pub,
    reason = "the harness is written as the library it could be"
)]

mod harness;

mod access;
mod bad_input;
mod batch;
mod cli;
mod conversion;
mod embedded;
mod http;
mod idempotency;
mod invariance;
mod listen;
mod listing;
mod meshes;
mod migrations;
mod mutations;
mod nodes;
mod queue;
mod schema;
mod subscriptions;
mod transitions;
