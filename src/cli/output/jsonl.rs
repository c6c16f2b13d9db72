//! JSON lines in, JSON lines out: what `grade`, `clusters` and `rewards` share.
//!
//! Each line is an object. A command reads some of its keys and adds others; everything else passes through as it is
//! written, and lines come out in their order. A line that cannot be used is an error on standard error that names
//! file and line; the good ones still come out, and the command ends with exit code 2.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use rayon::prelude::*;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use crate::cli::error::CommandError;
use crate::cli::output::ui::Ui;

/// How much is read ahead; the lines in it are worked on together.
const BUFFER: usize = 1 << 20;
/// How many bad lines are told one by one.
const TOLD: u64 = 20;

/// Where lines come from.
#[derive(Debug, Args)]
pub struct LinesArgs {
    /// A file of JSON lines; `-` or nothing reads standard input.
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

/// Whether lines are worked on side by side, or one after the other because one alone may fill memory and cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Side by side.
    Parallel,
    /// One after the other.
    Sequential,
}

/// The keys and values that a command adds to a line.
pub type Added = Vec<(&'static str, Value)>;

/// Runs `work` on each line and prints the lines with what it adds.
pub fn for_each_line(
    args: &LinesArgs,
    ui: &Ui,
    order: Order,
    work: impl Fn(&Line) -> Result<Added, String> + Sync,
) -> Result<(), CommandError> {
    let (mut reader, name) = open(args, ui)?;
    let mut count = Count::default();
    let mut chunk: Vec<(u64, Vec<u8>)> = Vec::new();
    loop {
        chunk.clear();
        read_chunk(&mut reader, &mut count.read, order, &mut chunk)
            .map_err(|e| CommandError::failed(format!("{name}:{}: cannot read on: {e}", count.read + 1)))?;
        if chunk.is_empty() {
            break;
        }
        let done: Vec<(u64, Result<String, String>)> = match order {
            Order::Parallel => chunk.par_iter().map(|(number, line)| (*number, worked(line, &work))).collect(),
            Order::Sequential => chunk.iter().map(|(number, line)| (*number, worked(line, &work))).collect(),
        };
        let mut out = String::new();
        for (number, result) in done {
            match result {
                Ok(line) => {
                    count.good += 1;
                    out.push_str(&line);
                    out.push('\n');
                }
                Err(reason) => count.bad_line(&format!("{name}:{number}: {reason}")),
            }
        }
        if let Some(lines) = out.strip_suffix('\n') {
            ui.result(lines)?;
        }
    }
    count.finish(&name)
}

#[derive(Default)]
struct Count {
    /// Lines read, blank ones too.
    read: u64,
    good: u64,
    bad: u64,
}

impl Count {
    fn bad_line(&mut self, message: &str) {
        self.bad += 1;
        if self.bad <= TOLD {
            eprintln!("visplay: {message}");
        } else if self.bad == TOLD + 1 {
            eprintln!("visplay: further bad lines are only counted");
        }
    }

    fn finish(&self, name: &str) -> Result<(), CommandError> {
        if self.bad == 0 {
            return Ok(());
        }
        let message = format!("{} of {} lines of {name} could not be used", self.bad, self.bad + self.good);
        Err(CommandError::usage(message).with_hint("the other lines were printed; correct these and run them again"))
    }
}

fn open(args: &LinesArgs, ui: &Ui) -> Result<(BufReader<Box<dyn Read>>, String), CommandError> {
    let (source, name): (Box<dyn Read>, String) = match args.file.as_deref() {
        Some(path) if path != Path::new("-") => {
            let file = File::open(path).and_then(|file| match file.metadata()?.is_dir() {
                true => Err(io::Error::new(io::ErrorKind::IsADirectory, "is a folder")),
                false => Ok(file),
            });
            let file = file.map_err(|e| {
                CommandError::usage(format!("cannot read {}: {e}", path.display()))
                    .with_hint("give a file of JSON lines, or `-` for standard input")
            })?;
            (Box::new(file), path.display().to_string())
        }
        _ => {
            if io::stdin().is_terminal() {
                ui.say("reading JSON lines from the terminal; Ctrl-D ends them");
            }
            (Box::new(io::stdin()), "standard input".to_owned())
        }
    };
    Ok((BufReader::with_capacity(BUFFER, source), name))
}

/// Reads the next line, and those behind it that are there already, so that a slow source is answered line by line.
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
        if *number == 1 && line.starts_with(b"\xef\xbb\xbf") {
            line.drain(..3);
        }
        if !line.trim_ascii().is_empty() {
            chunk.push((*number, line));
        }
        if (order == Order::Sequential && !chunk.is_empty()) || !reader.buffer().contains(&b'\n') && !chunk.is_empty() {
            return Ok(());
        }
    }
}

fn worked(bytes: &[u8], work: &(impl Fn(&Line) -> Result<Added, String> + Sync)) -> Result<String, String> {
    let line: Line = serde_json::from_slice(bytes).map_err(|error| {
        let message = error.to_string();
        let message = message.split(" at line ").next().unwrap_or("").to_owned();
        format!("not a JSON object: {message} (column {})", error.column())
    })?;
    let added = work(&line)?;
    let text = std::str::from_utf8(bytes).map_err(|_| "not UTF-8".to_owned())?;
    Ok(line.with(text, &added))
}

/// One line: an object with its keys in their order.
pub struct Line {
    entries: Vec<(String, Value)>,
}

impl Line {
    /// The value of a key that must be there.
    pub fn get(&self, key: &str) -> Result<&Value, String> {
        let found = self.entries.iter().rev().find(|(name, _)| name == key);
        found.map(|(_, value)| value).ok_or_else(|| format!("no key \"{key}\""))
    }

    /// The line with further keys: as it was written where they are new, else with their old values replaced.
    fn with(&self, text: &str, added: &Added) -> String {
        let is_added = |name: &str| added.iter().any(|(key, _)| *key == name);
        let mut out = String::with_capacity(text.len() + 64);
        if self.entries.iter().any(|(name, _)| is_added(name)) {
            out.push('{');
            let written = self.entries.iter().zip(as_written(text)).filter(|((name, _), _)| !is_added(name));
            for (at, (_, entry)) in written.enumerate() {
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

/// The entries of an object that is known to be JSON, each as it is written.
fn as_written(text: &str) -> Vec<&str> {
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

/// What a value is, for messages.
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
