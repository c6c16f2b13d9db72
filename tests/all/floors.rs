//! The floors of the program: imports go only downward, and no files import one another in a
//! circle.
//!
//! The floors are those of `docs/architecture.md`. Imports are read from the source text: `use`
//! declarations, and paths that begin with `crate::`, `super::` or `self::`. A name that a module
//! re-exports counts as an import of the file that defines it. Unit tests at a file's end do not
//! count, nor does a file's import of a module that it is part of: what `mod.rs` defines belongs to
//! its whole folder.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Every top-level module, from the ground up. A module imports only from floors below its own.
const FLOORS: [&[&str]; 9] = [
    &[
        "canonical",
        "batch_job",
        "candle_threads",
        "grading",
        "huge_pages",
        "ids",
        "input_kind",
        "kernels",
        "messages",
        "network_files",
        "panics",
        "random",
        "text_file",
    ],
    &["device", "imaging", "interval", "reward", "store", "tables"],
    &["benchmarks", "scenes", "vlm"],
    &["sampling", "training"],
    &["analysis"],
    &["stages"],
    &["evolution"],
    &["checkup", "cluster"],
    &["cli"],
];

type Module = Vec<String>;
/// Imports by file: the imported file, and the path as it is written.
type Imports = BTreeMap<Module, BTreeMap<Module, String>>;

#[test]
fn imports_go_only_downward() {
    let floor_of = |module: &Module| {
        let top = module.first().map_or("lib.rs", String::as_str);
        FLOORS.iter().position(|floor| floor.contains(&top)).unwrap_or_else(|| {
            panic!("src/{top} has no floor: add it to FLOORS in tests/all/floors.rs and to docs/architecture.md")
        })
    };
    for (from, imports) in imports() {
        for (to, path) in imports.iter().filter(|(to, _)| to[0] != from[0]) {
            assert!(
                floor_of(to) < floor_of(&from),
                "{} is on floor {}, and imports {path} from floor {}: imports go only downward",
                name(&from),
                floor_of(&from) + 1,
                floor_of(to) + 1,
            );
        }
    }
}

#[test]
fn no_files_import_one_another_in_a_circle() {
    let imports = imports();
    let mut done = BTreeSet::new();
    for start in imports.keys() {
        if let Some(circle) = find_circle(start, &imports, &mut Vec::new(), &mut done) {
            let arrows: Vec<String> = circle
                .iter()
                .zip(circle.iter().cycle().skip(1))
                .map(|(from, to)| format!("{} imports {}", name(from), imports[from][to]))
                .collect();
            panic!("these files import one another in a circle:\n{}", arrows.join("\n"));
        }
    }
}

/// Returns the first circle that a depth-first walk from `at` meets.
fn find_circle<'a>(
    at: &'a Module,
    imports: &'a Imports,
    path: &mut Vec<&'a Module>,
    done: &mut BTreeSet<&'a Module>,
) -> Option<Vec<Module>> {
    if let Some(first) = path.iter().position(|&seen| seen == at) {
        return Some(path[first..].iter().map(|&module| module.clone()).collect());
    }
    if done.contains(at) {
        return None;
    }
    path.push(at);
    let circle = imports.get(at).and_then(|to| to.keys().find_map(|to| find_circle(to, imports, path, done)));
    path.pop();
    done.insert(at);
    circle
}

/// Reads the imports of every file in `src`, but for the roots `lib.rs` and `main.rs`.
fn imports() -> Imports {
    let mut texts = BTreeMap::new();
    read(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), &Vec::new(), &mut texts);
    let paths: BTreeMap<&Module, (Vec<Import>, Vec<Import>)> =
        texts.iter().map(|(module, text)| (module, paths_of(module, text))).collect();
    let mut exports: BTreeMap<(Module, String), Module> = BTreeMap::new();
    for (&module, (_, reexports)) in &paths {
        for import in reexports {
            exports.insert((module.clone(), import.alias.clone()), import.path.clone());
        }
    }
    let resolve = |path: &Module| {
        let mut path = path.clone();
        // A re-export may lead to a re-export; a chain of them ends soon.
        for _ in 0..8 {
            let module = (0..=path.len()).rev().map(|n| &path[..n]).find(|m| texts.contains_key(*m))?.to_vec();
            match path.get(module.len()).and_then(|item| exports.get(&(module.clone(), item.clone()))) {
                Some(target) => path = target.iter().chain(&path[module.len() + 1..]).cloned().collect(),
                None => return Some(module),
            }
        }
        None
    };
    let mut imports = Imports::new();
    for (&module, (used, _)) in &paths {
        let entry = imports.entry(module.clone()).or_default();
        for import in used {
            if let Some(to) = resolve(&import.path).filter(|to| !module.starts_with(to)) {
                entry.entry(to).or_insert_with(|| import.path.join("::"));
            }
        }
    }
    imports
}

