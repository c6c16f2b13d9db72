//! The benchmark and form of a file, by its columns.

use thiserror::Error;

use crate::benchmarks::name::Benchmark;

/// Form of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Layout {
    /// The benchmark's own columns.
    Official(Benchmark),
    /// VLMEvalKit's columns.
    VlmEvalKit(Benchmark),
    /// VisPlay's copies: images, problem and answer.
    Copy(Benchmark),
}

impl Layout {
    /// Returns the benchmark.
    pub fn benchmark(self) -> Benchmark {
        match self {
            Self::Official(benchmark) | Self::VlmEvalKit(benchmark) | Self::Copy(benchmark) => benchmark,
        }
    }
}

/// Columns that belong to no or to several benchmarks.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the columns {columns} {}; pass --as NAME", .candidates.as_ref().map_or_else(|| "are those of no benchmark".to_owned(), |names| format!("may be those of {names}")))]
pub struct UnknownColumns {
    /// Columns, as they are named in the file.
    pub columns: String,
    /// Names of the benchmarks that have such columns, if there are any.
    pub candidates: Option<String>,
}

/// Columns by which a benchmark's own file is recognized.
const OFFICIAL: [(Benchmark, &[&str]); 11] = [
    (Benchmark::Mmmu, &["id", "question", "options", "answer", "question_type", "image_1"]),
    (Benchmark::MmVet, &["imagename", "question", "answer", "capability"]),
    (Benchmark::MmVet, &["question_id", "question", "answer", "capability", "image_source"]),
    (Benchmark::VisNumBench, &["id", "question", "option", "answer", "task_class"]),
    (Benchmark::MathVerse, &["sample_index", "problem_index", "problem_version", "question", "answer"]),
    (Benchmark::MathVision, &["id", "question", "options", "answer", "level", "subject"]),
    (
        Benchmark::HallusionBench,
        &["category", "subcategory", "visual_input", "set_id", "figure_id", "question_id", "gt_answer"],
    ),
    (Benchmark::MmStar, &["index", "question", "answer", "category", "l2_category", "meta_info"]),
    (Benchmark::RealWorldQa, &["image", "image_path", "question", "answer"]),
    (Benchmark::RealWorldQa, &["image", "question", "answer"]),
    (Benchmark::Generic, &["image", "question", "answer"]),
];
/// Columns by which a file of VLMEvalKit is recognized.
const VLMEVALKIT: [(Benchmark, &[&str]); 7] = [
    (Benchmark::MathVerse, &["index", "question", "answer", "problem_version", "query_cot", "metadata"]),
    (Benchmark::MathVision, &["index", "question", "answer", "choices", "level", "category"]),
    (Benchmark::Mmmu, &["index", "question", "answer", "a", "split", "category"]),
    (Benchmark::MmStar, &["index", "question", "answer", "a", "category", "l2-category"]),
    (Benchmark::MmStar, &["index", "question", "answer", "a", "category", "l2_category"]),
    (Benchmark::RealWorldQa, &["index", "question", "answer", "a"]),
    (Benchmark::HallusionBench, &["index", "question", "answer", "category", "l2-category"]),
];
/// Columns of VisPlay's copies.
const COPY: [&str; 3] = ["images", "problem", "answer"];
/// Columns that only files with options have.
const OPTION: &str = "a";

