//! Figures of benchmarks against the tables that the published code makes of the same verdicts.

use std::fs;
use std::path::Path;

use serde_json::Value;
use visplay::benchmarks::extract::open_mmmu;
use visplay::benchmarks::figures::hallusion_causes::{JudgedItem, cause_statistics};
use visplay::benchmarks::figures::{Figure, Level, Metric, ScoredItem, figures, mm_vet, printed};
use visplay::benchmarks::judge::hallusion::Verdict;
use visplay::benchmarks::{Benchmark, BenchmarkItem, Labels, Protocol, QuestionKind, Reason};
use visplay::random::Seed;

/// Returns the sets of items and tables of a benchmark.
fn aggregates(benchmark: Benchmark) -> Vec<Value> {
    let name = format!("tests/data/benchmarks/{}.aggregate.json", benchmark.name());
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn text(value: &Value, key: &str) -> Option<String> {
    value[key].as_str().map(str::to_owned)
}

fn item(benchmark: Benchmark, labels: Labels) -> BenchmarkItem {
    BenchmarkItem {
        benchmark,
        official_id: None,
        kind: QuestionKind::Open,
        question: String::new(),
        query: None,
        hint: None,
        options: Default::default(),
        has_options_in_question: false,
        golds: Vec::new(),
        gold_details: None,
        images: Vec::new(),
        labels,
    }
}

/// Makes items with scores of the rows of a set.
fn items(benchmark: Benchmark, rows: &[Value], labels: impl Fn(&Value) -> Labels) -> Vec<BenchmarkItem> {
    rows.iter().map(|row| BenchmarkItem { official_id: text(row, "id"), ..item(benchmark, labels(row)) }).collect()
}

fn scored<'a>(items: &'a [BenchmarkItem], scores: impl IntoIterator<Item = f64>) -> Vec<ScoredItem<'a>> {
    let scored = items.iter().zip(scores);
    scored.map(|(item, score)| ScoredItem { item, score, extracted: None, reason: None }).collect()
}

fn correct(row: &Value) -> f64 {
    f64::from(u8::from(row["correct"].as_bool().unwrap()))
}

fn find<'a>(figures: &'a [Figure], metric: Metric, level: Level, name: &str) -> &'a Figure {
    let mut found = figures.iter().filter(|f| f.metric == metric && f.level == level && f.name == name);
    let figure = found.next().unwrap_or_else(|| panic!("no {metric:?} of {level:?} {name:?}"));
    assert!(found.next().is_none(), "two {metric:?} of {level:?} {name:?}");
    figure
}

/// Checks that there is one headline, and that intervals hold their values.
fn check_shape(figures: &[Figure]) {
    assert_eq!(figures.iter().filter(|figure| figure.is_headline).count(), 1);
    assert!(figures[0].is_headline);
    for figure in figures {
        if let Some((low, high)) = figure.interval {
            assert!(low <= figure.value + 1e-9 && figure.value <= high + 1e-9, "{figure:?}");
        }
    }
}

#[test]
fn mmmu_official_table() {
    let set = &aggregates(Benchmark::Mmmu)[0];
    let items = items(Benchmark::Mmmu, list(&set["items"]), |_| Labels::default());
    let is_right = |row: &Value| match row["question_type"].as_str().unwrap() {
        "multiple-choice" => row["prediction"] == row["answer"],
        _ => {
            let golds: Vec<&str> = match &row["answer"] {
                Value::Array(golds) => golds.iter().map(|gold| gold.as_str().unwrap()).collect(),
                gold => vec![gold.as_str().unwrap()],
            };
            open_mmmu::is_right(&open_mmmu::extract(row["prediction"].as_str().unwrap()), golds)
        }
    };
    let scores = list(&set["items"]).iter().map(|row| f64::from(u8::from(is_right(row))));
    let figures = figures(Benchmark::Mmmu, Protocol::Official, &scored(&items, scores), Seed(1));
    check_shape(&figures);
    let table = set["tables"]["mmmu-official main_eval_only"].as_object().unwrap();
    assert_eq!(table.len(), 35);
    for (name, row) in table {
        let figure = match name.strip_prefix("Overall-") {
            Some(domain) => find(&figures, Metric::Accuracy, Level::Domain, domain),
            None if name == "Overall" => find(&figures, Metric::Accuracy, Level::Overall, ""),
            None => find(&figures, Metric::Accuracy, Level::Subject, name),
        };
        assert_eq!(figure.count, row["num"].as_u64().unwrap(), "{name}");
        let expected = format!("{:?}", row["acc"].as_f64().unwrap());
        assert_eq!(printed(figure, Benchmark::Mmmu, Protocol::Official), expected, "{name}");
    }
    let subjects: Vec<&Figure> = figures.iter().filter(|figure| figure.level == Level::Subject).collect();
    let mean = subjects.iter().map(|figure| figure.value).sum::<f64>() / subjects.len() as f64;
    assert!((find(&figures, Metric::Macro, Level::Overall, "subjects").value - mean).abs() < 1e-12);
}

