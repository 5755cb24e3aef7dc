//! What was decided, key by key: the material of `bookend check`.

use super::diagnostics::Place;

/// One key with the value in force and where it came from.
#[derive(Clone, Debug)]
pub struct Entry {
    pub path: String,
    pub value: String,
    pub place: Place,
}
