//! Verification (`visplay verify`): finds damaged, missing and foreign files, and quarantines bad
//! ones so that the next run recomputes them.

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;
use serde::Serialize;

use super::action::Action;
use super::backend::FileEntry;
use super::claim::Lease;
use super::error::StoreError;
use super::key::ActionKey;
use super::layout::{self, ObjectId, StoreFile};
use super::result::StageResult;
use super::retention::DropNote;
use super::{Digest, Store, StoreFormat, cache, checksum};

/// The depth of a verification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerifyDepth {
    /// Names, sizes and references, without reading objects.
    Quick,
    /// Every byte.
    Full,
}

/// Kind of problem with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreProblemKind {
    /// The content does not match the name.
    Damaged,
    /// Another file refers to it, but it does not exist.
    Missing,
    /// It does not belong in a store.
    Foreign,
}

/// A file with a problem.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct StoreProblem {
    /// Name within the store.
    pub name: String,
    /// Kind of problem.
    pub kind: StoreProblemKind,
    /// Description of the problem.
    pub detail: String,
    /// New name in the quarantine, if it was moved.
    pub quarantined: Option<String>,
}

/// Outcome of a verification.
#[derive(Debug, Clone, Default, Serialize)]
pub struct VerifyReport {
    /// Number of files checked.
    pub files: u64,
    /// Their total size in bytes.
    pub bytes: u64,
    /// Number of temporary files left by dead processes. They are harmless, and `gc` removes them.
    pub leftovers: u64,
    /// Number of files that were already in the quarantine.
    pub in_quarantine: u64,
    /// Number of objects that were dropped and can be recomputed. They are no problem.
    pub dropped: u64,
    /// Their total size in bytes.
    pub dropped_bytes: u64,
    /// Problems, sorted by file name.
    pub problems: Vec<StoreProblem>,
}

/// References between the files of a store.
#[derive(Default)]
struct Graph {
    sizes: BTreeMap<ObjectId, u64>,
    actions: BTreeMap<ActionKey, Action>,
    results: BTreeMap<ActionKey, StageResult>,
    refs: BTreeMap<(String, String), BTreeMap<u32, ActionKey>>,
    /// Sizes of objects that were dropped at some time.
    dropped: BTreeMap<ObjectId, u64>,
}

/// Parsed content of a file that refers to others.
enum Content {
    Action(Action),
    Result(StageResult),
    Ref(super::Ref),
    Dropped(DropNote),
    Opaque,
}

impl Store {
    /// Opens a store for [`verify`](Self::verify), which restores a damaged or lost `FORMAT`.
    pub fn open_for_repair(root: &std::path::Path) -> Result<Self, StoreError> {
        match Self::open(root) {
            Err(StoreError::Damaged { .. }) => Ok(Self::unchecked(root)),
            Err(StoreError::NotAStore { path }) => {
                let known = [layout::OBJECTS, layout::RESULTS, layout::REFS];
                let looks_like_one = known.iter().any(|folder| root.join(folder).is_dir());
                if looks_like_one { Ok(Self::unchecked(root)) } else { Err(StoreError::NotAStore { path }) }
            }
            other => other,
        }
    }

    /// Checks all files. With `quarantine`, moves damaged and foreign files to the quarantine.
    pub fn verify(&self, depth: VerifyDepth, quarantine: bool) -> Result<VerifyReport, StoreError> {
        let mut report = VerifyReport::default();
        let entries = self.backend.list("")?;
        let checked: Vec<(FileEntry, StoreFile, Result<Content, StoreProblem>)> = entries
            .into_par_iter()
            .map(|entry| {
                let file = StoreFile::of(&entry.name);
                let content = self.check_file(&entry, &file, depth);
                (entry, file, content)
            })
            .collect();
        let mut graph = Graph::default();
        for (entry, file, content) in checked {
            match file {
                StoreFile::Quarantined => report.in_quarantine += 1,
                StoreFile::Temporary => report.leftovers += 1,
                _ => {}
            }
            report.files += 1;
            report.bytes += entry.len;
            match content {
                Ok(content) => graph.add(&entry, &file, content),
                Err(mut problem) => {
                    if quarantine {
                        match self.quarantine(&entry) {
                            Ok(name) => problem.quarantined = Some(name),
                            Err(e) => problem.detail = format!("{}; it could not be moved: {e}", problem.detail),
                        }
                    }
                    report.problems.push(problem);
                }
            }
        }
        self.check_format(&mut report, quarantine)?;
        let dropped = graph.dropped.iter().filter(|(object, _)| !graph.sizes.contains_key(object));
        (report.dropped, report.dropped_bytes) = dropped.fold((0, 0), |(n, sum), (_, bytes)| (n + 1, sum + bytes));
        let known: BTreeSet<String> = report.problems.iter().map(|p| p.name.clone()).collect();
        for problem in graph.find_missing() {
            // Report a damaged file once, however many files refer to it. A file that another
            // process published after the listing is not missing.
            if !known.contains(&problem.name) && self.is_still_missing(&problem)? {
                report.problems.push(problem);
            }
        }
        report.problems.sort();
        report.problems.dedup_by(|a, b| a.name == b.name);
        Ok(report)
    }