#[test]
fn mmmu_vlmevalkit_table() {
    let set = &aggregates(Benchmark::Mmmu)[1];
    let rows = list(&set["items"]);
    for row in list(&set["tables"]["vlmevalkit report_acc (one row a split; micro mean)"]) {
        let split = row["split"].as_str().unwrap();
        let of_split: Vec<Value> = rows.iter().filter(|row| row["split"] == split).cloned().collect();
        let labels =
            |row: &Value| Labels { split: text(row, "split"), subject: text(row, "category"), ..Labels::default() };
        let items = items(Benchmark::Mmmu, &of_split, labels);
        let scores = of_split.iter().map(|row| row["hit"].as_f64().unwrap());
        let figures = figures(Benchmark::Mmmu, Protocol::VlmEvalKit, &scored(&items, scores), Seed(1));
        assert_eq!(find(&figures, Metric::Accuracy, Level::Overall, "").value, row["Overall"].as_f64().unwrap());
        for subject in ["Art", "Math"] {
            assert_eq!(find(&figures, Metric::Accuracy, Level::Subject, subject).value, row[subject].as_f64().unwrap());
        }
    }
    // With both splits, the quoted figure is that of validation.
    let labels =
        |row: &Value| Labels { split: text(row, "split"), subject: text(row, "category"), ..Labels::default() };
    let items = items(Benchmark::Mmmu, rows, labels);
    let scores = rows.iter().map(|row| row["hit"].as_f64().unwrap());
    let figures = figures(Benchmark::Mmmu, Protocol::VlmEvalKit, &scored(&items, scores), Seed(1));
    assert_eq!((figures[0].value, figures[0].count), (0.4, 5));
    assert_eq!(find(&figures, Metric::Accuracy, Level::Split, "dev").value, 0.5);
}

#[test]
fn mm_star_tables() {
    let set = &aggregates(Benchmark::MmStar)[0];
    let mut items = Vec::new();
    let mut scores = Vec::new();
    for cell in list(&set["cells"]) {
        let labels =
            Labels { category: text(cell, "category"), subcategory: text(cell, "l2_category"), ..Labels::default() };
        let (count, hits) = (cell["items"].as_u64().unwrap(), cell["hits"].as_u64().unwrap());
        for number in 0..count {
            items.push(item(Benchmark::MmStar, labels.clone()));
            scores.push(f64::from(u8::from(number < hits)));
        }
    }
    let figures = figures(Benchmark::MmStar, Protocol::Official, &scored(&items, scores), Seed(1));
    check_shape(&figures);
    let value = |table: &str, key: &str| set["tables"][table][key].as_f64().unwrap();
    let overall = find(&figures, Metric::Accuracy, Level::Overall, "");
    assert_eq!(overall.value, value("mmstar-official MMStar_eval", "final score"));
    assert_eq!(overall.value, value("vlmevalkit report_acc", "Overall"));
    for (name, expected) in set["tables"]["mmstar-official MMStar_eval"].as_object().unwrap() {
        let figure = match name.split_once('(') {
            _ if name == "final score" => continue,
            Some((_, second)) => find(&figures, Metric::Accuracy, Level::Subcategory, second.trim_end_matches(')')),
            None => find(&figures, Metric::Accuracy, Level::Category, name),
        };
        assert_eq!(figure.value, expected.as_f64().unwrap(), "{name}");
    }
    for (name, expected) in set["tables"]["vlmevalkit report_acc"].as_object().unwrap() {
        let is_category = figures.iter().any(|figure| figure.level == Level::Category && figure.name == *name);
        let level = if is_category { Level::Category } else { Level::Subcategory };
        if name != "split" && name != "Overall" {
            assert_eq!(find(&figures, Metric::Accuracy, level, name).value, expected.as_f64().unwrap(), "{name}");
        }
    }
    for (name, expected) in set["tables"]["lmmseval mmstar_aggregate_results"].as_object().unwrap() {
        let figure = match name.as_str() {
            "average" => find(&figures, Metric::Macro, Level::Overall, "second categories"),
            name => find(&figures, Metric::Macro, Level::Category, name),
        };
        assert_eq!(figure.value, expected.as_f64().unwrap(), "{name}");
    }
}

