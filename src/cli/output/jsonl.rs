//! A filter over JSON lines, shared by `grade`, `clusters` and `rewards`.
//!
//! Each line is an object. A command reads some of its keys and adds others; the rest passes
//! through byte for byte, and lines keep their order. An invalid line is reported on standard error
//! with its file and number; the valid lines are still printed, and the command exits with code 2.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use rayon::prelude::*;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use crate::cli::output::readers::has_reader;
use crate::cli::{CommandError, Result, Ui};
use crate::messages::write_message;
use crate::text_file::TextError;

/// Bytes read ahead; the lines in the buffer are processed in parallel.
const BUFFER: usize = 1 << 20;
/// Number of invalid lines that are reported one by one.
const MAX_REPORTED: usize = 20;

/// The source of the lines.
#[derive(Debug, Args)]
pub struct LinesArgs {
    /// A file of JSON lines; `-` or no file reads standard input.
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

/// The way lines are processed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Several lines at a time.
    Parallel,
    /// One line at a time, for work that uses all cores, or much memory, on one line.
    Sequential,
}

/// Keys and values that a command adds to a line.
pub type AddedKeys = Vec<(&'static str, Value)>;

/// Prints each line with the keys that `work` returns for it.
pub fn for_each_line(
    args: &LinesArgs,
    ui: &Ui,
    order: Order,
    work: impl Fn(&Line) -> Result<AddedKeys, String> + Sync,
) -> Result<()> {
    let (mut reader, name) = open(args, ui)?;
    let mut count = Count::default();
    let mut chunk: Vec<(u64, Vec<u8>)> = Vec::new();
    loop {
        chunk.clear();
        read_chunk(&mut reader, &mut count.read, order, &mut chunk)
            .map_err(|e| CommandError::failed(format!("{name}:{}: cannot read: {e}", count.read + 1)))?;
        if chunk.is_empty() {
            break;
        }
        let process = |(number, line): &(u64, Vec<u8>)| (*number, process(line, &work));
        let results: Vec<_> = match order {
            Order::Parallel => chunk.par_iter().map(process).collect(),
            Order::Sequential => chunk.iter().map(process).collect(),
        };
        let mut lines = Vec::new();
        for (number, result) in results {
            match result {
                Ok(line) => lines.push(line),
                Err(reason) => count.bad_line(&format!("{name}:{number}: {reason}")),
            }
        }
        count.good += lines.len();
        // Input may never end (`yes .. | visplay grade | head`).
        let is_read = if lines.is_empty() { has_reader() } else { ui.result_if_read(lines.join("\n"))? };
        if !is_read {
            break;
        }
    }
    count.finish(&name)
}

/// Numbers of lines.
#[derive(Default)]
struct Count {
    /// Lines read, including blank ones.
    read: u64,
    good: usize,
    bad: usize,
}

impl Count {
    fn bad_line(&mut self, message: &str) {
        self.bad += 1;
        if self.bad <= MAX_REPORTED {
            write_message(&format!("visplay: {message}"));
        } else if self.bad == MAX_REPORTED + 1 {
            write_message("visplay: further invalid lines are counted but not listed");
        }
    }

    fn finish(&self, name: &str) -> Result<()> {
        if self.bad == 0 {
            return Ok(());
        }
        let message = format!("{} of {} lines of {name} are invalid", self.bad, self.bad + self.good);
        Err(CommandError::usage(message).with_hint("the valid lines were printed; fix the others and rerun them"))
    }
}

fn open(args: &LinesArgs, ui: &Ui) -> Result<(BufReader<Box<dyn Read>>, String)> {
    let (source, name): (Box<dyn Read>, String) = match args.file.as_deref() {
        Some(path) if path != Path::new("-") => {
            let file = File::open(path).and_then(|file| match file.metadata()?.is_dir() {
                true => Err(io::Error::new(io::ErrorKind::IsADirectory, "is a folder")),
                false => Ok(file),
            });
            let file = file.map_err(|e| {
                CommandError::usage(format!("cannot read {}: {e}", path.display()))
                    .with_hint("pass a file of JSON lines, or `-` for standard input")
            })?;
            (Box::new(file), path.display().to_string())
        }
        _ => {
            if io::stdin().is_terminal() {
                ui.say("reading JSON lines from the terminal; press Ctrl-D to end");
            }
            (Box::new(io::stdin()), "standard input".to_owned())
        }
    };
    Ok((BufReader::with_capacity(BUFFER, source), name))
}

/// Reads the next line, and those behind it that are there already, so that a slow source is
/// answered line by line. There is none at the end, and if nobody reads the output any more.
fn read_chunk(
    reader: &mut BufReader<Box<dyn Read>>,
    number: &mut u64,
    order: Order,
    chunk: &mut Vec<(u64, Vec<u8>)>,
) -> io::Result<()> {
    loop {
        let mut line = Vec::new();
        if reader.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        *number += 1;
        // Concatenated files have the byte order mark in the middle too.
        if line.starts_with(b"\xef\xbb\xbf") {
            line.drain(..3);
        }
        if !line.trim_ascii().is_empty() {
            chunk.push((*number, line));
        }
        let is_buffer_read = || !reader.buffer().contains(&b'\n');
        let is_done = match chunk.is_empty() {
            true => is_buffer_read() && !has_reader(),
            false => order == Order::Sequential || is_buffer_read(),
        };
        if is_done {
            return Ok(());
        }
    }
}

fn process(bytes: &[u8], work: &(impl Fn(&Line) -> Result<AddedKeys, String> + Sync)) -> Result<String, String> {
    if bytes.contains(&0) {
        return Err(TextError::Binary.to_string());
    }
    let line: Line = serde_json::from_slice(bytes).map_err(|error| {
        let message = error.to_string();
        let message = message.split(" at line ").next().unwrap_or("").to_owned();
        format!("not a JSON object: {message} (column {})", error.column())
    })?;
    let added = work(&line)?;
    let text = std::str::from_utf8(bytes).map_err(|_| "not UTF-8".to_owned())?;
    Ok(line.with(text, &added))
}

/// A line: a JSON object with its keys in the order written.
pub struct Line {
    entries: Vec<(String, Value)>,
}

impl Line {
    /// Returns the value of a key, or an error if the line has no such key.
    pub fn get(&self, key: &str) -> Result<&Value, String> {
        let found = self.entries.iter().rev().find(|(name, _)| name == key);
        found.map(|(_, value)| value).ok_or_else(|| format!("no key \"{key}\""))
    }

    /// Returns the line's text with the added keys at its end; their older values are removed.
    fn with(&self, text: &str, added: &AddedKeys) -> String {
        let is_added = |name: &str| added.iter().any(|(key, _)| *key == name);
        let mut out = String::with_capacity(text.len() + 64);
        if self.entries.iter().any(|(name, _)| is_added(name)) {
            out.push('{');
            let kept = self.entries.iter().zip(entry_texts(text)).filter(|((name, _), _)| !is_added(name));
            for (at, (_, entry)) in kept.enumerate() {
                out.push_str(if at > 0 { "," } else { "" });
                out.push_str(entry);
            }
        } else {
            out.push_str(text.trim_end().strip_suffix('}').unwrap_or(text).trim());
        }
        for (key, value) in added {
            out.push_str(if out.ends_with('{') { "" } else { "," });
            out.push_str(&format!("\"{key}\":{value}"));
        }
        out.push('}');
        out
    }
}

/// Returns the text of each entry of a JSON object, which must be valid.
fn entry_texts(text: &str) -> Vec<&str> {
    let text = text.trim();
    let inner = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).unwrap_or(text);
    let (mut entries, mut start) = (Vec::new(), 0);
    let (mut depth, mut quoted, mut escaped) = (0u32, false, false);
    for (at, byte) in inner.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => {
                entries.push(inner[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    entries.push(inner[start..].trim());
    entries
}

impl<'de> Deserialize<'de> for Line {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Line;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Line, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Line { entries })
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// Returns the JSON type of a value, for messages.
pub fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
