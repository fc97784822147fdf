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

mod batch;
mod conversion;
mod embedded;
mod schema;
