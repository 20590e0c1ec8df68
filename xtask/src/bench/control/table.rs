//! What was measured, as Markdown. What flows in: the document that `control` writes as JSON.

use crate::bench::machine::described;
use serde_json::Value;
use std::fmt::Write;

/// The whole text of bench/CONTROL.md.
pub(super) fn markdown(document: &Value, json: &str) -> String {
    include_str!("control.md")
        .replace("{machine}", &described(document))
        .replace("{tables}", &tables(document))
        .replace("{json}", json)
}

/// A row: its title, where it stands in a size's report, digits.
type Row = (&'static str, &'static str, usize);

const ROWS: &[Row] = &[
    ("first 200 after a creation: median (ms)", "/firstAnswerMilliseconds/median", 1),
    ("… p99 (ms)", "/firstAnswerMilliseconds/p99", 1),
    ("… worst (ms)", "/firstAnswerMilliseconds/max", 1),
    ("… samples", "/firstAnswerMilliseconds/samples", 0),
    ("… until a watch shows the route: median (ms)", "/firstAnswerToldMilliseconds/median", 1),
    ("… until a watch shows it: p99 (ms)", "/firstAnswerToldMilliseconds/p99", 1),
    ("… after that: median (ms)", "/firstAnswerRestMilliseconds/median", 1),
    ("… after that: p99 (ms)", "/firstAnswerRestMilliseconds/p99", 1),
    ("CPU for each change: control plane (ms)", "/controllerCpuMillisecondsPerChange", 2),
    ("… data plane (ms)", "/dataPlaneCpuMillisecondsPerChange", 2),
    ("changes made in each second", "/changesPerSecond", 1),
    ("CPU idle: control plane (cores)", "/idle/controller/cores", 4),
    ("… data plane (cores)", "/idle/dataPlane/cores", 4),
    ("CPU with these changes: control plane (cores)", "/changing/controller/cores", 4),
    ("… data plane (cores)", "/changing/dataPlane/cores", 4),
    ("memory of the control plane (MiB resident)", "/changing/controller/residentMiB", 1),
    ("… its peak (MiB)", "/changing/controller/peakMiB", 1),
    ("memory of the data plane (MiB resident)", "/changing/dataPlane/residentMiB", 1),
    ("… of it no file (MiB)", "/changing/dataPlane/anonymousMiB", 1),
    ("… its peak (MiB)", "/changing/dataPlane/peakMiB", 1),
    ("routes added at once", "/addition/added", 0),
    ("… until the last creation was acknowledged (s)", "/addition/createdSeconds", 1),
    ("… attachedRoutes settled after that (s)", "/addition/settledAfterLastSeconds", 2),
    ("… API writes for each route", "/addition/writesPerRoute", 2),
    ("… writes of the Gateway's status", "/addition/gatewayWrites", 0),
    ("… CPU of the control plane (s)", "/addition/controllerCpuSeconds", 2),
    ("… CPU of the data plane (s)", "/addition/dataPlaneCpuSeconds", 2),
    ("flips under load", "/flips/flips", 0),
    ("… requests", "/flips/requests", 0),
    ("… wrong answers", "/flips/wrong", 0),
    ("… answers behind another connection's", "/flips/behind", 0),
    ("… changes that nobody saw before the next", "/flips/unseen", 0),
    ("… first seen: median (ms)", "/flips/seenMilliseconds/median", 1),
    ("… first seen: p99 (ms)", "/flips/seenMilliseconds/p99", 1),
    ("… spread among connections: p50 (ms)", "/flips/spreadMilliseconds/median", 1),
    ("… spread: p99 (ms)", "/flips/spreadMilliseconds/p99", 1),
    ("… spread: worst (ms)", "/flips/spreadMilliseconds/max", 1),
];

/// What is shown where nothing was measured.
const NONE: &str = "–";

/// One table for each implementation, and the ratios.
pub(super) fn tables(document: &Value) -> String {
    let results: Vec<&Value> = document["results"].as_array().into_iter().flatten().collect();
    let mut text = String::new();
    for result in &results {
        let load = |at: usize| result["loadAverage"][at].as_str().unwrap_or("?");
        let (label, started) = (result["label"].as_str().unwrap_or("?"), result["started"].as_str().unwrap_or("?"));
        text += &format!("## {label}\nStarted {started}. Load averages before: {}; after: {}.\n\n", load(0), load(1));
        let sizes = sizes(result);
        let cell =
            |(_, path, digits): &Row, size: &&Value| measured(size, path).map(|value| format!("{value:.digits$}"));
        text += &table(&sizes, cell);
        text.push('\n');
        if let Some(failure) = result["failure"].as_str() {
            text += &format!("No more was measured: {failure}\n\n");
        }
    }
    if let [ours, theirs] = *results {
        text += &format!("## Ratios: {} to Portcullis\n", theirs["label"].as_str().unwrap_or("?"));
        let theirs = sizes(theirs);
        let other = |size: &Value| theirs.iter().find(|other| other["routes"] == size["routes"]).copied();
        let both: Vec<_> = sizes(ours).into_iter().filter(|size| other(size).is_some()).collect();
        text += &table(&both, |(_, path, _): &Row, size: &&Value| {
            let (ours, theirs) = (measured(size, path)?, measured(other(size)?, path)?);
            (ours > 0.0).then(|| format!("{:.1}", theirs / ours))
        });
        text.push('\n');
    }
    text
}

fn sizes(result: &Value) -> Vec<&Value> {
    result["sizes"].as_array().into_iter().flatten().collect()
}

fn measured(size: &Value, path: &str) -> Option<f64> {
    size.pointer(path)?.as_f64()
}

fn table(sizes: &[&Value], cell: impl Fn(&Row, &&Value) -> Option<String>) -> String {
    let titles: Vec<_> = sizes.iter().map(|size| format!("{} routes", size["routes"])).collect();
    let mut text = format!("| | {} |\n|---|{}\n", titles.join(" | "), "---:|".repeat(titles.len()));
    for row in ROWS {
        let cells: Vec<_> = sizes.iter().map(|size| cell(row, size).unwrap_or_else(|| NONE.to_owned())).collect();
        if cells.iter().any(|cell| cell != NONE) {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "| {} | {} |", row.0, cells.join(" | "));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::tables;
    use serde_json::json;

    #[test]
    fn what_was_measured_is_shown_with_its_ratio() {
        let result = |label: &str, median: f64| {
            json!({"label": label, "started": "now", "loadAverage": ["1", "2"], "sizes": [
                {"routes": 0, "firstAnswerMilliseconds": {"median": median}},
            ]})
        };
        let text = tables(&json!({"results": [result("a", 4.0), result("b", 10.0)]}));
        for line in [
            "| | 0 routes |",
            "| first 200 after a creation: median (ms) | 4.0 |",
            "| first 200 after a creation: median (ms) | 10.0 |",
            "| first 200 after a creation: median (ms) | 2.5 |",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("p99"), "what was not measured is not shown");
    }
}
