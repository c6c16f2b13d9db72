//! Verify: finds every damaged, missing and foreign file, and sets aside what is not as it must be, so that the next run makes
//! it anew.

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;
use serde::Serialize;

use super::action::{Action, ActionKey};
use super::backend::{FileEntry, PublishMode};
use super::claim::Lease;
use super::error::StoreError;
use super::layout::{self, ObjectId, StoreFile};
use super::result::StageResult;
use super::{Digest, Store, StoreFormat, cache, checksum};

/// How deep to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerifyDepth {
    /// Names, sizes and references; no object is read.
    Quick,
    /// Every byte.
    Full,
}

/// What is wrong with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreProblemKind {
    /// It is not what its name says.
    Damaged,
    /// Something refers to it and it is not there.
    Missing,
    /// It has no business in a store.
    Foreign,
}

/// A file that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct StoreProblem {
    /// The file's name within the store.
    pub name: String,
    /// What is wrong.
    pub kind: StoreProblemKind,
    /// The particulars.
    pub detail: String,
    /// Where it was moved to.
    pub quarantined: Option<String>,
}

/// What `verify` found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct VerifyReport {
    /// Files looked at.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Temporary files left by processes that died: harmless, removed by `gc`.
    pub leftovers: u64,
    /// Files in the quarantine from earlier.
    pub in_quarantine: u64,
    /// What is not as it must be, by name.
    pub problems: Vec<StoreProblem>,
}

/// The parts of a store that refer to others.
#[derive(Default)]
struct Graph {
    sizes: BTreeMap<ObjectId, u64>,
    actions: BTreeMap<ActionKey, Action>,
    results: BTreeMap<ActionKey, StageResult>,
    refs: BTreeMap<(String, String), BTreeMap<u32, ActionKey>>,
}

enum Content {
    Action(Action),
    Result(StageResult),
    Ref(super::Ref),
    Opaque,
}

impl Store {
    /// Opens a store for [`verify`](Self::verify), which mends a `FORMAT` file that is damaged or lost.
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

