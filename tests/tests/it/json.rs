//! `docs/json.md` against what the programs print: every command that takes `--json` is in it, every field that it names is there,
//! of the type that it says, and no other.

use crate::harness::{Loopback, run, source_root};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What the page says of a field: its type, and the words that stand in quotes behind it.
struct Field {
    kind: String,
    words: BTreeSet<String>,
}

type Schema = BTreeMap<String, Field>;

/// The tables of the page: by the heading of the command and, where there are several, the one below it.
fn schemas() -> BTreeMap<String, Schema> {
    let text = std::fs::read_to_string(source_root().join("docs/json.md")).unwrap();
    let (mut command, mut part) = (String::new(), String::new());
    let mut all: BTreeMap<String, Schema> = BTreeMap::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("## ") {
            (command, part) = (name.to_owned(), String::new());
        } else if let Some(name) = line.strip_prefix("### ") {
            part = format!("/{name}");
        } else if let Some(row) = line.strip_prefix("| `").filter(|_| !command.is_empty()) {
            let cells: Vec<&str> = row.split(" | ").collect();
            let words = cells[2..].concat().split('`').skip(1).step_by(2).map(str::to_owned).collect();
            let field = Field { kind: cells[1].trim().to_owned(), words };
            all.entry(format!("{command}{part}")).or_default().insert(cells[0].trim_matches('`').to_owned(), field);
        }
    }
    // What is as another command prints it.
    let names: BTreeMap<String, Vec<String>> = all.iter().map(|(name, schema)| (name.clone(), schema.keys().cloned().collect())).collect();
    for field in all.values_mut().flat_map(BTreeMap::values_mut) {
        let more: Vec<String> = field.words.iter().filter_map(|word| names.get(word)).flatten().cloned().collect();
        field.words.extend(more);
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

/// The names of what is in a value, however deep.
fn names(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                found.insert(name.clone());
                names(value, found);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| names(value, found)),
        _ => {}
    }
}

/// Every command of a program, with all below it, that takes `--json` by its own help.
fn with_json(safe: &Loopback, command: &str, found: &mut BTreeSet<String>) {
    let words: Vec<&str> = command.split(' ').collect();
    let help = safe.run(words[0], &[&words[1..], &["--help"]].concat()).ok();
    if help.lines().any(|line| line.trim_start().starts_with("--json")) {
        found.insert(command.to_owned());
    }
    let listed = help.split("\nCommands:\n").nth(1).unwrap_or_default().lines().take_while(|line| line.starts_with("  "));
    for name in listed.filter_map(|line| line.strip_prefix("  ")?.split(' ').next()).filter(|name| !name.is_empty() && *name != "help") {
        with_json(safe, &format!("{command} {name}"), found);
    }
}

/// What is held against the page, and what was wrong.
struct Page {
    left: BTreeMap<String, Schema>,
    seen: BTreeSet<String>,
    wrong: BTreeSet<String>,
}