/// Recognizes a file by its columns, whose case does not matter. A named benchmark overrides what
/// the columns say, but its form must fit.
///
/// # Errors
/// The columns belong to no benchmark, or to several.
pub fn recognize(columns: &[&str], named: Option<Benchmark>) -> Result<Layout, UnknownColumns> {
    let lower: Vec<String> = columns.iter().map(|column| column.to_lowercase()).collect();
    let has = |column: &&str| lower.iter().any(|other| other == column);
    let unknown = |candidates: Option<String>| UnknownColumns { columns: columns.join(", "), candidates };
    if let Some(benchmark) = named {
        let layout = if COPY.iter().all(has) {
            Layout::Copy(benchmark)
        } else if has(&"index") && (has(&OPTION) || has(&"category")) && !has(&"meta_info") {
            Layout::VlmEvalKit(benchmark)
        } else if has(&"question") {
            Layout::Official(benchmark)
        } else {
            return Err(unknown(None));
        };
        return Ok(layout);
    }
    // Rules with more columns say more; those with as many and other benchmarks are in doubt.
    let fits = |rules: &[(Benchmark, &[&str])], layout: fn(Benchmark) -> Layout| -> Vec<(usize, Layout)> {
        let fitting = rules.iter().filter(|(_, rule)| rule.iter().all(has));
        let without_options = |benchmark: &Benchmark| *benchmark != Benchmark::HallusionBench || !has(&OPTION);
        fitting.filter(|(b, _)| without_options(b)).map(|(b, rule)| (rule.len(), layout(*b))).collect()
    };
    let mut found = fits(&OFFICIAL, Layout::Official);
    found.extend(fits(&VLMEVALKIT, Layout::VlmEvalKit));
    let most = found.iter().map(|(length, _)| *length).max();
    let mut best: Vec<Layout> =
        found.into_iter().filter(|(length, _)| Some(*length) == most).map(|(_, layout)| layout).collect();
    best.dedup();
    match best[..] {
        [layout] => Ok(layout),
        [] if COPY.iter().all(has) => {
            let names: Vec<&str> = Benchmark::ALL.iter().map(|benchmark| benchmark.name()).collect();
            Err(unknown(Some(names.join(", "))))
        }
        [] => Err(unknown(None)),
        _ => {
            let names: Vec<&str> = best.iter().map(|layout| layout.benchmark().name()).collect();
            Err(unknown(Some(names.join(", "))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Layout::{Copy, Official, VlmEvalKit};

    #[test]
    fn published_columns_are_recognized() {
        let cases: [(&[&str], Layout); 9] = [
            (
                &[
                    "id",
                    "question",
                    "options",
                    "explanation",
                    "image_1",
                    "image_2",
                    "answer",
                    "question_type",
                    "subfield",
                ],
                Official(Benchmark::Mmmu),
            ),
            (&["imagename", "question", "answer", "capability", "id"], Official(Benchmark::MmVet)),
            (
                &["class", "id", "question", "option", "answer", "task_class", "Attributes", "image"],
                Official(Benchmark::VisNumBench),
            ),
            (
                &[
                    "sample_index",
                    "problem_index",
                    "problem_version",
                    "question",
                    "image",
                    "answer",
                    "question_type",
                    "metadata",
                    "query_wo",
                ],
                Official(Benchmark::MathVerse),
            ),
            (
                &["id", "question", "options", "image", "decoded_image", "answer", "solution", "level", "subject"],
                Official(Benchmark::MathVision),
            ),
            (
                &[
                    "category",
                    "subcategory",
                    "visual_input",
                    "set_id",
                    "figure_id",
                    "question_id",
                    "gt_answer",
                    "gt_answer_details",
                    "question",
                    "filename",
                ],
                Official(Benchmark::HallusionBench),
            ),
            (
                &["index", "question", "image", "answer", "category", "l2_category", "meta_info"],
                Official(Benchmark::MmStar),
            ),
            (
                &["index", "image", "question", "answer", "category", "l2-category"],
                VlmEvalKit(Benchmark::HallusionBench),
            ),
            (
                &["index", "image", "question", "A", "B", "answer", "category", "l2-category"],
                VlmEvalKit(Benchmark::MmStar),
            ),
        ];
        for (columns, layout) in cases {
            assert_eq!(recognize(columns, None), Ok(layout), "{columns:?}");
        }
    }

    #[test]
    fn doubts_name_the_candidates() {
        let error = recognize(&["image", "question", "answer"], None).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the columns image, question, answer may be those of realworldqa, generic; pass --as NAME"
        );
        let error = recognize(&["x", "y"], None).unwrap_err();
        assert_eq!(error.to_string(), "the columns x, y are those of no benchmark; pass --as NAME");
        assert!(recognize(&["images", "problem", "answer"], None).unwrap_err().candidates.unwrap().contains("mmmu"));
        assert_eq!(recognize(&["images", "problem", "answer"], Some(Benchmark::Mmmu)), Ok(Copy(Benchmark::Mmmu)));
        assert_eq!(
            recognize(&["image", "question", "answer"], Some(Benchmark::RealWorldQa)),
            Ok(Official(Benchmark::RealWorldQa))
        );
        assert!(recognize(&["x"], Some(Benchmark::Mmmu)).is_err());
    }
}
