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

mod abuse;
mod access;
mod audit;
mod backpressure;
mod backups;
mod bad_input;
mod batch;
#[cfg(feature = "torch")]
mod cancel;
mod cli;
mod conformance;
mod conversion;
mod crashes;
#[cfg(feature = "torch")]
mod dense;
mod docs;
mod documents;
mod downloads;
mod egress;
mod embedded;
mod event_streams;
mod examples;
#[cfg(feature = "torch")]
mod faults;
mod fetching;
mod fuzz;
mod http;
mod idempotency;
mod identity;
mod input_defence;
mod invariance;
mod iterative;
mod keys;
mod listen;
mod listing;
mod load;
mod meshes;
mod migrations;
mod mutations;
mod namespaces;
mod network;
mod nodes;
mod notices;
mod queue;
mod quotas;
mod retention;
mod schema;
mod sign_in;
mod signatures;
#[cfg(feature = "torch")]
mod soak;
mod studio;
mod subscriptions;
mod traces;
mod training;
mod transactions;
mod transitions;
mod verify;
mod webhooks;
mod websocket;
