//! Paths in a pipeline file: all of them are relative to the file's folder.

use std::path::{Component, Path, PathBuf};

use super::{BUILT_IN, Pipeline, PipelineError};
use crate::input_kind::{describe_instead_of_images, describe_instead_of_model, describe_instead_of_table, hub_id};

impl Pipeline {
    /// Returns every path of the pipeline with its key. An empty path means that none is set.
    pub(crate) fn paths_mut(&mut self) -> impl Iterator<Item = (&'static str, &mut PathBuf)> {
        let single = [
            ("model.base", &mut self.model.base),
            ("prompts.questioner", &mut self.prompts.questioner),
            ("prompts.reasoner", &mut self.prompts.reasoner),
            ("evaluation.truth", &mut self.evaluation.truth),
            ("round.labelled", &mut self.round.labelled),
        ];
        let sources = self.ingest.sources.iter_mut().map(|path| ("ingest.sources", path));
        let benchmarks = self.evaluation.benchmarks.iter_mut().map(|path| ("evaluation.benchmarks", path));
        let all = single.into_iter().chain(sources).chain(benchmarks);
        all.filter(|(_, path)| !path.as_os_str().is_empty())
    }

    /// Resolves every path against the folder of the pipeline file.
    pub(super) fn resolve_paths(&mut self) {
        let folder = self.source.folder().to_owned();
        for (_, path) in self.paths_mut() {
            *path = resolve(&folder, path);
        }
    }

    /// Checks that the files a round needs besides the base model and the prompts can be opened, so
    /// that none is missed only at its end.
    ///
    /// # Errors
    /// The first path that cannot be opened, with its key and the folder that it is relative to.
    pub fn check_files(&self) -> Result<(), PipelineError> {
        let benchmarks = self.evaluation.benchmarks.iter().map(|path| ("evaluation.benchmarks", path));
        let labelled = [("round.labelled", &self.round.labelled)].into_iter();
        let mut all = labelled.chain(benchmarks).filter(|(_, path)| !path.as_os_str().is_empty());
        all.try_for_each(|(key, path)| self.check_path(key, path))
    }

    /// Returns the sources to ingest if the command line names none.
    ///
    /// # Errors
    /// One of them cannot be opened.
    pub fn ingest_sources(&self) -> Result<&[PathBuf], PipelineError> {
        self.ingest.sources.iter().try_for_each(|path| self.check_path("ingest.sources", path))?;
        Ok(&self.ingest.sources)
    }

    /// Checks that the path of a key can be opened.
    pub(in crate::evolution) fn check_path(&self, key: &str, path: &Path) -> Result<(), PipelineError> {
        std::fs::File::open(path).map(drop).map_err(|e| self.path_error(key, path, &e))
    }

    /// Returns an error about a path that cannot be opened or read.
    pub(in crate::evolution) fn path_error(&self, key: &str, path: &Path, e: &std::io::Error) -> PipelineError {
        let shown = path.display();
        let problem = match e.kind() {
            std::io::ErrorKind::NotFound => format!("`{shown}` does not exist"),
            _ => format!("`{shown}` cannot be opened: {e}"),
        };
        let file_folder = self.source.folder();
        let written = path.strip_prefix(file_folder).unwrap_or(path);
        let folder = std::env::current_dir().unwrap_or_default().join(self.source.folder());
        let hint = match self.source.file == Path::new(BUILT_IN) {
            true => "; run the command in a checkout of visplay, or name a pipeline file with --pipeline",
            false => "",
        };
        let on_hub = match key {
            "model.base" => describe_instead_of_model(written),
            "ingest.sources" => describe_instead_of_images(written),
            "evaluation.benchmarks" | "round.labelled" => describe_instead_of_table(written),
            _ => None,
        };
        let on_hub = on_hub.filter(|_| hub_id(written).is_some()).map_or(String::new(), |text| format!("; {text}"));
        let folder = folder.display();
        self.source.error(
            key,
            format!("{problem}; paths in a pipeline file are relative to its folder, here {folder}{hint}{on_hub}"),
        )
    }
}

/// Joins a path of a pipeline file to the file's folder.
///
/// `..` cancels the part before it, unless that is a symbolic link, so that messages show
/// `data/nano` rather than `pipelines/../data/nano`.
pub(super) fn resolve(folder: &Path, path: &Path) -> PathBuf {
    let mut resolved = folder.to_owned();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if resolved.file_name().is_some() && !resolved.is_symlink() => {
                resolved.pop();
            }
            part => resolved.push(part),
        }
    }
    resolved
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_relative_to_the_folder_of_the_file() {
        let resolved = |folder: &str, path: &str| resolve(Path::new(folder), Path::new(path)).display().to_string();
        assert_eq!(resolved("pipelines", "../data/nano"), "data/nano");
        assert_eq!(resolved("", "data/nano"), "data/nano");
        assert_eq!(resolved("", "../nano"), "../nano");
        assert_eq!(resolved("../a/b", "../../../nano"), "../../nano");
        assert_eq!(resolved("/a/b", "./c.txt"), "/a/b/c.txt");
        assert_eq!(resolved("/a/b", "/c.txt"), "/c.txt");
    }

    #[test]
    fn every_path_of_a_pipeline_is_resolved() {
        let text = "evolution = \"a\"\n[ingest]\nsources = [\"i\", \"/j\"]\n[model]\nbase = \"../b\"\n\
                    [prompts]\nquestioner = \"q\"\nreasoner = \"r\"\n\
                    [evaluation]\nbenchmarks = [\"e\"]\ntruth = \"t\"\n[round]\nlabelled = \"\"\n";
        let mut pipeline = Pipeline::parse(Path::new("f/p.toml"), text).expect("usable");
        let paths: Vec<String> = pipeline.paths_mut().map(|(key, path)| format!("{key} {}", path.display())).collect();
        assert_eq!(
            paths,
            [
                "model.base b",
                "prompts.questioner f/q",
                "prompts.reasoner f/r",
                "evaluation.truth f/t",
                "ingest.sources f/i",
                "ingest.sources /j",
                "evaluation.benchmarks f/e",
            ]
        );
    }

    #[test]
    fn a_missing_file_is_named_with_its_key_and_folder() {
        let text = "evolution = \"a\"\n[evaluation]\nbenchmarks = [\"gone.parquet\"]\n";
        let pipeline = Pipeline::parse(Path::new("/no-such-folder/p.toml"), text).expect("usable");
        let path = &pipeline.evaluation.benchmarks[0];
        assert_eq!(
            pipeline.check_path("evaluation.benchmarks", path).expect_err("missing").to_string(),
            "/no-such-folder/p.toml:3: `evaluation.benchmarks`: `/no-such-folder/gone.parquet` does not exist; paths \
             in a pipeline file are relative to its folder, here /no-such-folder"
        );
    }
}
