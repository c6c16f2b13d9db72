//! Time limits of jobs, in Slurm's notation.

use std::fmt;

/// A time limit, in whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimeLimit {
    seconds: u64,
}

impl TimeLimit {
    /// Reads a time in one of Slurm's notations: `M`, `M:S`, `H:M:S`, `D-H`, `D-H:M` or `D-H:M:S`.
    ///
    /// # Errors
    /// The text is none of these, or the time is shorter than a minute.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a time; write one such as 8:00:00, 90 (minutes) or 1-12:00:00");
        let number = |part: &str| match part.len() {
            1..=6 if part.bytes().all(|b| b.is_ascii_digit()) => part.parse::<u64>().map_err(|_| wrong()),
            _ => Err(wrong()),
        };
        let (days, clock) = match text.split_once('-') {
            Some((days, clock)) => (Some(number(days)?), clock),
            None => (None, text),
        };
        let parts = clock.split(':').map(number).collect::<Result<Vec<u64>, String>>()?;
        let [hours, minutes, seconds] = match (days, parts.as_slice()) {
            (None, &[m]) => [0, m, 0],
            (None, &[m, s]) => [0, m, s],
            (_, &[h, m, s]) => [h, m, s],
            (Some(_), &[h]) => [h, 0, 0],
            (Some(_), &[h, m]) => [h, m, 0],
            _ => return Err(wrong()),
        };
        let seconds = ((days.unwrap_or(0) * 24 + hours) * 60 + minutes) * 60 + seconds;
        match seconds {
            60.. => Ok(Self { seconds }),
            _ => Err(format!("`{text}` is shorter than a minute, the unit of Slurm's time limits")),
        }
    }

    /// Returns the time in seconds.
    pub fn seconds(self) -> u64 {
        self.seconds
    }

    /// Returns the time that is left if this many seconds are kept free at its end, as `H:MM:SS`.
    pub fn until(self, reserve: u64) -> String {
        let seconds = self.seconds.saturating_sub(reserve);
        format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
    }
}

impl fmt::Display for TimeLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (minutes, seconds) = (self.seconds / 60, self.seconds % 60);
        let (hours, minutes) = (minutes / 60, minutes % 60);
        match hours {
            0..24 => write!(f, "{hours:02}:{minutes:02}:{seconds:02}"),
            _ => write!(f, "{}-{:02}:{minutes:02}:{seconds:02}", hours / 24, hours % 24),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_notation_of_slurm_is_read() {
        let read = |text: &str| TimeLimit::parse(text).map(|time| (time.seconds(), time.to_string()));
        assert_eq!(read("90"), Ok((5400, "01:30:00".into())));
        assert_eq!(read("1:30"), Ok((90, "00:01:30".into())));
        assert_eq!(read("8:00:00"), Ok((28_800, "08:00:00".into())));
        assert_eq!(read("72:00:00"), Ok((259_200, "3-00:00:00".into())));
        assert_eq!(read("1-12"), Ok((129_600, "1-12:00:00".into())));
        assert_eq!(read("1-12:30"), Ok((131_400, "1-12:30:00".into())));
        assert_eq!(read("1-12:30:05"), Ok((131_405, "1-12:30:05".into())));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in
            ["", "x", "1:2:3:4", "1-", "-1", "1-2:3:4:5", "8h", "1:-2", " 8", "UNLIMITED", "9999999", "0", "0:59"]
        {
            assert!(TimeLimit::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_reserve_is_kept_at_the_end() {
        let time = |text: &str| TimeLimit::parse(text).expect("a time");
        assert_eq!(time("8:00:00").until(300), "7:55:00");
        assert_eq!(time("2-00").until(60), "47:59:00");
        assert_eq!(time("1").until(300), "0:00:00");
    }
}