impl Page {
    /// Runs a command with `--json`, which ends with `code`, and holds the objects that `pick` chooses against the table `name`.
    #[track_caller]
    fn holds(&mut self, safe: &Loopback, name: &str, (args, code): (&[&str], i32), pick: &dyn Fn(&Value) -> bool) {
        let schema = self.left.remove(name).unwrap_or_else(|| panic!("the page does not have {name:?}"));
        let program = name.split(' ').next().unwrap();
        let done = run(safe.command(program).env("NIGHTSAFE_AUTHORIZED_KEYS", safe.at("client/authorized_keys")).args(args).arg("--json"));
        let done = done.exits(code);
        let rows: Vec<Value> = serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {done}"));
        let rows: Vec<&Value> = rows.iter().filter(|row| pick(row)).collect();
        assert!(!rows.is_empty(), "{name}: nothing was printed: {done}");
        for row in rows {
            let found: BTreeSet<&String> = row.as_object().unwrap().keys().collect();
            let said: BTreeSet<&String> = schema.keys().collect();
            self.wrong.extend(found.symmetric_difference(&said).map(|field| format!("{name}: {field} is only on one side")));
            for (field, Field { kind, words }) in &schema {
                let Some(value) = row.get(field) else { continue };
                if !fits(kind, value) {
                    self.wrong.insert(format!("{name}: {field} is no {kind}: {value}"));
                }
                let mut inner = BTreeSet::new();
                names(value, &mut inner);
                // Where no name is said, they are counted by something that the data has.
                if !words.is_empty() {
                    self.wrong.extend(inner.difference(words).map(|inner| format!("{name}: {field} has {inner}, which is not said")));
                }
            }
        }
        self.seen.insert(name.to_owned());
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
    safe.client(&["send"]).exits(0);
    safe.client(&["submit", "dummy", "y"]).exits(0);
    // A key more, a client more, and a mirror of before.
    let key = safe.text("admin/id_ed25519");
    let other = safe.sh("age-keygen -o other.txt 2>/dev/null; age-keygen -y other.txt");
    safe.client(&["keys", "add-recipient", other.trim(), "--output", &safe.text("home")]).exits(0);
    safe.node(&["keys", "install", safe.sh("ls home/*.json").trim()]).exits(0);
    let (host, login) = (safe.text("sshd/host_ed25519.pub"), format!("{}:{}", safe.login(), safe.port()));
    safe.edit("node.toml", "version = 1\n", &format!("version = 1\naddress = \"{login}\"\nhost_key = \"{host}\"\n"));
    let (new, state) = (safe.text("new.toml"), safe.text("new"));
    let init = ["--config", &new, "init", "--name", "web2", "--state", &state, "--address", &login, "--host-key", &host];
    let printed = safe.client(&[&init[..], &["--recipient", other.trim()]].concat()).ok();
    let line = printed.lines().find(|line| line.starts_with("nightsafe-client.")).expect(&printed).to_owned();
    let old = safe.text("source/w/.git");
    let (target, all) = (safe.text("back/t"), |_: &Value| true);
    let mut page = Page { left: schemas(), seen: BTreeSet::new(), wrong: BTreeSet::new() };

    page.holds(&safe, "nightsafe status/kind: dataset", (&["status"], 3), &|row| row["kind"] == "dataset");
    page.holds(&safe, "nightsafe status/kind: node", (&["status"], 3), &|row| row["kind"] == "node");
    page.holds(&safe, "nightsafe snapshots", (&["snapshots"], 0), &all);
    page.holds(&safe, "nightsafe ls", (&["ls", &dataset, "-r"], 0), &all);
    page.holds(&safe, "nightsafe ls/of a git repository", (&["ls", &git], 0), &all);
    page.holds(&safe, "nightsafe find", (&["find", &dataset, "*"], 0), &all);
    page.holds(&safe, "nightsafe diff", (&["diff", &dataset], 0), &all);
    page.holds(&safe, "nightsafe log", (&["log"], 0), &all);
    page.holds(&safe, "nightsafe verify", (&["verify"], 0), &all);
    page.holds(&safe, "nightsafe keys check", (&["keys", "check"], 0), &all);
    page.holds(&safe, "nightsafe config check", (&["config", "check"], 0), &all);
    page.holds(&safe, "nightsafe submit --dry-run", (&["submit", "files", &path, "--dry-run"], 0), &all);
    page.holds(&safe, "nightsafe submit --dry-run --list", (&["submit", "files", &path, "--dry-run", "--list"], 0), &all);
    page.holds(&safe, "nightsafe restore --dry-run", (&["restore", &dataset, "--target", &target, "--dry-run"], 0), &all);
    page.holds(&safe, "nightsafe-server client list", (&["client", "list"], 0), &all);
    page.holds(&safe, "nightsafe-server client add", (&["client", "add", &line, "--yes", "--admin-key", &key], 0), &all);
    page.holds(&safe, "nightsafe-server restorer list", (&["restorer", "list"], 0), &all);
    page.holds(&safe, "nightsafe-server keys list", (&["keys", "list"], 0), &all);
    let adopt = ["adopt", "web1", &old, "--any-origin", "--under", "/srv/old.git"];
    page.holds(&safe, "nightsafe-server adopt", (&adopt, 0), &all);
    page.holds(&safe, "nightsafe-server config check", (&["config", "check"], 0), &all);
    page.holds(&safe, "nightsafe-server snapshots", (&["snapshots"], 0), &all);
    page.holds(&safe, "nightsafe-server log", (&["log"], 0), &all);
    // Damage, in what is kept and in what was signed.
    safe.sh("cd node/data/web1; pack=packs/$(ls -S packs | head -n1); chmod u+w $pack; printf damaged | dd of=$pack bs=1 seek=99 conv=notrunc status=none");
    page.holds(&safe, "nightsafe-server scrub", (&["scrub", "--all"], 1), &all);
    page.holds(&safe, "nightsafe-server prune", (&["prune", "--keep-last", "1"], 0), &all);
    page.holds(&safe, "nightsafe-server status", (&["status"], 3), &all);
    // The last commit of the node's is the notice of the damage.
    safe.git("node/data/web1/receipts.git", &["update-ref", "refs/heads/receipts", "refs/heads/receipts~2"]);
    safe.git("client/receipts/node1.git", &["update-ref", "refs/heads/receipts", "refs/heads/receipts~1"]);
    page.holds(&safe, "nightsafe log --verify", (&["log", "--verify"], 1), &all);
    page.holds(&safe, "nightsafe-server log --verify", (&["log", "--verify"], 1), &all);

    let Page { mut left, seen, wrong } = page;
    left.retain(|_, fields| !fields.is_empty());
    assert!(left.is_empty(), "nothing is held against these: {:?}", left.keys());
    let mut taking = BTreeSet::new();
    for program in ["nightsafe", "nightsafe-server", "nightsafe-gate"] {
        with_json(&safe, program, &mut taking);
    }
    assert!(taking.len() > 15, "{taking:?}");
    let has = |command: &String| {
        seen.iter().any(|name| name.strip_prefix(command.as_str()).is_some_and(|more| more.is_empty() || more.starts_with([' ', '/'])))
    };
    let missed: Vec<&String> = taking.iter().filter(|command| !has(command)).collect();
    assert!(missed.is_empty(), "these take --json, and the page does not have them: {missed:?}");
    assert!(wrong.is_empty(), "{wrong:#?}");
}
