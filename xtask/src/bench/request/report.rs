//! What was measured, as Markdown and charts.
//!
//! What flows in: the document that is written as JSON. What flows out: tables on standard output, and a section of bench/RESULTS.md with its charts.

use crate::bench::chart::{Bar, Chart, Group, svg};
use crate::bench::{machine, results};
use crate::step::{Outcome, root};
use serde_json::Value;
use std::fmt::Write;
use std::fs;

const NAMES: [&str; 4] = ["Portcullis", "nginx", "HAProxy", "Envoy"];
/// What is shown where nothing was measured.
const NONE: &str = "–";

/// Prints the tables.
pub(super) fn print(document: &Value) -> Outcome {
    let text = format!("{}\n{}", machine::described(document), tables(document, false));
    std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes())
        .map_err(|error| format!("standard output: {error}"))
}

/// Writes the section and its charts.
pub(super) fn write(document: &Value) -> Outcome {
    let folder = root().join("bench/charts");
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for column in columns(document) {
        let file = folder.join(column.file());
        fs::write(&file, svg(&chart(&column))).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    results::write("request", &markdown(document))
}

fn markdown(document: &Value) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let proxies = document["proxies"].as_array().into_iter().flatten();
    let proxies: Vec<_> =
        proxies.map(|proxy| format!("{} {}", text(&proxy["name"]), text(&proxy["version"]))).collect();
    let counted = match document["systemCallsCountedBy"].as_str() {
        Some(counter) => format!("counted by {counter}"),
        None => "not counted: neither perf nor strace could be used".to_owned(),
    };
    include_str!("request.md")
        .replace("{machine}", &machine::described(document))
        .replace("{proxies}", &proxies.join("; "))
        .replace("{before}", &text(&document["loadAverage"][0]))
        .replace("{after}", &text(&document["loadAverage"][1]))
        .replace("{proxycore}", &text(&document["cores"]["proxy"]))
        .replace("{loadcore}", &text(&document["cores"]["load"]))
        .replace("{rounds}", &text(&document["rounds"]))
        .replace("{seconds}", &text(&document["secondsOfARound"]))
        .replace("{counted}", &counted)
        .replace("{tables}", &tables(document, true))
}

/// Rows with the same configuration and number of connections.
struct Column<'a> {
    logs: bool,
    connections: u64,
    rows: Vec<&'a Value>,
}

impl Column<'_> {
    fn title(&self) -> String {
        format!("{} connections, access log and metrics {}", self.connections, if self.logs { "on" } else { "off" })
    }

    fn file(&self) -> String {
        format!("request-{}-logs-{}.svg", self.connections, if self.logs { "on" } else { "off" })
    }
}

fn columns(document: &Value) -> Vec<Column<'_>> {
    let mut columns: Vec<Column<'_>> = Vec::new();
    for row in document["rows"].as_array().into_iter().flatten() {
        let (logs, connections) = (row["logs"] == true, row["connections"].as_u64().unwrap_or_default());
        match columns.iter_mut().find(|column| column.logs == logs && column.connections == connections) {
            Some(column) => column.rows.push(row),
            None => columns.push(Column { logs, connections, rows: vec![row] }),
        }
    }
    columns
}

/// For each column a table to be looked at first, then one with everything.
fn tables(document: &Value, charts: bool) -> String {
    let mut text = String::new();
    for column in columns(document) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "### {}\n", column.title());
        if charts {
            let _ = writeln!(text, "![CPU for each unit](charts/{})\n", column.file());
        }
        text += &comparison(&column);
        text.push('\n');
        text += &details(&column);
        text.push('\n');
        text += &remarks(&column);
    }
    text
}

fn comparison(column: &Column<'_>) -> String {
    let mut text = "| CPU µs (user + system) | ".to_owned();
    let _ = writeln!(text, "{} | Portcullis to the better of nginx and HAProxy |", NAMES.join(" | "));
    text += &format!("|---|{}---:|\n", "---:|".repeat(NAMES.len()));
    for row in &column.rows {
        let cells = NAMES.map(|name| {
            let cpu = &row["proxies"][name]["cpuMicroseconds"];
            match cpu.is_null() {
                true => NONE.to_owned(),
                false => {
                    let median = |part: &str| number(cpu, &format!("/{part}/median"), 1);
                    format!("{} ({} + {})", median("total"), median("user"), median("system"))
                }
            }
        });
        let ratio = number(&row["proxies"][NAMES[0]], "/ratio", 2);
        let _ = writeln!(text, "| {} | {} | **{ratio}** |", label(row), cells.join(" | "));
    }
    text
}

fn label(row: &Value) -> &str {
    row["shape"].as_str().unwrap_or("?")
}

