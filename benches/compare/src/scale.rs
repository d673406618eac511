//! Many connections in the simulation: two tests measure, this makes their table and chart.

use crate::charts::{Panel, Picture, Row};
use crate::options::Options;
use crate::{Result, measure, page, root};
use serde_json::{Map, Value, json};
use std::fmt::Write;
use std::process::{Command, Stdio};

/// What is measured: its name in the results, in the table and in the chart. The first ones are
/// nanoseconds, the last ones bytes.
const FIGURES: [(&str, &str, &str); 8] = [
    ("connect", "connect", "Connect, µs"),
    ("accept", "accept", "Accept, µs"),
    ("busy", "message, 1000 busy", "A message, 1000 busy, µs"),
    ("all_busy", "message, all busy", "A message, all busy, µs"),
    (
        "idle_timeout",
        "idle timeout",
        "Idle timeout, all at once, µs each",
    ),
    ("close", "close", "Close, all at once, µs each"),
    ("idle_bytes", "bytes, idle", "Bytes, idle"),
    ("most_bytes", "bytes, at most", "Bytes, at most"),
];

const COUNTS: [(u64, &str); 4] = [
    (1000, "1,000"),
    (10_000, "10,000"),
    (100_000, "100,000"),
    (1_000_000, "1,000,000"),
];

/// From the first count to the last one, log n doubles.
const GROWTH: f64 = 2.0;

pub fn run(options: &Options) -> Result<()> {
    let folder = root().join("docs/performance");
    let file = folder.join("scale.json");
    let results: Value = match options.again {
        true => serde_json::from_str(&std::fs::read_to_string(&file)?)?,
        false => json!({ "machine": measure::machine(), "rows": rows(&measured()?)? }),
    };
    let table = table(&results);
    if options.keep {
        print!("{table}");
        return Ok(());
    }
    if !options.again {
        std::fs::write(&file, format!("{results:#}\n"))?;
    }
    let chart = picture(&results).put(&folder)?;
    page::put(
        &root().join("docs/performance.md"),
        "scale",
        &(chart + &table),
    )
}

/// What the two tests print.
fn measured() -> Result<String> {
    let last = COUNTS[COUNTS.len() - 1].0;
    let words = "test --quiet --profile sim --features sim --lib --test sim scale -- --nocapture";
    let mut cargo = Command::new("cargo");
    cargo
        .args(words.split(' '))
        .env("DOORKEEPER_SCALE", last.to_string())
        .current_dir(root())
        .stderr(Stdio::inherit());
    let output = cargo.output()?;
    let text = String::from_utf8(output.stdout)?;
    match output.status.success() {
        true => Ok(text),
        false => Err(format!("the tests of scale failed: {text}").into()),
    }
}

/// The lines of both tests, put together by the number of connections.
fn rows(text: &str) -> Result<Vec<Value>> {
    let mut rows = COUNTS.map(|(count, _)| Map::from_iter([("connections".into(), json!(count))]));
    for line in text.lines() {
        // The name of the test may stand before the first line.
        let Some((_, found)) = line.split_once("scale {") else {
            continue;
        };
        let found: Map<String, Value> = serde_json::from_str(&format!("{{{found}"))?;
        let row = rows
            .iter_mut()
            .find(|row| row["connections"] == found["connections"]);
        row.ok_or("a number of connections that is not known")?
            .extend(found);
    }
    for row in &rows {
        if let Some((name, ..)) = FIGURES.iter().find(|(name, ..)| !row.contains_key(*name)) {
            return Err(format!("{name} is missing for {}", row["connections"]).into());
        }
    }
    Ok(rows.map(Value::Object).into())
}

/// A figure in the unit that is shown.
fn figure(results: &Value, row: usize, name: &str) -> Option<f64> {
    let value = results["rows"][row][name].as_f64()?;
    Some(if is_bytes(name) { value } else { value / 1e3 })
}

fn is_bytes(name: &str) -> bool {
    name.ends_with("_bytes")
}

fn table(results: &Value) -> String {
    let machine = &results["machine"];
    let (processor, kernel) = (&machine["processor"], &machine["kernel"]);
    let (processor, kernel) = (processor.as_str(), kernel.as_str());
    let mut text = format!(
        "Measured on {}, {} processors, Linux {}.\n\n| connections |",
        processor.unwrap_or("?"),
        machine["processors"],
        kernel.unwrap_or("?")
    );
    for (_, name, _) in FIGURES {
        let _ = write!(text, " {name} |");
    }
    text += "\n|--:|";
    text += &"--:|".repeat(FIGURES.len());
    for (row, (_, count)) in COUNTS.iter().enumerate() {
        let _ = write!(text, "\n| {count} |");
        for (name, ..) in FIGURES {
            let _ = match figure(results, row, name) {
                None => write!(text, " – |"),
                Some(value) if is_bytes(name) => write!(text, " {value} |"),
                Some(value) => write!(text, " {value:.1} µs |"),
            };
        }
    }
    text + "\n"
}

fn picture(results: &Value) -> Picture {
    let panel = |(name, _, title): (&'static str, &str, &str)| {
        let values = (0..COUNTS.len()).map(|row| figure(results, row, name));
        let values: Vec<Option<f64>> = values.collect();
        let line = values[0].map(|first| ("log n", first * GROWTH));
        let longest = values
            .iter()
            .flatten()
            .chain(line.as_ref().map(|(_, at)| at));
        let rows = COUNTS.iter().zip(&values);
        Panel {
            title: title.to_string(),
            most: longest.copied().fold(0.0, f64::max) * 1.05,
            yardstick: line,
            digits: if is_bytes(name) { 0 } else { 1 },
            rows: rows
                .map(|((_, count), &value)| Row::new(count, value))
                .collect(),
        }
    };
    Picture {
        file: "scale.svg",
        title: "Scale, in the simulation: time and bytes for each connection or message",
        note: Some(
            "The line is twice the first bar: what grows with log n reaches it at 1,000,000 connections.",
        ),
        panels: FIGURES.map(panel).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed() -> String {
        let times = r#""connect":1,"accept":2,"busy":3,"all_busy":4,"idle_timeout":5,"close":6"#;
        let lines = COUNTS.map(|(count, _)| {
            format!(
                "test weight ... scale {{\"connections\":{count},\"idle_bytes\":7,\"most_bytes\":8}}\n\
                 scale {{\"connections\":{count},{times}}}\n"
            )
        });
        lines.concat()
    }

    #[test]
    fn the_lines_of_both_tests_are_one_row() {
        let rows = rows(&printed()).unwrap();
        assert_eq!(rows.len(), COUNTS.len());
        assert!(
            rows.iter()
                .all(|row| row["close"] == 6 && row["most_bytes"] == 8)
        );
        let table = table(&json!({ "rows": rows }));
        assert!(table.contains("| 1,000 | 0.0 µs | 0.0 µs |"), "{table}");
        assert!(table.ends_with("| 7 | 8 |\n"), "{table}");
    }

    #[test]
    fn a_figure_that_is_missing_is_named() {
        let without = printed().replace("\"close\":6", "\"other\":6");
        let error = rows(&without).unwrap_err().to_string();
        assert_eq!(error, "close is missing for 1000");
    }

    #[test]
    fn the_line_is_where_log_n_leads() {
        let results = json!({ "rows": rows(&printed()).unwrap() });
        let picture = picture(&results);
        let line = |panel: &Panel| panel.yardstick.map(|(_, at)| at);
        assert_eq!(line(&picture.panels[6]), Some(14.0));
        assert_eq!(line(&picture.panels[1]), Some(0.004));
    }
}