#[test]
fn math_verse_tables() {
    let set = &aggregates(Benchmark::MathVerse)[0];
    let rows = list(&set["items"]);
    let labels = |row: &Value| Labels {
        problem: text(row, "problem_index"),
        version: text(row, "problem_version"),
        subject: text(row, "subject"),
        subcategory: text(row, "subfield"),
        ..Labels::default()
    };
    let items = items(Benchmark::MathVerse, rows, labels);
    let figures = figures(Benchmark::MathVerse, Protocol::Official, &scored(&items, rows.iter().map(correct)), Seed(1));
    check_shape(&figures);
    let accuracy = |level, name: &str| find(&figures, Metric::Accuracy, level, name);
    for (name, expected) in
        set["tables"]["mathverse-official score_answer_s2 (shares, 3 decimals)"].as_object().unwrap()
    {
        let has = |level| figures.iter().any(|figure| figure.level == level && figure.name == *name);
        let figure = match name.as_str() {
            "Total" | "Acc" => accuracy(Level::Overall, ""),
            name => accuracy(
                [Level::Version, Level::Subject, Level::Subfield].into_iter().find(|level| has(*level)).unwrap(),
                name,
            ),
        };
        let expected = format!("{:.3}", expected.as_f64().unwrap());
        assert_eq!(printed(figure, Benchmark::MathVerse, Protocol::Official), expected, "{name}");
    }
    for row in list(&set["tables"]["vlmevalkit MathVerse_acc (one row a problem version, per cent)"]) {
        let version = row["split"].as_str().unwrap();
        for (name, expected) in row.as_object().unwrap().iter().filter(|(name, _)| *name != "split") {
            let joined = format!("{version}, {name}");
            let is_subject = figures.iter().any(|f| f.level == Level::VersionSubject && f.name == joined);
            let figure = match name.as_str() {
                "Overall" => accuracy(Level::Version, version),
                _ if is_subject => accuracy(Level::VersionSubject, &joined),
                _ => accuracy(Level::VersionSubfield, &joined),
            };
            let expected = format!("{:?}", expected.as_f64().unwrap());
            assert_eq!(printed(figure, Benchmark::MathVerse, Protocol::VlmEvalKit), expected, "{joined}");
        }
    }
    let mean = set["tables"]["mean over the five versions, per cent"].as_f64().unwrap();
    assert!((figures[0].value * 100.0 - mean).abs() < 1e-9);
    // Versions of a problem hang together, so the interval is over 60 problems.
    let (low, high) = figures[0].interval.unwrap();
    assert!(high - low > 0.1, "{low} {high}");
}