    /// Checks again whether a file reported missing is still missing.
    fn is_still_missing(&self, problem: &StoreProblem) -> Result<bool, StoreError> {
        if problem.kind != StoreProblemKind::Missing {
            return Ok(true);
        }
        match StoreFile::of(&problem.name) {
            // Another process may have dropped it after the notes were listed.
            StoreFile::Object(object) if self.is_dropped(object)? => Ok(false),
            _ => Ok(self.backend.head(&problem.name)?.is_none()),
        }
    }

    /// Checks one file on its own.
    fn check_file(&self, entry: &FileEntry, file: &StoreFile, depth: VerifyDepth) -> Result<Content, StoreProblem> {
        let problem = |kind, detail: &str| StoreProblem {
            name: entry.name.clone(),
            kind,
            detail: detail.to_owned(),
            quarantined: None,
        };
        let foreign = |detail| Err(problem(StoreProblemKind::Foreign, detail));
        let damaged = |e: StoreError| match e {
            StoreError::Damaged { problem: detail, .. } => problem(StoreProblemKind::Damaged, &detail),
            other => problem(StoreProblemKind::Damaged, &other.to_string()),
        };
        let opaque_if = |intact: bool, detail| match intact {
            true => Ok(Content::Opaque),
            false => Err(problem(StoreProblemKind::Damaged, detail)),
        };
        if !entry.is_file && *file != StoreFile::Quarantined {
            return foreign("it is not a regular file");
        }
        let read = || self.backend.read(&entry.name).map(Option::unwrap_or_default).map_err(damaged);
        let checked = match file {
            StoreFile::Foreign => foreign("no store file has a name like this"),
            StoreFile::Object(object) if depth == VerifyDepth::Full => {
                self.read_object(*object).map(|_| Content::Opaque).map_err(damaged)
            }
            StoreFile::Action(key) => self.action(*key).map(Content::Action).map_err(damaged),
            StoreFile::Result(key) => match self.result(*key) {
                Ok(Some(result)) => Ok(Content::Result(result)),
                Ok(None) => Ok(Content::Opaque),
                Err(e) => Err(damaged(e)),
            },
            StoreFile::Ref(..) => self.read_ref(&entry.name).map(Content::Ref).map_err(damaged),
            StoreFile::Dropped(object) => {
                self.read_drop_note(&entry.name, *object).map(Content::Dropped).map_err(damaged)
            }
            StoreFile::Retention(_) => {
                let intact = checksum::verify_checksum::<serde_json::Value>(&entry.name, &read()?);
                intact.map(|_| Content::Opaque).map_err(damaged)
            }
            StoreFile::Claim(_) => {
                let bytes = read()?;
                let intact = bytes.is_empty() || checksum::verify_checksum::<Lease>(&entry.name, &bytes).is_ok();
                opaque_if(intact, "it is not a valid lease")
            }
            StoreFile::Cache => {
                opaque_if(cache::strip_checksum(read()?).is_some(), "its digest does not match its content")
            }
            StoreFile::View => self
                .check_view(entry, depth)
                .map(|()| Content::Opaque)
                .map_err(|detail| problem(StoreProblemKind::Damaged, &detail)),
            _ => Ok(Content::Opaque),
        };
        match checked {
            // Another process may remove leases, views and cache entries after they were listed.
            Err(_) if matches!(self.backend.head(&entry.name), Ok(None)) => Ok(Content::Opaque),
            checked => checked,
        }
    }

