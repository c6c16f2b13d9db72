//! Text for a person to read: aligned columns, counts, sizes, times, shares, safe names.

use std::time::Instant;

use crate::analysis::boxes::LOW_SHARE;
use crate::analysis::labels::Proportion;
pub use crate::store::format_utc as time;

/// Formats rows as aligned columns; the first is the heading. Columns of numbers are right-aligned.
pub fn columns(rows: &[Vec<String>]) -> Vec<String> {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| rows.iter().filter_map(|r| r.get(c)).map(|t| t.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..count).map(width).collect();
    let numeric: Vec<bool> = (0..count)
        .map(|c| rows.iter().skip(1).filter_map(|r| r.get(c)).all(|t| t.starts_with(|ch: char| ch.is_ascii_digit())))
        .collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<String> = row
            .iter()
            .enumerate()
            .map(|(c, text)| {
                let pad = " ".repeat(widths[c] - text.chars().count());
                if numeric[c] { format!("{pad}{text}") } else { format!("{text}{pad}") }
            })
            .collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// Returns rows below a heading, for [`columns`].
pub fn with_heading<const N: usize>(
    heading: [&str; N],
    rows: impl IntoIterator<Item: Into<Vec<String>>>,
) -> Vec<Vec<String>> {
    std::iter::once(heading.map(str::to_owned).into()).chain(rows.into_iter().map(Into::into)).collect()
}

/// Formats a number with three decimals; `-` if there is none.
pub fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"))
}

/// Returns a warning about an accuracy of which few answers have a box; `None` if enough do.
pub fn low_box_warning(what: &str, share: f64, advice: &str) -> Option<String> {
    (share < LOW_SHARE).then(|| {
        format!(
            "warning: {:.1} % of the answers of {what} have a \\boxed{{}}, and the others count as wrong; {advice}, and \
             check that the maximum number of tokens does not cut answers off",
            100.0 * share
        )
    })
}

/// Returns the text with control characters escaped, so that a file name cannot disturb a terminal.
pub fn plain(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

/// Returns a name in lower case with dashes for everything but letters and digits, for a file name.
pub fn slug(name: &str) -> String {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_ascii_lowercase).collect::<Vec<_>>().join("-")
}

/// Formats a count with thousands separators, `1,234`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Formats a number of bytes in binary units, `1.5 MiB`.
pub fn bytes(n: u64) -> String {
    let mut value = n as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{n} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

/// Formats a share with its 95 % interval, `3 of 4 (75.0 %, 30.1 to 95.4)`.
pub fn share(share: &Proportion) -> String {
    match (share.value(), share.low, share.high) {
        (Some(value), Some(low), Some(high)) => format!(
            "{} of {} ({:.1} %, {:.1} to {:.1})",
            count(share.correct),
            count(share.total),
            100.0 * value,
            100.0 * low,
            100.0 * high
        ),
        _ => "none".to_owned(),
    }
}

/// Formats the time since `start`.
pub fn elapsed(start: Instant) -> String {
    duration(u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX))
}

/// Formats a duration in milliseconds, `5 ms`, `1.5 s` or `2 min 05 s`.
pub fn duration(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..120_000 => format!("{:.1} s", ms as f64 / 1e3),
        _ => format!("{} min {:02} s", ms / 60_000, ms / 1_000 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_separators_and_units() {
        assert_eq!([count(0), count(999), count(1000), count(1234567)], ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([bytes(0), bytes(1023), bytes(1536), bytes(64 << 20)], ["0 B", "1023 B", "1.5 KiB", "64.0 MiB"]);
        assert_eq!([duration(5), duration(1500), duration(125_000)], ["5 ms", "1.5 s", "2 min 05 s"]);
    }

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(plain("a\nb\u{1b}[31mü"), "a\\nb\\u{1b}[31mü");
    }

    #[test]
    fn columns_align() {
        let rows = [vec!["a".into(), "n".into()], vec!["long".into(), "10".into()], vec!["x".into(), "5".into()]];
        assert_eq!(columns(&rows), ["a      n", "long  10", "x      5"]);
    }
}
