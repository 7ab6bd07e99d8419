//! Receives UDP streams with headers in host memory and payloads in device memory, where they are
//! rows of a tensor as they land.
//!
//! Start with [`worker`], the loop; [`place`] is the idea; [`setup`] is where memory and ports meet.

#[expect(missing_docs, reason = "`--help` is the documentation of the flags")]
pub mod args;
pub mod compare;
pub mod consumer;
pub mod cost;
pub mod demo;
pub mod errand;
pub mod exchange;
pub mod flow;
mod growth;
pub mod handover;
pub mod head;
pub mod path;
pub mod place;
pub mod probe;
pub mod process;
pub mod receiver;
pub mod report;
mod revoke;
pub mod run;
mod running;
mod sample;
pub mod seq;
pub mod setup;
pub mod shortage;
pub mod sink;
pub mod totals;
pub mod worker;
