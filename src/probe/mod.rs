//! One probe: one async function, one answer.
//!
//! Knows neither plan nor roles. Every wait is inside the caller's timeout.

mod exec;
mod http;
mod tcp;

pub use exec::{Ended, exec, run};
pub use http::{Http, HttpRequest};
pub use tcp::connect;