#[test]
fn math_vision_tables() {
    let set = &aggregates(Benchmark::MathVision)[0];
    let rows = list(&set["items"]);
    let labels = |row: &Value| Labels {
        level: row["level"].as_u64().map(|level| u8::try_from(level).unwrap()),
        subject: text(row, "subject"),
        ..Labels::default()
    };
    let items = items(Benchmark::MathVision, rows, labels);
    let figures =
        figures(Benchmark::MathVision, Protocol::Official, &scored(&items, rows.iter().map(correct)), Seed(1));
    check_shape(&figures);
    let accuracy = |level, name: &str| find(&figures, Metric::Accuracy, level, name);
    let table = set["tables"]["mathv-official math_level_subject_acc"].as_object().unwrap();
    assert_eq!(table.len(), 61);
    for (name, expected) in table {
        let figure = match (name.strip_prefix("-level"), name.split_once("_level")) {
            _ if name == "-all" => accuracy(Level::Overall, ""),
            (Some(rest), _) => match rest.split_once('_') {
                Some((level, subject)) => accuracy(Level::SubjectLevel, &format!("{subject}, level {level}")),
                None => accuracy(Level::Level, rest),
            },
            (None, Some((subject, level))) => accuracy(Level::SubjectLevel, &format!("{subject}, level {level}")),
            (None, None) => accuracy(Level::Subject, name),
        };
        let expected = expected.as_str().unwrap();
        assert_eq!(printed(figure, Benchmark::MathVision, Protocol::Official), expected, "{name}");
    }
    for row in list(&set["tables"]["vlmevalkit MATH_V_acc"]) {
        let figure = match row["Subject"].as_str().unwrap() {
            "Overall" => accuracy(Level::Overall, ""),
            subject => accuracy(Level::Subject, subject),
        };
        assert_eq!((figure.count as f64, figure.hits), (row["tot"].as_f64().unwrap(), row["hit"].as_f64().unwrap()));
        let expected = format!("{:?}", row["acc"].as_f64().unwrap());
        assert_eq!(printed(figure, Benchmark::MathVision, Protocol::VlmEvalKit), expected);
    }
}

#[test]
fn mm_vet_tables() {
    let set = &aggregates(Benchmark::MmVet)[0];
    let rows = list(&set["items"]);
    let capabilities = |row: &Value| list(&row["capability"]).iter().map(|c| c.as_str().unwrap().to_owned()).collect();
    let labels = |row: &Value| Labels { capabilities: capabilities(row), ..Labels::default() };
    let items = items(Benchmark::MmVet, rows, labels);
    let grade = |row: &Value, run: usize| row["scores"][run].as_f64().unwrap();
    let figures =
        figures(Benchmark::MmVet, Protocol::VlmEvalKit, &scored(&items, rows.iter().map(|row| grade(row, 0))), Seed(1));
    check_shape(&figures);
    for row in list(&set["tables"]["vlmevalkit MMVet_acc of run 0"]) {
        let figure = match row["Category"].as_str().unwrap() {
            "Overall" => find(&figures, Metric::Grade, Level::Overall, ""),
            capability => find(&figures, Metric::Grade, Level::Capability, capability),
        };
        assert_eq!(figure.count as f64, row["tot"].as_f64().unwrap());
        let expected = format!("{:?}", row["acc"].as_f64().unwrap());
        assert_eq!(printed(figure, Benchmark::MmVet, Protocol::VlmEvalKit), expected);
    }
    // Five runs of the judge.
    let runs = |keep: &dyn Fn(&BenchmarkItem) -> bool| {
        let kept = |run| rows.iter().zip(&items).filter(|(_, item)| keep(item)).map(move |(row, _)| grade(row, run));
        mm_vet::run_means(&(0..5).map(|run| kept(run).collect()).collect::<Vec<Vec<f64>>>()).unwrap()
    };
    let number = |value: &Value| value.as_f64().unwrap();
    for (table, is_set) in
        [("mmvet-official capabilities (5 runs)", false), ("mmvet-official integrations (names sorted)", true)]
    {
        for (name, expected) in set["tables"][table].as_object().unwrap() {
            let all = runs(&|_| true);
            match name.as_str() {
                "total" => assert_eq!(all.mean, number(expected)),
                "std" => assert_eq!(all.deviation, number(expected)),
                "runs" => assert_eq!(all.runs, list(expected).iter().map(number).collect::<Vec<f64>>()),
                name if is_set => {
                    let of_set = runs(&|item| mm_vet::integration(&item.labels.capabilities) == name);
                    assert_eq!(of_set.mean, number(expected), "{name}");
                }
                name => {
                    let of_capability = runs(&|item| item.labels.capabilities.iter().any(|other| other == name));
                    assert_eq!(of_capability.mean, number(expected), "{name}");
                }
            }
        }
    }
}

