//! Quoting of words for bash and for the `#SBATCH` lines of Slurm's scripts.

/// Quotes a word for bash, unless it consists of characters that bash takes as they are.
pub fn for_bash(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=,+@%".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        // Within single quotes, bash gives no character a meaning but the quote itself.
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// Quotes a word for bash whose beginning may be a variable, such as `$TMPDIR/cache`. The variable
/// is expanded where the script runs, and the script ends if it is not set.
pub fn for_bash_with_variable(word: &str) -> String {
    let Some(rest) = word.strip_prefix('$') else { return for_bash(word) };
    let rest = rest.strip_prefix('{').map_or(rest.to_owned(), |rest| rest.replacen('}', "", 1));
    let is_letter = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let (name, path) = rest.split_at(rest.find(|c| !is_letter(c)).unwrap_or(rest.len()));
    let path = if path.is_empty() { String::new() } else { for_bash(path) };
    match name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        true => format!("\"${{{name}:?}}\"{path}"),
        false => for_bash(word),
    }
}

/// Quotes the value of an option on an `#SBATCH` line, unless sbatch takes it as it is.
///
/// sbatch splits the line at white space, ends it at `#`, and knows double quotes with `\` before
/// characters (tried with Slurm 22.05).
pub fn for_sbatch(value: &str) -> String {
    let is_plain = |c: char| !c.is_whitespace() && !"\"'\\#".contains(c);
    match !value.is_empty() && value.chars().all(is_plain) {
        true => value.to_owned(),
        false => format!("\"{}\"", value.replace('\\', r"\\").replace('"', "\\\"")),
    }
}

/// Returns a path in which Slurm replaces nothing: `%` begins a replaced symbol in names of logs.
pub fn for_log_name(path: &str) -> String {
    path.replace('%', "%%")
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: [&str; 12] = [
        "/sw/visplay",
        "",
        "two words",
        "it's",
        "\"quoted\"",
        "$HOME/`ls`",
        "back\\slash",
        "grün/日本",
        "a#b",
        "!x*?[y]~{1,2}",
        "-n",
        "tab\there",
    ];

    #[test]
    fn bash_reads_every_word_as_it_was() {
        for word in WORDS {
            let script = format!("printf '<%s>' {}", for_bash(word));
            let output = std::process::Command::new("bash").args(["-c", &script]).output().expect("bash");
            assert_eq!(String::from_utf8_lossy(&output.stdout), format!("<{word}>"), "{script}");
        }
        assert_eq!(for_bash("/sw/visplay"), "/sw/visplay");
    }

    #[test]
    fn a_variable_at_the_beginning_is_expanded_by_bash() {
        for (word, expected) in [
            ("$VISPLAY_TEST/a b", "<x y/a b>"),
            ("${VISPLAY_TEST}/c", "<x y/c>"),
            ("$VISPLAY_TEST", "<x y>"),
            ("/a/$VISPLAY_TEST", "</a/$VISPLAY_TEST>"),
            ("$1", "<$1>"),
        ] {
            let script = format!("printf '<%s>' {}", for_bash_with_variable(word));
            let bash = std::process::Command::new("bash").args(["-c", &script]).env("VISPLAY_TEST", "x y").output();
            assert_eq!(String::from_utf8_lossy(&bash.expect("bash").stdout), expected, "{script}");
        }
        let script = format!("printf '<%s>' {}", for_bash_with_variable("$VISPLAY_NOT_SET/a"));
        let bash = std::process::Command::new("bash").args(["-c", &script]).output().expect("bash");
        assert!(!bash.status.success());
    }

    #[test]
    fn values_for_sbatch_are_quoted_where_it_would_split_them() {
        assert_eq!(for_sbatch("visplay:E:r3"), "visplay:E:r3");
        assert_eq!(for_sbatch("a b"), "\"a b\"");
        assert_eq!(for_sbatch("a#b"), "\"a#b\"");
        assert_eq!(for_sbatch("it's \"x\" \\"), "\"it's \\\"x\\\" \\\\\"");
        assert_eq!(for_sbatch(""), "\"\"");
        assert_eq!(for_log_name("/50%/x"), "/50%%/x");
    }
}