fn details(column: &Column<'_>) -> String {
    let mut text =
        "| | | CPU µs | user | system | ratio | units/s | busy | p99 ms | MiB | calls | records |\n".to_owned();
    text += "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n";
    for row in &column.rows {
        for name in NAMES {
            let proxy = &row["proxies"][name];
            if proxy.is_null() || proxy["problem"].is_string() {
                continue;
            }
            let cells = [
                range(proxy, "/cpuMicroseconds/total", 1.0, 1),
                range(proxy, "/cpuMicroseconds/user", 1.0, 1),
                range(proxy, "/cpuMicroseconds/system", 1.0, 1),
                number(proxy, "/ratio", 2),
                range(proxy, "/unitsPerSecond", 1.0, 0),
                scaled(proxy, "/busy/median", 100.0, 0, " %"),
                range(proxy, "/p99Microseconds", 0.001, 2),
                scaled(proxy, "/residentKiB", 1.0 / 1024.0, 1, ""),
                number(proxy, "/systemCalls", 2),
                number(proxy, "/recordsOfEachUnit", 3),
            ];
            let _ = writeln!(text, "| {} | {name} | {} |", label(row), cells.join(" | "));
        }
    }
    text
}

/// Who has no figures, and why.
fn remarks(column: &Column<'_>) -> String {
    let mut text = String::new();
    for row in &column.rows {
        for name in NAMES {
            if let Some(problem) = row["proxies"][name]["problem"].as_str() {
                let problem = problem.split_whitespace().collect::<Vec<_>>().join(" ");
                let _ = writeln!(text, "- {}, {name}: no figures: {problem}", label(row));
            }
        }
    }
    if !text.is_empty() {
        text.push('\n');
    }
    text
}

fn number(value: &Value, path: &str, digits: usize) -> String {
    scaled(value, path, 1.0, digits, "")
}

fn scaled(value: &Value, path: &str, factor: f64, digits: usize, sign: &str) -> String {
    let number = value.pointer(path).and_then(Value::as_f64);
    number.map_or_else(|| NONE.to_owned(), |number| format!("{:.digits$}{sign}", number * factor))
}

/// The median, and from where to where.
fn range(value: &Value, path: &str, factor: f64, digits: usize) -> String {
    let at = |name: &str| scaled(value, &format!("{path}/{name}"), factor, digits, "");
    if value.pointer(path).is_none_or(Value::is_null) {
        return NONE.to_owned();
    }
    format!("{} ({}–{})", at("median"), at("min"), at("max"))
}

fn chart(column: &Column<'_>) -> Chart {
    let bar = |row: &Value, name: &'static str| {
        let proxy = &row["proxies"][name];
        let median = |path: &str| proxy.pointer(path).and_then(Value::as_f64);
        let total = median("/cpuMicroseconds/total/median")?;
        let user = median("/cpuMicroseconds/user/median").unwrap_or(total);
        let text = format!("{total:.1} µs, ratio {}", number(proxy, "/ratio", 2));
        Some(Bar { label: name, parts: vec![user, total - user], text, ours: name == NAMES[0] })
    };
    let group = |row: &&Value| Group {
        label: label(row).to_owned(),
        bars: NAMES.into_iter().filter_map(|name| bar(row, name)).collect(),
    };
    Chart {
        title: format!("CPU for each unit, in the proxy: {}", column.title()),
        parts: vec!["in the program", "in the kernel"],
        groups: column.rows.iter().map(group).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::{chart, columns, markdown, tables};
    use crate::bench::chart::svg;
    use serde_json::{Value, json};

    fn document() -> Value {
        let proxy = |total: f64| {
            let spread = |value: f64| json!({"median": value, "min": value - 1.0, "max": value + 1.0});
            json!({
                "cpuMicroseconds": {"user": spread(total / 4.0), "system": spread(total * 0.75), "total": spread(total)},
                "ratio": total / 20.0, "unitsPerSecond": spread(4e4), "busy": spread(0.99), "p99Microseconds": spread(2500.0),
                "residentKiB": 20480, "systemCalls": 4.02, "recordsOfEachUnit": 1.0,
            })
        };
        json!({"rows": [
            {"shape": "http1", "connections": 64, "logs": true, "proxies": {"Portcullis": proxy(16.0), "nginx": proxy(20.0)}},
            {"shape": "grpc", "connections": 64, "logs": true, "proxies": {"Portcullis": {"problem": "status\n502"}}},
            {"shape": "http1", "connections": 2000, "logs": true, "proxies": {"Portcullis": proxy(18.0)}},
        ]})
    }

    #[test]
    fn what_was_measured_is_shown_and_what_was_not_says_why() {
        let text = tables(&document(), true);
        for line in [
            "### 64 connections, access log and metrics on",
            "![CPU for each unit](charts/request-64-logs-on.svg)",
            "| http1 | 16.0 (4.0 + 12.0) | 20.0 (5.0 + 15.0) | – | – | **0.80** |",
            "| http1 | Portcullis | 16.0 (15.0–17.0) | 4.0 (3.0–5.0) | 12.0 (11.0–13.0) | 0.80 | 40000 (39999–40001) | 99 % | 2.50 (2.50–2.50) | 20.0 | 4.02 | 1.000 |",
            "| grpc | – | – | – | – | **–** |",
            "- grpc, Portcullis: no figures: status 502",
            "### 2000 connections, access log and metrics on",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        let whole = markdown(&document());
        assert!(!whole.contains("{tables}") && !whole.contains("{rounds}"), "{whole}");
    }

    #[test]
    fn a_chart_has_who_was_measured() {
        let document = document();
        let text = svg(&chart(&columns(&document)[0]));
        assert!(text.contains("16.0 µs, ratio 0.80") && text.contains("nginx") && !text.contains("HAProxy"), "{text}");
    }
}