#[test]
fn vis_num_bench_tables() {
    let set = &aggregates(Benchmark::VisNumBench)[0];
    let rows = list(&set["items"]);
    let labels = |row: &Value| Labels {
        category: text(row, "scenario"),
        subcategory: text(row, "Attributes"),
        task_class: text(row, "task_class"),
        ..Labels::default()
    };
    let items = items(Benchmark::VisNumBench, rows, labels);
    let figures =
        figures(Benchmark::VisNumBench, Protocol::Official, &scored(&items, rows.iter().map(correct)), Seed(1));
    check_shape(&figures);
    let check = |level, name: &str, expected: &Value| {
        let figure = find(&figures, Metric::Accuracy, level, name);
        assert_eq!(printed(figure, Benchmark::VisNumBench, Protocol::Official), expected.as_str().unwrap(), "{name}");
    };
    for (table, values) in set["tables"].as_object().unwrap() {
        match table.split_once(" by ").filter(|(scenario, _)| ["synthetic", "real"].contains(scenario)) {
            None => check(Level::Overall, "", values),
            Some((scenario, part)) => {
                let level = if part == "Attributes" { Level::Subcategory } else { Level::TaskClass };
                for (name, expected) in values.as_object().unwrap() {
                    match name.as_str() {
                        "Ave" => check(Level::Category, scenario, expected),
                        name => check(level, &format!("{scenario}, {name}"), expected),
                    }
                }
            }
        }
    }
}

fn hallusion_labels(row: &Value) -> Labels {
    Labels {
        category: text(row, "category"),
        subcategory: text(row, "subcategory"),
        set: text(row, "set_id"),
        figure: text(row, "figure_id"),
        question_number: text(row, "question_id"),
        visual_input: text(row, "visual_input"),
        ..Labels::default()
    }
}

fn hallusion_verdict(row: &Value) -> Verdict {
    match row["verdict"].as_str().unwrap() {
        "0" => Verdict::Wrong,
        "1" => Verdict::Right,
        _ => Verdict::Unclear,
    }
}

#[test]
fn hallusion_bench_official_tables() {
    let set = &aggregates(Benchmark::HallusionBench)[0];
    let rows = list(&set["items"]);
    let all_items = items(Benchmark::HallusionBench, rows, hallusion_labels);
    let is_right = |row: &Value| {
        let is_without_figure = row["category"] == "VS" && row["figure_id"] == "0";
        hallusion_verdict(row).is_right(is_without_figure)
    };
    let all = scored(&all_items, rows.iter().map(|row| f64::from(u8::from(is_right(row)))));
    let figures = figures(Benchmark::HallusionBench, Protocol::Official, &all, Seed(1));
    check_shape(&figures);
    let judged: Vec<JudgedItem<'_>> = all
        .iter()
        .zip(rows)
        .map(|(scored, row)| JudgedItem {
            scored: *scored,
            verdict: hallusion_verdict(row),
            is_same: row["same"].as_str().map(|same| same == "1"),
        })
        .collect();
    for part in ["all", "VD", "VS"] {
        let table = &set["tables"]["hallusion-official"][part];
        let (level, name) = if part == "all" { (Level::Overall, "") } else { (Level::Category, part) };
        let figure = |metric| find(&figures, metric, level, name);
        for (metric, key, numbers) in [
            (Metric::AAcc, "aAcc", "per_question"),
            (Metric::QAcc, "qAcc", "per_pair"),
            (Metric::FAcc, "fAcc", "per_figure"),
            (Metric::EasyAAcc, "easy_aAcc", "easy"),
            (Metric::HardAAcc, "hard_aAcc", "hard"),
        ] {
            let expected = format!("{:?}", table["leaderboard"][key].as_f64().unwrap());
            assert_eq!(
                printed(figure(metric), Benchmark::HallusionBench, Protocol::Official),
                expected,
                "{part} {key}"
            );
            assert_eq!(figure(metric).count, table[numbers]["total"].as_u64().unwrap(), "{part} {key}");
            assert_eq!(figure(metric).hits, table[numbers]["correct"].as_f64().unwrap(), "{part} {key}");
        }
        let in_part =
            |item: &&JudgedItem<'_>| part == "all" || item.scored.item.labels.category.as_deref() == Some(part);
        let of_part: Vec<JudgedItem<'_>> = judged.iter().filter(in_part).copied().collect();
        let statistics = cause_statistics(&of_part);
        let number = |table_name: &str, key: &str| table[table_name][key].as_u64().unwrap();
        for (causes, table_name, suffix) in [
            (statistics.by_question, "per_question", ""),
            (statistics.by_group, "per_pair", ""),
            (statistics.by_question_in_group, "per_pair", "_cg"),
        ] {
            let expected = ["LH", "VI", "Mix"].map(|key| number(table_name, &format!("{key}{suffix}")));
            assert_eq!([causes.language, causes.vision, causes.mixed], expected, "{part} {table_name}{suffix}");
        }
        let figures = [statistics.right_figures, statistics.wrong_figures, statistics.inconsistent_figures];
        assert_eq!(figures, ["correct", "wrong", "inconsistent"].map(|key| number("per_figure", key)));
        assert_eq!(statistics.figure_score, table["per_figure"]["score"].as_f64().unwrap(), "{part}");
    }
}