    /// Checks a hard link to an object, or a copy of it.
    fn check_view(&self, entry: &FileEntry, depth: VerifyDepth) -> Result<(), String> {
        let object = layout::viewed_object(&entry.name).ok_or("its name does not end with an object's name")?;
        if depth == VerifyDepth::Full {
            let bytes = self.backend.read(&entry.name).map_err(|e| e.to_string())?.unwrap_or_default();
            if Digest::of(&bytes) != object.digest {
                return Err("its bytes do not match the digest in its name".into());
            }
        }
        Ok(())
    }

    fn check_format(&self, report: &mut VerifyReport, quarantine: bool) -> Result<(), StoreError> {
        let text = self.backend.read(layout::FORMAT)?;
        if text.as_deref().and_then(StoreFormat::parse).is_some() {
            return Ok(());
        }
        let kind = if text.is_some() { StoreProblemKind::Damaged } else { StoreProblemKind::Missing };
        let mut problem = StoreProblem {
            name: layout::FORMAT.into(),
            kind,
            detail: "it must say `visplay store 1`".into(),
            quarantined: None,
        };
        if quarantine {
            if let Some(entry) = self.backend.head(layout::FORMAT)? {
                problem.quarantined = Some(self.quarantine(&entry)?);
            }
            // Only one format exists so far, so the store has this one.
            self.write_format()?;
            problem.detail.push_str("; restored");
        }
        report.problems.push(problem);
        Ok(())
    }
}

impl Graph {
    fn add(&mut self, entry: &FileEntry, file: &StoreFile, content: Content) {
        match (file, content) {
            (StoreFile::Object(object), _) => {
                self.sizes.insert(*object, entry.len);
            }
            (StoreFile::Action(key), Content::Action(action)) => {
                self.actions.insert(*key, action);
            }
            (StoreFile::Result(key), Content::Result(result)) => {
                self.results.insert(*key, result);
            }
            (StoreFile::Ref(..), Content::Ref(r)) => {
                self.refs.entry((r.evolution, r.name)).or_default().insert(r.sequence, r.result);
            }
            (StoreFile::Dropped(object), Content::Dropped(note)) => {
                self.dropped.insert(*object, note.bytes);
            }
            _ => {}
        }
    }

    /// Returns problems with files that others refer to.
    fn find_missing(&self) -> BTreeSet<StoreProblem> {
        let mut problems = BTreeSet::new();
        let mut add = |name: String, kind, detail: String| {
            problems.insert(StoreProblem { name, kind, detail, quarantined: None });
        };
        for (key, result) in &self.results {
            for output in &result.outputs {
                match self.sizes.get(&output.object) {
                    None if self.dropped.contains_key(&output.object) => {}
                    None => add(
                        output.object.name(),
                        StoreProblemKind::Missing,
                        format!("{} lists it", layout::result(*key)),
                    ),
                    Some(&len) if len != output.bytes => {
                        let detail = format!("it has {len} bytes, but {} lists {}", layout::result(*key), output.bytes);
                        add(output.object.name(), StoreProblemKind::Damaged, detail);
                    }
                    Some(_) => {}
                }
            }
            for upstream in result.upstream.iter().filter(|k| !self.results.contains_key(k)) {
                add(
                    layout::result(*upstream),
                    StoreProblemKind::Missing,
                    format!("{} was computed from it", layout::result(*key)),
                );
            }
            match self.actions.get(key) {
                None => add(
                    layout::action(*key),
                    StoreProblemKind::Missing,
                    format!("{} is its result", layout::result(*key)),
                ),
                Some(action) => {
                    let is_missing = |object| !self.sizes.contains_key(object) && !self.dropped.contains_key(object);
                    for input in action.inputs.iter().filter(|i| is_missing(&i.object)) {
                        let detail = format!("{} reads it", layout::action(*key));
                        add(input.object.name(), StoreProblemKind::Missing, detail);
                    }
                }
            }
        }
        for ((evolution, name), sequence) in &self.refs {
            let last = sequence.keys().next_back().copied().unwrap_or(0);
            for n in 1..=last {
                let file = layout::reference(evolution, name, n);
                match sequence.get(&n) {
                    None => add(file, StoreProblemKind::Missing, format!("the sequence continues up to {last}")),
                    Some(key) if !self.results.contains_key(key) => {
                        add(layout::result(*key), StoreProblemKind::Missing, format!("{file} names it"));
                    }
                    Some(_) => {}
                }
            }
        }
        problems
    }
}