    /// Looks at every file. With `set_aside`, moves damaged and foreign files into the quarantine.
    pub fn verify(&self, depth: VerifyDepth, set_aside: bool) -> Result<VerifyReport, StoreError> {
        let mut report = VerifyReport::default();
        let entries = self.backend.list("")?;
        let looked: Vec<(FileEntry, StoreFile, Result<Content, StoreProblem>)> = entries
            .into_par_iter()
            .map(|entry| {
                let file = StoreFile::of(&entry.name);
                let content = self.look(&entry, &file, depth);
                (entry, file, content)
            })
            .collect();
        let mut graph = Graph::default();
        for (entry, file, content) in looked {
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
                    if set_aside {
                        match self.quarantine(&entry) {
                            Ok(place) => problem.quarantined = Some(place),
                            Err(e) => problem.detail = format!("{}; it stays where it is: {e}", problem.detail),
                        }
                    }
                    report.problems.push(problem);
                }
            }
        }
        self.check_format(&mut report, set_aside)?;
        let known: BTreeSet<String> = report.problems.iter().map(|p| p.name.clone()).collect();
        for problem in graph.missing() {
            // A damaged file is one problem, however many refer to it; and what was listed before another process published
            // it is not missing.
            if !known.contains(&problem.name) && self.still_holds(&problem)? {
                report.problems.push(problem);
            }
        }
        report.problems.sort();
        report.problems.dedup_by(|a, b| a.name == b.name);
        Ok(report)
    }

    /// Looks at a missing file once more.
    fn still_holds(&self, problem: &StoreProblem) -> Result<bool, StoreError> {
        Ok(problem.kind != StoreProblemKind::Missing || self.backend.head(&problem.name)?.is_none())
    }

    /// Checks one file by itself.
    fn look(&self, entry: &FileEntry, file: &StoreFile, depth: VerifyDepth) -> Result<Content, StoreProblem> {
        let problem = |kind, detail: String| StoreProblem { name: entry.name.clone(), kind, detail, quarantined: None };
        let gone = || matches!(self.backend.head(&entry.name), Ok(None));
        let damaged = |e: StoreError| match e {
            StoreError::Damaged { problem: detail, .. } => problem(StoreProblemKind::Damaged, detail),
            other => problem(StoreProblemKind::Damaged, other.to_string()),
        };
        if !entry.is_file && *file != StoreFile::Quarantined {
            return Err(problem(StoreProblemKind::Foreign, "it is not a plain file".into()));
        }
        let read = || match self.backend.read(&entry.name) {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => Ok(Vec::new()),
            Err(e) => Err(damaged(e)),
        };
        let looked = match file {
            StoreFile::Foreign => {
                Err(problem(StoreProblemKind::Foreign, "no part of the store is named like this".into()))
            }
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
            StoreFile::Claim(_) => {
                let bytes = read()?;
                let whole = bytes.is_empty() || checksum::verify_checksum::<Lease>(&entry.name, &bytes).is_ok();
                whole
                    .then_some(Content::Opaque)
                    .ok_or_else(|| problem(StoreProblemKind::Damaged, "it is no lease".into()))
            }
            StoreFile::Cache => {
                let whole = cache::unwrap_note(read()?).is_some();
                let detail = "its digest does not match its content".into();
                whole.then_some(Content::Opaque).ok_or_else(|| problem(StoreProblemKind::Damaged, detail))
            }
            StoreFile::View => self
                .look_at_view(entry, depth)
                .map(|()| Content::Opaque)
                .map_err(|d| problem(StoreProblemKind::Damaged, d)),
            _ => Ok(Content::Opaque),
        };
        match looked {
            // Gone since it was listed: another process took it away, as it may with leases, views and notes.
            Err(_) if gone() => Ok(Content::Opaque),
            looked => looked,
        }
    }

    /// A view is a second name of an object, which its own name ends with: `<anything>-<digest>.<ending>`.
    fn look_at_view(&self, entry: &FileEntry, depth: VerifyDepth) -> Result<(), String> {
        let file = entry.name.rsplit('/').next().unwrap_or_default();
        let (stem, ending) = file.split_once('.').ok_or("its name does not end with an object's name")?;
        let digest: Digest = stem
            .rsplit('-')
            .next()
            .and_then(|hex| hex.parse().ok())
            .ok_or("its name does not hold an object's digest")?;
        ending.parse::<super::ObjectKind>().map_err(|()| "its ending is none of an object's".to_owned())?;
        if depth == VerifyDepth::Full {
            let bytes = self.backend.read(&entry.name).map_err(|e| e.to_string())?.unwrap_or_default();
            if Digest::of(&bytes) != digest {
                return Err("its bytes do not have the digest of its name".into());
            }
        }
        Ok(())
    }

    fn check_format(&self, report: &mut VerifyReport, set_aside: bool) -> Result<(), StoreError> {
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
        if set_aside {
            if let Some(entry) = self.backend.head(layout::FORMAT)? {
                problem.quarantined = Some(self.quarantine(&entry)?);
            }
            // There has only been one format, so the store is of this one.
            self.put_file(layout::FORMAT, StoreFormat::CURRENT.file_text().as_bytes(), PublishMode::CreateOnly)?;
            problem.detail.push_str("; written anew");
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
            _ => {}
        }
    }

    /// What is referred to and is not there.
    fn missing(&self) -> BTreeSet<StoreProblem> {
        let mut problems = BTreeSet::new();
        let mut add = |name: String, kind, detail: String| {
            problems.insert(StoreProblem { name, kind, detail, quarantined: None });
        };
        for (key, result) in &self.results {
            for output in &result.outputs {
                match self.sizes.get(&output.object) {
                    None => add(
                        output.object.name(),
                        StoreProblemKind::Missing,
                        format!("{} names it", layout::result(*key)),
                    ),
                    Some(&len) if len != output.bytes => {
                        let detail = format!("it has {len} bytes, {} says {}", layout::result(*key), output.bytes);
                        add(output.object.name(), StoreProblemKind::Damaged, detail);
                    }
                    Some(_) => {}
                }
            }
            for made_from in result.upstream.iter().filter(|k| !self.results.contains_key(k)) {
                add(
                    layout::result(*made_from),
                    StoreProblemKind::Missing,
                    format!("{} was made from it", layout::result(*key)),
                );
            }
            match self.actions.get(key) {
                None => add(
                    layout::action(*key),
                    StoreProblemKind::Missing,
                    format!("{} is its result", layout::result(*key)),
                ),
                Some(action) => {
                    for input in action.inputs.iter().filter(|i| !self.sizes.contains_key(&i.object)) {
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
                    None => add(file, StoreProblemKind::Missing, format!("the sequence goes on to {last}")),
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
