//! Known secrets out of a binary file, in place.
//!
//! A flight recording holds the variables, the properties and the command line that the
//! JVM was started with. Its strings are UTF-8 or one byte a character
//! (`JfrEventWriterHost`, `jdk.jfr.internal.StringParser`), and never compressed: what is
//! overwritten by as many bytes leaves all else where it is.

use memchr::memmem::Finder;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

const PIECE: usize = 1 << 20;

/// Overwrites each of `secrets` with asterisks; the number of places.
///
/// # Errors
/// As reading and writing it does, and `TimedOut` if `is_late` says so on the way. What
/// was found before is overwritten.
pub fn overwrite_secrets(file: &File, secrets: &[String], is_late: impl Fn() -> bool) -> io::Result<u64> {
    let finders: Vec<Finder<'_>> = secrets.iter().filter(|one| !one.is_empty()).map(Finder::new).collect();
    // A place that begins in one piece may end in the next, and is looked for there.
    let Some(overlap) = secrets.iter().map(String::len).max() else { return Ok(0) };
    let mut buffer = vec![0; PIECE.max(overlap.saturating_mul(2))];
    let mut places = 0;
    let mut offset = 0;
    loop {
        if is_late() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let count = read_full(file, &mut buffer, offset)?;
        let is_last = count < buffer.len();
        // What begins later may be cut off here: the next piece begins with it.
        let begins_before = if is_last { count } else { count - overlap };
        let piece = buffer.get_mut(..count).unwrap_or_default();
        for finder in &finders {
            let found: Vec<usize> = finder.find_iter(piece).take_while(|at| *at < begins_before).collect();
            for at in found {
                let end = at.saturating_add(finder.needle().len());
                let Some(place) = piece.get_mut(at..end) else { continue };
                place.fill(b'*');
                file.write_all_at(place, offset + at as u64)?;
                places += 1;
            }
        }
        if is_last {
            return Ok(places);
        }
        offset += begins_before as u64;
    }
}

/// Less than the buffer only at the file's end.
fn read_full(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut count = 0;
    while let Some(rest) = buffer.get_mut(count..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + count as u64) {
            Ok(0) => break,
            Ok(size) => count += size,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// At the begin, at the end, side by side, over the border of two pieces.
    #[test]
    fn no_place_is_missed() {
        let secrets = ["sesame-and-more".to_owned(), "sesame".to_owned()];
        let mut bytes = vec![0xff; 3 * PIECE];
        let places = [0, 15, PIECE - 8, PIECE - 23, 2 * PIECE - 16, 2 * PIECE - 31, 3 * PIECE - 15];
        for at in places {
            bytes[at..at + 15].copy_from_slice(b"sesame-and-more");
        }
        bytes[100..106].copy_from_slice(b"sesame");
        let path = std::env::temp_dir().join(format!("bookend-overwrite-{}", std::process::id()));
        std::fs::write(&path, &bytes).expect("written");
        let file = File::options().read(true).write(true).open(&path).expect("opened");
        let found = overwrite_secrets(&file, &secrets, || false).expect("it reads and writes");
        let after = std::fs::read(&path).expect("read");
        std::fs::remove_file(&path).expect("removed");
        assert_eq!(found, 8);
        assert_eq!(after.len(), bytes.len());
        let kept = after.split(|byte| *byte == b'*').map(<[u8]>::len).sum::<usize>();
        assert_eq!(after.len() - kept, 7 * 15 + 6);
        assert!(after.iter().all(|byte| [0xff, b'*'].contains(byte)));
        assert_eq!(overwrite_secrets(&file, &[], || false).expect("nothing to do"), 0);
        let late = overwrite_secrets(&file, &secrets, || true).map_err(|error| error.kind());
        assert_eq!(late, Err(io::ErrorKind::TimedOut));
    }
}
