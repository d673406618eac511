//! The page with the results: its generated block, and the samples behind it.

use crate::Result;
use crate::samples::Samples;
use crate::suites;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

/// Replaces the text between the marks `name` in a page.
pub fn put(page: &Path, name: &str, tables: &str) -> Result<()> {
    let text = std::fs::read_to_string(page)?;
    Ok(std::fs::write(page, with_tables(&text, name, tables)?)?)
}

fn with_tables(text: &str, name: &str, tables: &str) -> Result<String> {
    let (begin, end) = (
        format!("<!-- {name}: begin -->\n"),
        format!("<!-- {name}: end -->"),
    );
    let begin = text
        .find(&begin)
        .ok_or("the page has no place for the tables")?
        + begin.len();
    let end = text[begin..]
        .find(&end)
        .ok_or("the place for the tables has no end")?
        + begin;
    Ok(format!("{}\n{tables}\n{}", &text[..begin], &text[end..]))
}

/// The stored results, with new samples in the place of the old ones of the same scenarios. Both must have been measured alike.
pub fn replaced(mut stored: Value, new: Value) -> Result<Value> {
    for name in ["machine", "seconds"] {
        if stored[name] != new[name] {
            return Err(
                format!("{name} differs: stored {}, now {}", stored[name], new[name]).into(),
            );
        }
    }
    let list = |results: &Value, name: &str| results[name].as_array().cloned().unwrap_or_default();
    let scenarios: BTreeSet<String> = list(&new, "samples")
        .iter()
        .map(|sample| sample["scenario"].to_string())
        .collect();
    let measured = |suite: &Value| {
        let suite = suites::ALL.iter().find(|known| *suite == *known.name);
        suite.is_some_and(|suite| !Samples::of(&new).scenarios(suite).is_empty())
    };
    let mut samples = list(&stored, "samples");
    samples.retain(|sample| !scenarios.contains(&sample["scenario"].to_string()));
    samples.extend(list(&new, "samples"));
    let mut missing = list(&stored, "missing");
    missing.retain(|missing| !measured(&missing["suite"]));
    missing.extend(list(&new, "missing"));
    stored["samples"] = samples.into();
    stored["missing"] = missing.into();
    if !new["weights"].is_null() {
        stored["weights"] = new["weights"].clone();
    }
    Ok(stored)
}

/// Fails if a run failed, or if a server is missing where none may be.
pub fn verdict(results: &Value, none_may_be_missing: bool) -> Result<()> {
    let failed = Samples::of(results).failed();
    if failed > 0 {
        return Err(
            format!("runs that failed: {failed}; \"What failed\" above has the reasons").into(),
        );
    }
    let missing = results["missing"].as_array().map_or(0, Vec::len);
    if missing > 0 && none_may_be_missing {
        return Err(format!(
            "servers that are missing: {missing}; with CI in the environment none may be"
        )
        .into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::tests::{results, sample};
    use serde_json::json;

    #[test]
    fn the_tables_have_one_place() {
        let (begin, end) = ("<!-- these: begin -->\n", "<!-- these: end -->");
        let page = format!("before\n{begin}old\n{end}\nafter\n");
        let new = with_tables(&page, "these", "new\n").unwrap();
        assert_eq!(new, format!("before\n{begin}\nnew\n\n{end}\nafter\n"));
        assert!(with_tables(&page, "those", "new").is_err());
        assert!(with_tables(&format!("{end}{begin}"), "these", "new").is_err());
    }

    #[test]
    fn a_scenario_is_replaced_whole_and_the_others_stay() {
        let mut stored = results();
        stored["samples"]
            .as_array_mut()
            .unwrap()
            .push(sample("64 B × 1000", "epoll", 0, 7.0));
        stored["missing"] = json!([{ "suite": "echo", "server": "libuv" }, { "suite": "kv", "server": "doorkeeper" }]);
        let mut new = results();
        new["samples"] = json!([sample("64 B × 64", "epoll", 0, 5.0)]);
        let replaced = replaced(stored, new).unwrap();
        let samples = Samples::of(&replaced);
        assert_eq!(samples.values("64 B × 64", "epoll", "/cpu_ns"), [(0, 5.0)]);
        assert!(
            samples
                .values("64 B × 64", "doorkeeper", "/cpu_ns")
                .is_empty()
        );
        assert_eq!(
            samples.values("64 B × 1000", "epoll", "/cpu_ns"),
            [(0, 7.0)]
        );
        assert_eq!(
            replaced["missing"],
            json!([{ "suite": "kv", "server": "doorkeeper" }])
        );
    }

    #[test]
    fn samples_of_two_machines_do_not_mix() {
        let mut new = results();
        new["machine"]["kernel"] = json!("7.0");
        assert!(replaced(results(), new).is_err());
    }

    #[test]
    fn a_failed_run_fails_the_command() {
        let mut found = results();
        assert!(verdict(&found, true).is_ok());
        found["missing"] = json!([{ "server": "nginx", "suite": "relay", "why": "not found" }]);
        assert!(verdict(&found, false).is_ok());
        assert!(verdict(&found, true).is_err());
        found["samples"]
            .as_array_mut()
            .unwrap()
            .push(json!({ "failed": "ended at its start" }));
        assert!(verdict(&found, false).is_err());
    }
}
