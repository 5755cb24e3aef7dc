//! Durations as people write them: `30s`, `1m30s`, `500ms`.

use std::time::Duration;

/// Parses `500ms`, `30s`, `1.5s`, `5m`, `2h`, `1d` and sequences such as `1m30s`.
///
/// A bare number is refused (except `0`): seconds and milliseconds look the same.
///
/// # Errors
/// A sentence that says what is wrong with the text.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let mut rest = text.trim();
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err("the duration is empty".to_owned());
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let tail = tail.trim_start();
        let unit_end = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, next) = tail.split_at(unit_end);
        if number.is_empty() {
            return Err(format!("`{rest}` does not begin with a number"));
        }
        if unit.is_empty() {
            return Err(format!("`{number}` has no unit (ms, s, m, h, d)"));
        }
        let scale = match unit {
            "ms" => 0.001,
            "s" | "sec" | "second" | "seconds" => 1.0,
            "m" | "min" | "minute" | "minutes" => 60.0,
            "h" | "hour" | "hours" => 3600.0,
            "d" | "day" | "days" => 86400.0,
            other => return Err(format!("`{other}` is not a unit of time (ms, s, m, h, d)")),
        };
        let number: f64 = number.parse().map_err(|_| format!("`{number}` is not a number"))?;
        let part =
            Duration::try_from_secs_f64(number * scale).map_err(|_| format!("`{text}` is too long"))?;
        total = total.checked_add(part).ok_or_else(|| format!("`{text}` is too long"))?;
        rest = next.trim_start();
    }
    if total > LONGEST {
        return Err(format!("`{text}` is longer than a year"));
    }
    Ok(total)
}

/// More is a slip of the keyboard, and would not fit into arithmetic.
const LONGEST: Duration = Duration::from_hours(366 * 24);

/// Prints a duration the way [`parse_duration`] reads it, to three digits at most.
pub fn format_duration(span: Duration) -> String {
    let milliseconds = span.as_millis();
    if milliseconds == 0 {
        return "0s".to_owned();
    }
    if milliseconds < 1000 {
        return format!("{milliseconds}ms");
    }
    let seconds = span.as_secs();
    let fraction = span.subsec_millis();
    if seconds < 60 && fraction != 0 {
        let text = format!("{seconds}.{fraction:03}");
        return format!("{}s", text.trim_end_matches('0'));
    }
    let parts =
        [(seconds / 86400, "d"), (seconds / 3600 % 24, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    parts.iter().filter(|(count, _)| *count > 0).map(|(count, unit)| format!("{count}{unit}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        for (text, milliseconds) in [
            ("0", 0),
            ("500ms", 500),
            ("30s", 30_000),
            ("1.5s", 1_500),
            ("1m30s", 90_000),
            ("1m 30s", 90_000),
            ("2h", 7_200_000),
            ("1d", 86_400_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
    }

    #[test]
    fn refuses_with_the_reason() {
        for (text, part) in [
            ("", "empty"),
            ("30", "no unit"),
            ("10 20s", "no unit"),
            ("s", "does not begin with a number"),
            ("5 parsecs", "not a unit"),
            ("5parsecs", "not a unit"),
            ("1.2.3s", "not a number"),
            ("99999999999999999999d", "too long"),
            ("400d", "longer than a year"),
            ("-1s", "does not begin with a number"),
        ] {
            let error = parse_duration(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn prints_what_it_reads() {
        for text in ["0s", "1ms", "999ms", "1s", "1.5s", "59.999s", "1m", "1m30s", "2h", "1d1h"] {
            assert_eq!(format_duration(parse_duration(text).expect(text)), text);
        }
    }
}
