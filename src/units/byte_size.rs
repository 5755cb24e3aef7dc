//! Sizes in bytes as people and JVMs write them.

use std::fmt;

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// Parses `4096`, `64k`, `512m`, `2g` (the JVM's letters), `512Mi`, `256KiB`,
    /// `1GiB` (powers of 1024) and `1MB`, `1GB` (powers of 1000).
    ///
    /// # Errors
    /// A sentence that says what is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let number: u64 =
            number.parse().map_err(|_| format!("`{text}` does not begin with a whole number"))?;
        let scale: u64 = match unit.trim() {
            "" | "B" => 1,
            "k" | "K" | "Ki" | "KiB" => 1 << 10,
            "m" | "M" | "Mi" | "MiB" => 1 << 20,
            "g" | "G" | "Gi" | "GiB" => 1 << 30,
            "t" | "T" | "Ti" | "TiB" => 1 << 40,
            "kB" | "KB" => 1_000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            other => return Err(format!("`{other}` is not a unit of size (KiB, MiB, GiB, MB, GB)")),
        };
        number.checked_mul(scale).map(Self).ok_or_else(|| format!("`{text}` is too large"))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(1_u64 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        for (scale, unit) in units {
            if self.0 >= scale {
                let tenths = self.0 / (scale / 10).max(1);
                return if tenths.is_multiple_of(10) || tenths >= 1000 {
                    write!(formatter, "{} {unit}", self.0 / scale)
                } else {
                    write!(formatter, "{}.{} {unit}", tenths / 10, tenths % 10)
                };
            }
        }
        write!(formatter, "{} B", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_prints() {
        for (text, bytes, printed) in [
            ("0", 0, "0 B"),
            ("4096", 4096, "4 KiB"),
            ("512m", 512 << 20, "512 MiB"),
            ("1536Mi", 1536 << 20, "1.5 GiB"),
            ("256KiB", 256 << 10, "256 KiB"),
            ("1MB", 1_000_000, "976 KiB"),
        ] {
            let size = ByteSize::parse(text).expect(text);
            assert_eq!(size.0, bytes, "{text}");
            assert_eq!(size.to_string(), printed);
        }
        for text in ["", "x", "1.5g", "12 parsecs", "99999999999g"] {
            assert!(ByteSize::parse(text).is_err(), "{text}");
        }
    }
}