/// Reads the files below a folder, by module path.
fn read(folder: &Path, module: &Module, texts: &mut BTreeMap<Module, String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let inner: Module = module.iter().cloned().chain([stem.clone()]).collect();
        if path.is_dir() {
            read(&path, &inner, texts);
        } else if path.extension().is_some_and(|e| e == "rs") && !["lib", "main"].contains(&stem.as_str()) {
            let text = std::fs::read_to_string(&path).unwrap();
            texts.insert(if stem == "mod" { module.clone() } else { inner }, text);
        }
    }
}

/// An imported path from the crate's root, and the name that it gets.
struct Import {
    path: Module,
    alias: String,
}

/// Returns the paths that a file uses, and those that it re-exports.
fn paths_of(module: &Module, text: &str) -> (Vec<Import>, Vec<Import>) {
    let code = text.split("\n#[cfg(test)]\nmod ").next().unwrap();
    let code: String = code.lines().map(|line| line.split("//").next().unwrap().to_owned() + "\n").collect();
    let children: BTreeSet<&str> = code
        .lines()
        .filter_map(|line| line.trim().strip_suffix(';')?.rsplit_once("mod ").map(|(_, child)| child))
        .collect();
    let (mut used, mut reexported) = (Vec::new(), Vec::new());
    let mut rest = String::new();
    for statement in code.split_inclusive(';') {
        let Some((at, _)) = statement.match_indices("use ").find(|&(at, _)| is_use(&statement[..at])) else {
            rest.push_str(statement);
            continue;
        };
        let before = &statement[..at];
        rest.push_str(before);
        let is_reexport = before.trim_end().rsplit(['\n', '}', ';']).next().unwrap().trim().starts_with("pub");
        let mut paths = Vec::new();
        expand(statement[at + 4..].trim_end_matches(';'), &Vec::new(), &mut paths);
        for (path, alias) in paths {
            if let Some(path) = from_root(module, &path, &children) {
                if is_reexport { &mut reexported } else { &mut used }.push(Import { path, alias });
            }
        }
    }
    let bytes = rest.as_bytes();
    for root in ["crate::", "super::", "self::"] {
        for (at, _) in rest.match_indices(root) {
            if at > 0 && (is_word(bytes[at - 1]) || bytes[at - 1] == b':' || bytes[at - 1] == b'$') {
                continue;
            }
            let end = rest[at..]
                .find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'))
                .map_or(rest.len(), |n| at + n);
            let path: Module = rest[at..end].split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect();
            if let Some(path) = from_root(module, &path, &children) {
                used.push(Import { path, alias: String::new() });
            }
        }
    }
    (used, reexported)
}

/// Whether the text before the word `use` makes it a declaration.
fn is_use(before: &str) -> bool {
    let line = before.rsplit('\n').next().unwrap().trim();
    line.is_empty() || line == "pub" || line.starts_with("pub(") && line.ends_with(')')
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Expands the tree of a `use` declaration into paths and the names that they get.
fn expand(tree: &str, prefix: &Module, paths: &mut Vec<(Module, String)>) {
    let tree = tree.trim();
    if let Some(open) = tree.find('{') {
        let mut prefix = prefix.clone();
        prefix.extend(tree[..open].split("::").map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()));
        let (mut depth, mut from) = (0, 0);
        let inside = &tree[open + 1..tree.rfind('}').unwrap()];
        for (at, c) in inside.char_indices().chain([(inside.len(), ',')]) {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    if !inside[from..at].trim().is_empty() {
                        expand(&inside[from..at], &prefix, paths);
                    }
                    from = at + 1;
                }
                _ => {}
            }
        }
        return;
    }
    let (path, alias) = tree.split_once(" as ").map_or((tree, None), |(path, alias)| (path, Some(alias.trim())));
    let mut whole = prefix.clone();
    whole
        .extend(path.split("::").map(|part| part.trim().to_owned()).filter(|part| part != "self" || prefix.is_empty()));
    let alias = alias.unwrap_or_else(|| whole.last().unwrap()).to_owned();
    paths.push((whole, alias));
}

/// Returns a path as from the crate's root; `None` for one of another crate.
fn from_root(module: &Module, path: &Module, children: &BTreeSet<&str>) -> Option<Module> {
    let mut path = path.iter();
    let first = path.next()?;
    let mut root = match first.as_str() {
        "crate" => Module::new(),
        "self" => module.clone(),
        "super" => module[..module.len() - 1].to_vec(),
        child if children.contains(child) => module.iter().cloned().chain([child.to_owned()]).collect(),
        _ => return None,
    };
    for part in path {
        if part == "super" {
            root.pop();
        } else {
            root.push(part.clone());
        }
    }
    Some(root)
}

/// Returns a file's name as it is shown.
fn name(module: &Module) -> String {
    format!("src/{}", module.join("/"))
}
