//! What an HTTP request that was not granted means: whether to ask again, and why it was not.

use super::in_words;
use reqwest::{Error, Response};

/// Of what a server says about it. Characters.
const WORDS_LIMIT: usize = 200;

/// A request that was not granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub reason: String,
    /// Asking again changes nothing.
    pub is_for_good: bool,
}

/// Whether it was granted. What a URL holds may be a secret: it is in no reason.
///
/// # Errors
/// That it was not.
pub async fn granted(sent: Result<Response, Error>) -> Result<(), Refusal> {
    let answer =
        sent.map_err(|error| Refusal { reason: in_words(&error.without_url()), is_for_good: false })?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let said = answer.text().await.unwrap_or_default();
    let said: String = said.chars().filter(|c| !c.is_control()).take(WORDS_LIMIT).collect();
    // RFC 9110, section 15.5.9; RFC 8470; RFC 6585, section 4.
    let is_for_now = status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429);
    Err(Refusal { reason: format!("{status} {said}").trim().to_owned(), is_for_good: !is_for_now })
}
