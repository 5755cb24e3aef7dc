//! Signal numbers and their names.

use std::fmt;

/// A Linux signal, 1–64. Numbers, not an enum: real-time signals have no names
/// of their own and must pass through all the same (CONFORMANCE B1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(u8);

/// `signal(7)`, x86 and ARM numbering, from 1.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];
/// What the C library hands out as SIGRTMIN; 32 and 33 are its own.
const REAL_TIME_MIN: u8 = 34;
const MAX: u8 = 64;

impl Signal {
    pub const HUP: Self = Self(1);
    pub const INT: Self = Self(2);
    pub const QUIT: Self = Self(3);
    pub const ABRT: Self = Self(6);
    pub const KILL: Self = Self(9);
    pub const USR1: Self = Self(10);
    pub const SEGV: Self = Self(11);
    pub const USR2: Self = Self(12);
    pub const PIPE: Self = Self(13);
    pub const TERM: Self = Self(15);
    pub const CHLD: Self = Self(17);
    pub const CONT: Self = Self(18);
    pub const STOP: Self = Self(19);
    pub const TSTP: Self = Self(20);
    pub const TTIN: Self = Self(21);
    pub const TTOU: Self = Self(22);
    pub const WINCH: Self = Self(28);

    /// The signal of that number, if Linux has one.
    pub fn from_number(number: i32) -> Option<Self> {
        u8::try_from(number).ok().filter(|number| (1..=MAX).contains(number)).map(Self)
    }

    /// Its bit in a set as the kernel prints it (`proc(5)`, `SigCgt`).
    pub fn bit(self) -> u64 {
        1 << (self.0.clamp(1, 64) - 1)
    }

    /// The number, 1–64.
    pub fn number(self) -> i32 {
        i32::from(self.0)
    }

    /// Every signal that can be caught: all but KILL, STOP and the C library's
    /// own 32 and 33.
    pub fn catchable() -> impl Iterator<Item = Self> {
        (1..=MAX).filter(|number| !matches!(number, 9 | 19 | 32 | 33)).map(Self)
    }

    /// Parses `SIGTERM`, `TERM`, `term`, `15`, `SIGRTMIN+3`, `RTMAX-1`.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let unknown = || format!("`{text}` is not a signal (try SIGTERM, INT, 15 or SIGRTMIN+3)");
        if let Ok(number) = text.parse::<i32>() {
            return Self::from_number(number).ok_or_else(unknown);
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        if let Some(offset) = name.strip_prefix("RTMIN") {
            let offset = real_time_offset(offset, '+').ok_or_else(unknown)?;
            return Self::from_number(i32::from(REAL_TIME_MIN) + offset).ok_or_else(unknown);
        }
        if let Some(offset) = name.strip_prefix("RTMAX") {
            let offset = real_time_offset(offset, '-').ok_or_else(unknown)?;
            return Self::from_number(i32::from(MAX) - offset)
                .filter(|signal| signal.0 >= REAL_TIME_MIN)
                .ok_or_else(unknown);
        }
        let name = match name {
            "POLL" => "IO",
            "CLD" => "CHLD",
            "IOT" => "ABRT",
            other => other,
        };
        let index = NAMES.iter().position(|known| *known == name).ok_or_else(unknown)?;
        Self::from_number(i32::try_from(index).unwrap_or(0) + 1).ok_or_else(unknown)
    }
}

fn real_time_offset(text: &str, sign: char) -> Option<i32> {
    match text.strip_prefix(sign) {
        Some(digits) => digits.parse().ok().filter(|offset| (0..=30).contains(offset)),
        None => text.is_empty().then_some(0),
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.get(usize::from(self.0.saturating_sub(1))) {
            Some(name) => write!(formatter, "SIG{name}"),
            None if self.0 < REAL_TIME_MIN => write!(formatter, "signal {}", self.0),
            None if self.0 == REAL_TIME_MIN => formatter.write_str("SIGRTMIN"),
            None => write!(formatter, "SIGRTMIN+{}", self.0 - REAL_TIME_MIN),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signal_reads_back() {
        for signal in Signal::catchable() {
            assert_eq!(Signal::parse(&signal.to_string()), Ok(signal));
            assert_eq!(Signal::parse(&signal.number().to_string()), Ok(signal));
        }
    }

    #[test]
    fn other_spellings() {
        for (text, number) in
            [("TERM", 15), ("term", 15), ("SIGRTMIN+3", 37), ("RTMAX-1", 63), ("SIGRTMAX", 64), ("CLD", 17)]
        {
            assert_eq!(Signal::parse(text).map(Signal::number), Ok(number), "{text}");
        }
        for text in ["", "0", "65", "SIGNOTHING", "RTMIN-1", "RTMIN+40", "RTMAX-40", "-15"] {
            assert!(Signal::parse(text).is_err(), "{text}");
        }
    }
}
