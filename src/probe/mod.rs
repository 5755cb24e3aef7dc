//! One probe: one async function, one answer.
//!
//! Knows neither plan nor roles. Names are looked up without NSS
//! ([`resolve()`]); every wait is inside the caller's timeout.

mod exec;
mod http;
mod resolve;
mod tcp;

pub use exec::{Ended, exec, run};
pub use http::{Http, HttpRequest};
pub use resolve::resolve;
pub use tcp::connect;
