//! `docs/json.md` against what the programs print: every field that it names is there, of the type that it says, and no other.

use crate::harness::{Loopback, source_root};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The tables of the page: by the heading of the command and, where there are several, the one below it.
fn schemas() -> BTreeMap<String, BTreeMap<String, String>> {
    let text = std::fs::read_to_string(source_root().join("docs/json.md")).unwrap();
    let (mut command, mut part) = (String::new(), String::new());
    let mut all: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("## ") {
            (command, part) = (name.to_owned(), String::new());
        } else if let Some(name) = line.strip_prefix("### ") {
            part = format!("/{name}");
        } else if let Some(row) = line.strip_prefix("| `") {
            let cells: Vec<&str> = row.split(" | ").collect();
            all.entry(format!("{command}{part}")).or_default().insert(cells[0].trim_matches('`').to_owned(), cells[1].trim().to_owned());
        }
    }
    all
}

fn fits(kind: &str, value: &Value) -> bool {
    let (kind, nullable) = match kind.strip_suffix(" or null") {
        Some(kind) => (kind, true),
        None => (kind, false),
    };
    match kind {
        _ if value.is_null() => nullable,
        "text" => value.is_string(),
        "time" => value.as_str().is_some_and(|text| text.len() >= 20 && text.ends_with('Z') && text.as_bytes()[10] == b'T'),
        "number" => value.is_i64() || value.is_u64(),
        "yes" => value.is_boolean(),
        "list" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("the page has a type {other:?}, which it does not explain"),
    }
}

#[test]
fn the_page_on_json_says_what_is_printed() {
    let safe = Loopback::start();
    safe.sh("mkdir -p source/d/e && cd source/d && echo 1 >e/f && ln -s e/f l && git init -q -b main ../w && git -C ../w -c user.name=u -c user.email=e commit -q --allow-empty -m 1 && git clone -q --mirror ../w ../r.git");
    let (path, repository) = (safe.text("source/d"), safe.text("source/r.git"));
    let (dataset, git) = (format!("files:{path}"), format!("git:{repository}"));
    safe.back_up("files", &path);
    safe.sh("rm source/d/l; echo 22 >source/d/e/f; echo 3 >source/d/new");
    safe.back_up("files", &path);
    safe.back_up("git", &repository);
    // Something that failed, and something that waits.
    safe.sh("mkdir source/none");
    safe.client(&["submit", "files", &safe.text("source/none")]).exits(0);
    safe.sh("rmdir source/none");
    safe.client(&["send"]).exits(1);
    safe.client(&["submit", "dummy", "x"]).exits(0);
    let target = safe.text("back/t");
    let mut schemas = schemas();
    let mut wrong = Vec::new();
    let mut printed = |name: &str, program: &str, args: &[&str], pick: &dyn Fn(&Value) -> bool| {
        let schema = schemas.remove(name).unwrap_or_else(|| panic!("the page does not have {name:?}"));
        let run = safe.run(program, &[args, &["--json"]].concat());
        assert!(matches!(run.code, Some(0 | 3)), "{run}");
        let rows: Vec<Value> = serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {run}"));
        let rows: Vec<&Value> = rows.iter().filter(|row| pick(row)).collect();
        assert!(!rows.is_empty(), "{name}: nothing was printed: {run}");
        for row in rows {
            let found: BTreeSet<&String> = row.as_object().unwrap().keys().collect();
            let said: BTreeSet<&String> = schema.keys().collect();
            wrong.extend(found.symmetric_difference(&said).map(|field| format!("{name}: {field} is only on one side")));
            let misfits = schema.iter().filter(|(field, kind)| row.get(*field).is_some_and(|value| !fits(kind, value)));
            wrong.extend(misfits.map(|(field, kind)| format!("{name}: {field} is no {kind}: {}", row[field])));
        }
    };
    let all = |_: &Value| true;
    printed("nightsafe status/kind: dataset", "nightsafe", &["status"], &|row| row["kind"] == "dataset");
    printed("nightsafe status/kind: node", "nightsafe", &["status"], &|row| row["kind"] == "node");
    printed("nightsafe snapshots", "nightsafe", &["snapshots"], &all);
    printed("nightsafe ls", "nightsafe", &["ls", &dataset, "-r"], &all);
    printed("nightsafe ls/of a git repository", "nightsafe", &["ls", &git], &all);
    printed("nightsafe find", "nightsafe", &["find", &dataset, "*"], &all);
    printed("nightsafe diff", "nightsafe", &["diff", &dataset], &all);
    printed("nightsafe log", "nightsafe", &["log"], &all);
    printed("nightsafe verify", "nightsafe", &["verify"], &all);
    printed("nightsafe keys check", "nightsafe", &["keys", "check"], &all);
    printed("nightsafe submit --dry-run", "nightsafe", &["submit", "files", &path, "--dry-run"], &all);
    printed("nightsafe restore --dry-run", "nightsafe", &["restore", &dataset, "--target", &target, "--dry-run"], &all);
    printed("nightsafe-server status", "nightsafe-server", &["status"], &all);
    printed("nightsafe-server snapshots", "nightsafe-server", &["snapshots"], &all);
    printed("nightsafe-server log", "nightsafe-server", &["log"], &all);
    schemas.remove("");
    schemas.retain(|_, fields| !fields.is_empty());
    assert!(schemas.is_empty(), "nothing is held against these: {:?}", schemas.keys());
    wrong.sort();
    wrong.dedup();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
