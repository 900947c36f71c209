//! `make bench` with tiny sizes: scenarios run, compares what it restores, and says what it measured.

use crate::harness::{bin, command, run, source_root};

#[test]
fn every_scenario_runs() {
    let temp = tempfile::Builder::new().prefix("nsbt-").tempdir_in("/tmp").unwrap();
    let out = temp.path().join("bench.json");
    let mut bench = command("python3", temp.path());
    bench.arg(source_root().join("bench/run.py")).env("NIGHTSAFE_BIN", bin()).env("OUT", &out).env("BENCH_TMP", "/tmp");
    bench.env("QUICK", "1").env("PYTHONDONTWRITEBYTECODE", "1");
    // A cluster of PostgreSQL's for one more row is left to `make bench QUICK=1`.
    bench.env("ONLY", "first unchanged release restore onefile million sparse pull far git refs tiny queued clients");
    for (name, value) in [
        ("FILES", "60"),
        ("MILLION", "50"),
        ("PULL", "2"),
        ("FAR", "2"),
        ("COMMITS", "5"),
        ("TINY", "1"),
        ("QUEUED", "4"),
        ("CLIENTS", "3"),
    ] {
        bench.env(name, value);
    }
    let table = run(&mut bench).ok();
    let result: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(out).unwrap()).unwrap();
    let rows = result["rows"].as_array().unwrap();
    for name in std::fs::read_dir(source_root().join("bench/scenarios")).unwrap() {
        let name = name.unwrap().file_name().into_string().unwrap();
        let Some(name) = name.strip_suffix(".py").filter(|name| *name != "postgres") else { continue };
        assert!(rows.iter().any(|row| row["scenario"] == name), "{name} measured nothing:\n{table}");
    }
    for row in rows {
        let words = row["row"].as_str().unwrap();
        assert!(table.contains(words), "{words} is not in the table:\n{table}");
        assert!(row["median"].as_object().unwrap().values().all(|value| value.as_f64().unwrap() > 0.0), "{row}");
    }
    // One run: the median of the ratios is the ratio.
    let first = &rows[0];
    let value = |name: &str| first["median"][name].as_f64().unwrap();
    assert!((first["ratio"]["tar"].as_f64().unwrap() - value("nightsafe") / value("tar")).abs() < 1e-9, "{first}");
    for process in ["client nightsafe", "node nightsafe-server"] {
        assert!(first["memory"]["nightsafe"][process].as_f64().unwrap() > 1000.0, "the memory of {process} is told in KiB: {first}");
    }
}
