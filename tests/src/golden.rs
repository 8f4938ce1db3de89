//! Goldens: files under `tests/golden/` that hold what users rely on, one line each.

use std::{collections::BTreeSet, env, fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::metrics::Scrape;

/// Set to 1, it makes [`compare`] rewrite the files instead.
const BLESS: &str = "TRACKER_BLESS";
/// What stands for a key of an object whose keys are data.
const ANY: &str = "*";
/// Objects of which an answer has only some keys: those that were counted.
const SPARSE: [&str; 8] = [
    "alerts[].evidence.states",
    "connects.failed",
    "in_use",
    "interfaces[].outcomes",
    "interfaces[].outcomes.*",
    "ports[].states",
    "transitions.*.ipv4",
    "transitions.*.ipv6",
];

/// Compares lines with a file under `tests/golden/`.
pub fn compare(name: &str, lines: &[String]) -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name);
    if env::var_os(BLESS).is_some_and(|value| value == "1") {
        return fs::write(&path, lines.join("\n") + "\n").with_context(|| format!("write {}", path.display()));
    }
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let expected: Vec<&str> = text.lines().collect();
    let gone = expected.iter().filter(|line| !lines.iter().any(|new| new == *line)).map(|line| format!("- {line}"));
    let new = lines.iter().filter(|line| !expected.contains(&line.as_str())).map(|line| format!("+ {line}"));
    let changes: Vec<_> = gone.chain(new).collect();
    ensure!(
        lines == expected,
        "tests/golden/{name} differs; if users are to see this change, run again with {BLESS}=1:\n{}",
        changes.join("\n")
    );
    Ok(())
}

/// Every metric of a scrape as `name type labels`, sorted.
pub fn metrics(scrape: &Scrape) -> Result<Vec<String>> {
    let families = scrape.text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let mut lines = families.map(|family| metric(scrape, family)).collect::<Result<Vec<_>>>()?;
    lines.sort_unstable();
    Ok(lines)
}

fn metric(scrape: &Scrape, family: &str) -> Result<String> {
    let (name, kind) = family.split_once(' ').context("a type without name")?;
    let series = if kind == "histogram" { format!("{name}_bucket") } else { name.to_owned() };
    let labels: BTreeSet<_> = scrape.select(&series, &[]).flat_map(|sample| sample.labels.keys()).collect();
    let labels: Vec<_> = labels.into_iter().filter(|label| *label != "le").map(String::as_str).collect();
    Ok(format!("{family} {}", labels.join(",")).trim_end().to_owned())
}

/// Paths of all fields of an answer, such as `alerts[].subject.port`, sorted.
#[must_use]
pub fn fields(answer: &Value) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    collect(answer, "", &mut paths);
    paths
}

fn collect(value: &Value, path: &str, paths: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                let is_data = SPARSE.contains(&path) || key.bytes().all(|byte| byte.is_ascii_digit());
                let key = if is_data { ANY } else { key };
                let path = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
                paths.insert(path.clone());
                collect(value, &path, paths);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, &format!("{path}[]"), paths)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_are_those_of_all_elements() {
        let answer = json!({ "a": [{ "b": 1 }, { "c": { "d": null } }], "e": { "17": { "f": 0 }, "18": {} } });
        let paths: Vec<_> = fields(&answer).into_iter().collect();
        assert_eq!(paths, ["a", "a[].b", "a[].c", "a[].c.d", "e", "e.*", "e.*.f"]);
    }

    #[test]
    fn a_metric_has_a_type_and_the_labels_of_all_its_series() {
        let text = "# TYPE a counter\na{y=\"1\"} 1\na{x=\"1\"} 1\n# TYPE b histogram\nb_bucket{z=\"1\",le=\"1\"} 1\n";
        let scrape = Scrape::parse(text.to_owned()).unwrap();
        assert_eq!(metrics(&scrape).unwrap(), ["a counter x,y", "b histogram z"]);
    }
}
