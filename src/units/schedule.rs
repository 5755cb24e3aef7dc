//! Times of the clock that come again: the five fields of `crontab(5)`, in UTC.

use std::fmt;

/// Minutes in which something is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    text: String,
    minutes: u64,
    hours: u64,
    /// Bit 1 is the first of the month.
    days: u64,
    months: u64,
    /// Bit 0 is Sunday.
    weekdays: u64,
    /// Both kinds of days are restricted: then either will do (`crontab(5)`).
    either_day: bool,
}

impl Schedule {
    /// Parses `minute hour day month weekday`: numbers, `*`, `a-b`, `a,b`, `*/n`, `a-b/n`.
    /// Weekdays are 0 to 7, both ends Sunday.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields[..] else {
            return Err("write five fields: minute hour day month weekday".to_owned());
        };
        let mut weekdays = field(weekday, 0, 7, "weekday")?;
        if weekdays & (1 << 7) != 0 {
            weekdays |= 1;
        }
        Ok(Self {
            minutes: field(minute, 0, 59, "minute")?,
            hours: field(hour, 0, 23, "hour")?,
            days: field(day, 1, 31, "day")?,
            months: field(month, 1, 12, "month")?,
            weekdays,
            either_day: !day.starts_with('*') && !weekday.starts_with('*'),
            text: fields.join(" "),
        })
    }

    /// Whether it is due in that minute since 1970 (UTC).
    pub fn is_due(&self, minute: u64) -> bool {
        let has = |set: u64, number: u64| set >> number & 1 == 1;
        let days = minute / (24 * 60);
        let (month, day) = month_and_day(days);
        let by_day = has(self.days, day);
        // 1970 began on a Thursday.
        let by_weekday = has(self.weekdays, (days + 4) % 7);
        has(self.minutes, minute % 60)
            && has(self.hours, minute / 60 % 24)
            && has(self.months, month)
            && if self.either_day { by_day || by_weekday } else { by_day && by_weekday }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

/// The numbers of one field as bits.
fn field(text: &str, first: u64, last: u64, name: &str) -> Result<u64, String> {
    let mut bits = 0;
    for part in text.split(',') {
        let wrong = || format!("`{part}` is no {name} ({first} to {last})");
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => {
                (range, step.parse::<u64>().ok().filter(|step| *step > 0).ok_or_else(wrong)?)
            }
            None => (part, 1),
        };
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (first, last),
            Some((from, to)) => (from.parse().map_err(|_| wrong())?, to.parse().map_err(|_| wrong())?),
            None => {
                let number = range.parse().map_err(|_| wrong())?;
                (number, if step > 1 { last } else { number })
            }
        };
        if from < first || to > last || from > to {
            return Err(wrong());
        }
        for number in (from..=to).step_by(usize::try_from(step).unwrap_or(usize::MAX)) {
            bits |= 1 << number;
        }
    }
    Ok(bits)
}

/// Month and day of the month of a day since 1970. The civil calendar by Howard
/// Hinnant's `civil_from_days`: eras of 400 years that begin in March.
fn month_and_day(days: u64) -> (u64, u64) {
    let day_of_era = (days + 719_468) % 146_097;
    let year = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    (if month < 10 { month + 3 } else { month - 9 }, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Minutes since 1970 of a time such as `2026-11-23T18:52:00Z`.
    fn minute(text: &str) -> u64 {
        let time = humantime::parse_rfc3339(text).expect("a time");
        time.duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs() / 60
    }

    #[test]
    fn is_due_when_crontab_says_so() {
        for (schedule, due, not) in [
            ("0 3 * * *", "2026-11-23T03:00:00Z", "2026-11-23T03:01:00Z"),
            ("*/15 * * * *", "2026-11-23T18:45:00Z", "2026-11-23T18:50:00Z"),
            ("5-10/5 0-6 * * *", "2026-02-28T06:10:00Z", "2026-02-28T06:07:00Z"),
            ("0 0 29 2 *", "2028-02-29T00:00:00Z", "2028-03-01T00:00:00Z"),
            ("0 0 * * 0", "2026-11-22T00:00:00Z", "2026-11-23T00:00:00Z"),
            ("0 0 * * 7", "2026-11-22T00:00:00Z", "2026-11-21T00:00:00Z"),
            ("0 0 1 * 1", "2026-11-23T00:00:00Z", "2026-11-24T00:00:00Z"),
            ("0 0 1,31 12 *", "2026-12-31T00:00:00Z", "2026-12-30T00:00:00Z"),
        ] {
            let parsed = Schedule::parse(schedule).expect(schedule);
            assert!(parsed.is_due(minute(due)), "{schedule} at {due}");
            assert!(!parsed.is_due(minute(not)), "{schedule} at {not}");
            assert_eq!(parsed.to_string(), schedule);
        }
    }

    #[test]
    fn refuses_what_is_none() {
        for text in [
            "",
            "* * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * * 13 *",
            "*/0 * * * *",
            "5-1 * * * *",
            "x * * * *",
        ] {
            assert!(Schedule::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_calendar_agrees_with_humantime() {
        for days in (0..80_000).step_by(13) {
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(days * 86_400);
            let text = humantime::format_rfc3339_seconds(time).to_string();
            let (month, day) = month_and_day(days);
            assert_eq!(text.get(5..10), Some(format!("{month:02}-{day:02}").as_str()));
        }
    }
}
