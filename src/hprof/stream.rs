//! A window on the dump: what is behind it has been written, what is before it is
//! still to be read, and what is in it may be changed.

use super::format::DumpError;
use std::io::{ErrorKind, Read, Write};

/// The window's size: large reads, and room for every record that is looked at whole. Bytes.
const WINDOW: usize = 1 << 20;
/// No record of which the whole must be seen is longer. Bytes.
pub(super) const WHOLE_LIMIT: usize = WINDOW / 2;
/// What is held back until it is known what may be written. Bytes.
const HELD_LIMIT: usize = 64 << 20;

/// From `input` to `output`, through the window.
pub(super) struct Stream<'n, R, W> {
    input: R,
    output: W,
    /// Where names go that come in between objects; else they go where all goes.
    names: Option<&'n mut dyn Write>,
    /// What passes is a name.
    is_name: bool,
    window: Vec<u8>,
    /// Where the next byte to be looked at is in the window.
    at: usize,
    end: usize,
    /// Of the window's first byte in the dump.
    offset: u64,
    /// What is not written yet, although it is behind the window.
    held: Option<Vec<u8>>,
}

impl<'n, R: Read, W: Write> Stream<'n, R, W> {
    pub(super) fn new(input: R, output: W, names: Option<&'n mut dyn Write>, holds: bool) -> Self {
        let held = holds.then(Vec::new);
        let window = vec![0; WINDOW];
        Self { input, output, names, is_name: true, window, at: 0, end: 0, offset: 0, held }
    }

    /// Names come in between objects, and go elsewhere.
    pub(super) fn parts_names(&self) -> bool {
        self.names.is_some()
    }

    /// What passes from here on is a name, or not.
    pub(super) fn turn(&mut self, is_name: bool) -> Result<(), DumpError> {
        if self.is_name != is_name && self.parts_names() {
            self.forget_passed()?;
        }
        self.is_name = is_name;
        Ok(())
    }

    /// Of the next byte in what is held back.
    pub(super) fn held_position(&self) -> usize {
        self.held.as_ref().map_or(0, Vec::len).saturating_add(self.at)
    }

    /// The offset in the dump.
    pub(super) fn position(&self) -> u64 {
        self.offset.saturating_add(self.at as u64)
    }

    pub(super) fn broken(&self, what: impl Into<String>) -> DumpError {
        DumpError::Broken { at: self.position(), what: what.into() }
    }

    /// The next `size` bytes, without going on; at most [`WHOLE_LIMIT`].
    pub(super) fn look(&mut self, size: usize) -> Result<&mut [u8], DumpError> {
        if size > WHOLE_LIMIT {
            return Err(self.broken(format!("a record of {size} bytes is longer than any JVM's")));
        }
        while self.end - self.at < size {
            if !self.read_more()? {
                return Err(DumpError::Short { at: self.position() });
            }
        }
        let (from, to) = (self.at, self.at + size);
        self.window.get_mut(from..to).ok_or(DumpError::NoDump)
    }

    /// Whether there is anything more.
    pub(super) fn is_over(&mut self) -> Result<bool, DumpError> {
        Ok(self.at == self.end && !self.read_more()?)
    }

    /// Goes on by `size` bytes that were looked at.
    pub(super) fn pass(&mut self, size: usize) {
        self.at = self.at.saturating_add(size).min(self.end);
    }

    /// Goes on by `size` bytes, whatever they are; `change` sees each piece of them.
    pub(super) fn pass_all(&mut self, size: u64, mut change: impl FnMut(&mut [u8])) -> Result<(), DumpError> {
        let mut left = size;
        while left > 0 {
            if self.at == self.end && !self.read_more()? {
                return Err(DumpError::Short { at: self.position() });
            }
            let here = usize::try_from(left).unwrap_or(usize::MAX).min(self.end - self.at);
            let (from, to) = (self.at, self.at + here);
            if let Some(piece) = self.window.get_mut(from..to) {
                change(piece);
            }
            self.at = to;
            left -= here as u64;
        }
        Ok(())
    }

    /// Writes what was passed, and makes room for more; false at the input's end.
    fn read_more(&mut self) -> Result<bool, DumpError> {
        self.forget_passed()?;
        loop {
            let room = self.window.get_mut(self.end..).unwrap_or_default();
            match self.input.read(room) {
                Ok(0) => return Ok(false),
                Ok(size) => {
                    self.end += size;
                    return Ok(true);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(DumpError::Read(error)),
            }
        }
    }

    fn forget_passed(&mut self) -> Result<(), DumpError> {
        self.write_passed()?;
        self.window.copy_within(self.at..self.end, 0);
        self.offset = self.offset.saturating_add(self.at as u64);
        self.end -= self.at;
        self.at = 0;
        Ok(())
    }

    fn write_passed(&mut self) -> Result<(), DumpError> {
        let passed = self.window.get(..self.at).unwrap_or_default();
        let is_object = self.names.is_some() && !self.is_name;
        if let (false, Some(held)) = (is_object, &mut self.held) {
            if held.len().saturating_add(passed.len()) > HELD_LIMIT {
                let what = "its names and classes are more than any JVM has".to_owned();
                return Err(DumpError::Broken { at: self.offset, what });
            }
            held.extend_from_slice(passed);
            return Ok(());
        }
        let output: &mut dyn Write = match &mut self.names {
            Some(names) if self.is_name => names,
            _ => &mut self.output,
        };
        output.write_all(passed).map_err(DumpError::Write)
    }

    /// Everything that was held back, to be changed once more before it is written; from
    /// here on nothing is held back.
    pub(super) fn release(&mut self, change: impl FnOnce(&mut [u8])) -> Result<(), DumpError> {
        self.forget_passed()?;
        let mut held = self.held.take().unwrap_or_default();
        change(&mut held);
        let output: &mut dyn Write = match &mut self.names {
            Some(names) => names,
            None => &mut self.output,
        };
        output.write_all(&held).map_err(DumpError::Write)
    }

    /// Writes what was passed.
    pub(super) fn flush(&mut self) -> Result<(), DumpError> {
        self.forget_passed()?;
        self.output.flush().map_err(DumpError::Write)
    }
}

/// A big-endian number of one to eight bytes at `at`; 0 where there is none.
pub(super) fn number(bytes: &[u8], at: usize, size: usize) -> u64 {
    let end = at.saturating_add(size);
    bytes.get(at..end).unwrap_or_default().iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}
