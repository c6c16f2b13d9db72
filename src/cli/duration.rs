//! Times on the command line.

use std::time::Duration;

/// Parses a time: `90s`, `10m`, `2h`, or hours, minutes and seconds as batch systems write them.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let problem = || format!("`{text}` is not a time; write one such as 90s, 10m, 2h or 7:45:00");
    let seconds = match text.split_once(':') {
        Some(_) => {
            let parts: Vec<u64> = text.split(':').map(str::parse).collect::<Result<_, _>>().map_err(|_| problem())?;
            match parts[..] {
                [minutes, seconds] if seconds < 60 => minutes.checked_mul(60).and_then(|m| m.checked_add(seconds)),
                [hours, minutes, seconds] if minutes < 60 && seconds < 60 => {
                    hours.checked_mul(3600).and_then(|h| h.checked_add(minutes * 60 + seconds))
                }
                _ => None,
            }
        }
        None => {
            let (number, unit) = text.split_at(text.len() - text.chars().next_back().map_or(0, char::len_utf8));
            let unit = match unit {
                "s" => 1,
                "m" => 60,
                "h" => 3600,
                _ => return Err(problem()),
            };
            number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit))
        }
    };
    seconds.filter(|seconds| *seconds <= 365 * 86_400).map(Duration::from_secs).ok_or_else(problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_and_batch_systems_write_them() {
        for (text, seconds) in [("90s", 90), ("10m", 600), ("2h", 7200), ("7:45:00", 27_900), ("5:30", 330), ("0s", 0)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "10", "m", "-1s", "1.5h", "7:60:00", "1:2:3:4", "9999999999999h", "1\u{e9}", ":"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