#[test]
fn hallusion_bench_vlmevalkit_table() {
    let set = &aggregates(Benchmark::HallusionBench)[0];
    let rows: Vec<Value> = list(&set["items"]).iter().filter(|row| row["visual_input"] != "0").cloned().collect();
    let items = items(Benchmark::HallusionBench, &rows, hallusion_labels);
    let scores = rows.iter().map(|row| f64::from(u8::from(hallusion_verdict(row) == Verdict::Right)));
    let figures = figures(Benchmark::HallusionBench, Protocol::VlmEvalKit, &scored(&items, scores), Seed(1));
    let table = &set["tables"]["vlmevalkit Hallusion_rating"];
    assert_eq!(table["items"].as_u64().unwrap(), rows.len() as u64);
    for row in list(&table["rows"]) {
        let name = row["split"].as_str().unwrap();
        let (level, name) = match name {
            "Overall" => (Level::Overall, ""),
            "VD" | "VS" => (Level::Category, name),
            _ => (Level::Subcategory, name),
        };
        for (metric, key) in [(Metric::AAcc, "aAcc"), (Metric::FAcc, "fAcc"), (Metric::QAcc, "qAcc")] {
            let figure = find(&figures, metric, level, name);
            let expected = format!("{:?}", row[key].as_f64().unwrap());
            assert_eq!(printed(figure, Benchmark::HallusionBench, Protocol::VlmEvalKit), expected, "{name} {key}");
        }
    }
    let mean = (51.694_915_254_237_29 + 33.333_333_333_333_33 + 25.0) / 3.0;
    assert!((figures[0].value * 100.0 - mean).abs() < 1e-9);
    assert_eq!(figures[0].metric, Metric::MeanOfThree);
}

#[test]
fn a_second_figure_counts_random_letters_as_wrong() {
    let items: Vec<BenchmarkItem> = (0..4).map(|_| item(Benchmark::RealWorldQa, Labels::default())).collect();
    let mut scored = scored(&items, [1.0, 1.0, 0.0, 0.0]);
    scored[1].reason = Some(Reason::Random);
    scored[2].reason = Some(Reason::Random);
    let figures = figures(Benchmark::RealWorldQa, Protocol::Generic, &scored, Seed(1));
    assert_eq!((figures[0].value, figures[0].value_without_random), (0.5, 0.25));
    let shares = visplay::benchmarks::figures::reason_shares(&scored);
    let random = shares.iter().find(|share| share.reason == Reason::Random).unwrap();
    assert_eq!((random.items, random.share), (2, 0.5));
}
