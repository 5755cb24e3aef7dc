//! bookend: the ENTRYPOINT of JVM containers.
//!
//! # Theory of operation
//!
//! One static binary plays two roles. The **supervisor** ([`supervisor`]) is
//! PID 1: it runs ordered hooks, supervises the main process, forwards
//! signals, reaps, owns the clock and the exit code. It is a plain
//! single-threaded loop around a pure state machine. The **agent** ([`agent`])
//! is a second process, started only when the configuration asks for evidence;
//! it talks to the JVM, writes bundles, and may die at any time without
//! costing the service anything.
//!
//! Data flows one way: `argv + file + environment -> Config` ([`config`]);
//! `Config + Facts -> Plan` ([`plan`]); `Plan -> supervisor: Event ->
//! state.step -> Actions -> effects`; `supervisor <-link-> agent -> capture ->
//! bundle -> store`. The rules of dependency are in `ARCHITECTURE.md`, and
//! checked by a test that reads the sources.

pub mod cli;
pub mod compat;
pub mod config;
pub mod exit;
pub mod facts;
pub mod link;
pub mod output;
pub mod plan;
pub mod supervisor;
pub mod telemetry;
pub mod units;

#[cfg(feature = "agent")]
pub mod agent;
#[cfg(feature = "agent")]
pub mod evidence;
#[cfg(feature = "agent")]
pub mod hprof;
#[cfg(feature = "agent")]
pub mod jvm;
#[cfg(feature = "agent")]
pub mod net;
#[cfg(feature = "agent")]
pub mod probe;
#[cfg(feature = "agent")]
pub mod store;

#[expect(unsafe_code, reason = "the one place for it: see the module's documentation")]
pub mod sys;
