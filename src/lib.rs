//! orfeas: pictures in, meshes out.
//!
//! In reading order: what a conversion is, what it is made with, where it is kept, how it runs, how it is reached.

pub mod app;
pub mod auth;
pub mod backup;
pub mod cli;
pub mod config;
pub mod conversion;
pub mod crash;
pub mod db;
pub mod decoder;
pub mod egress;
pub mod error_chain;
pub mod evaluation;
pub mod graphql;
pub mod http;
pub mod image;
pub mod inference;
pub mod mesh;
pub mod pipeline;
pub mod retention;
pub mod storage;
pub mod telemetry;
pub mod webhook;
pub mod worker;
