//! Options of sbatch that users add to those of the profile.

use std::iter::Peekable;

/// Options on which the jobs of a round rely: name, short form, and the remedy.
const RESERVED: [(&str, Option<char>, &str); 17] = [
    ("array", Some('a'), ""),
    ("job-name", Some('J'), ""),
    ("comment", None, ": jobs are found by it"),
    ("time", Some('t'), "; use --time of `visplay submit`, or cluster.time"),
    ("output", Some('o'), "; use cluster.logs"),
    ("error", Some('e'), "; use cluster.logs"),
    ("open-mode", None, ""),
    ("kill-on-invalid-dep", None, ""),
    ("signal", None, "; use cluster.warn_before_limit"),
    ("requeue", None, "; use cluster.requeues"),
    ("no-requeue", None, "; use cluster.requeues"),
    ("export", None, "; use cluster.setup"),
    ("clusters", Some('M'), ""),
    ("wrap", None, ""),
    ("parsable", None, ""),
    ("test-only", None, ""),
    ("wait", Some('W'), ""),
];

/// Short options of sbatch without a value, which may be joined: `-Hs`.
const WITHOUT_VALUE: &str = "hHIkOQRsvVW";

/// An option, with its long name, an abbreviation of it, or its letter.
#[derive(Debug, Clone, PartialEq, Eq)]
struct SbatchOption {
    name: String,
    value: String,
}

impl SbatchOption {
    /// Whether the option is the one with this long name and letter. sbatch takes abbreviations and
    /// refuses ambiguous ones itself.
    fn is(&self, long: &str, short: Option<char>) -> bool {
        match self.name.strip_prefix("--") {
            Some(name) => !name.is_empty() && long.starts_with(name),
            None => short.is_some_and(|short| self.name.ends_with(short)),
        }
    }
}

/// Returns the problem with the first option that visplay sets itself: `--array is set by visplay
/// itself`. The strings are words of a command line, or options as they follow `#SBATCH`.
pub fn reserved_option(texts: &[String]) -> Option<String> {
    let options = parse(texts);
    let reserved = options.iter().find_map(|option| RESERVED.iter().find(|(long, short, _)| option.is(long, *short)));
    reserved.map(|(long, _, remedy)| format!("--{long} is set by visplay itself{remedy}"))
}

/// Returns the partitions that the options name, of which the job takes any; `None` if none does.
pub fn partitions(texts: &[String]) -> Option<Vec<String>> {
    // A shorter abbreviation is ambiguous: --parsable.
    let is_partition = |option: &SbatchOption| option.is("partition", Some('p')) && option.name != "--par";
    let last = parse(texts).into_iter().rfind(is_partition)?;
    Some(last.value.split(',').map(str::to_owned).collect())
}

fn parse(texts: &[String]) -> Vec<SbatchOption> {
    let mut words = texts.iter().flat_map(|text| split(text)).peekable();
    let mut options = Vec::new();
    while let Some(word) = words.next() {
        if let Some(long) = word.strip_prefix("--") {
            let (name, value) = match long.split_once('=') {
                Some((name, value)) => (name, value.to_owned()),
                None => (long, value_after(&mut words)),
            };
            options.push(SbatchOption { name: format!("--{name}"), value });
        } else if let Some(letters) = word.strip_prefix('-') {
            for (i, letter) in letters.char_indices() {
                let name = format!("-{letter}");
                if WITHOUT_VALUE.contains(letter) {
                    options.push(SbatchOption { name, value: String::new() });
                    continue;
                }
                let joined = &letters[i + letter.len_utf8()..];
                let value = if joined.is_empty() { value_after(&mut words) } else { joined.to_owned() };
                options.push(SbatchOption { name, value });
                break;
            }
        }
    }
    options
}

/// Takes the next word, if it is the value of an option.
fn value_after(words: &mut Peekable<impl Iterator<Item = String>>) -> String {
    words.next_if(|word| !word.starts_with('-')).unwrap_or_default()
}

/// Splits a line of options into words, as sbatch does: at white space outside of double quotes.
fn split(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut is_quoted = false;
    for c in text.chars() {
        match (c, words.last_mut()) {
            ('"', _) => is_quoted = !is_quoted,
            (c, _) if c.is_whitespace() && !is_quoted => words.push(String::new()),
            (c, Some(word)) => word.push(c),
            (_, None) => {}
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }

    #[test]
    fn options_that_jobs_rely_on_are_reserved() {
        for option in [
            "--array=0-3",
            "-a0",
            "-a 0",
            "-Hsa0",
            "--arr=0-3",
            "--no-requeue",
            "--requeue",
            "--req",
            "-Jx",
            "--wrap=ls",
            "--signal=USR2",
            "--sig=USR2",
            "--time=5",
            "-t5",
            "--comment=x",
            "--comm x",
            "--output=x",
            "--out=x",
            "-o x",
            "-ex",
            "--error=x",
            "--open-mode=truncate",
            "--kill-on-invalid-dep=no",
            "--kill=no",
            "--export=ALL",
            "--job-name=x",
            "--mail-type=FAIL --array=0-3",
        ] {
            let problem = reserved_option(&texts(&[option]));
            assert!(problem.is_some_and(|problem| problem.contains("is set by visplay itself")), "{option}");
        }
        for option in
            ["--mail-type=FAIL", "--account=x", "-Ax", "--arrays", "--time-min=5", "--exclusive", "--mem=5G", "-Hs"]
        {
            assert_eq!(reserved_option(&texts(&[option])), None, "{option}");
        }
        assert_eq!(reserved_option(&texts(&["--mail-user", "a", "--nice=5", "--constraint=\"a --time=5\""])), None);
        assert_eq!(
            reserved_option(&texts(&["--ti", "5"])).as_deref(),
            Some("--time is set by visplay itself; use --time of `visplay submit`, or cluster.time")
        );
    }

    #[test]
    fn the_last_partition_counts() {
        let of = |words: &[&str]| partitions(&texts(words));
        assert_eq!(of(&["--mail-type=FAIL"]), None);
        for words in [&["-p", "a,b"][..], &["-pa,b"], &["--partition=a,b"], &["--part", "a,b"], &["-p c", "-p a,b"]] {
            assert_eq!(of(words), Some(vec!["a".to_owned(), "b".to_owned()]), "{words:?}");
        }
    }
}
