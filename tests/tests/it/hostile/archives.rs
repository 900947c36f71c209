//! Archives: manifests that name what is not theirs, and packs that are not what the signed manifest says.

use super::attacker::{Attacker, PLAIN, Push};
use super::{Case, Fate};

/// What becomes of an honest snapshot's pack before the node comes for it: a line of shell with the pack's name in `$p`, in the
/// folder of packs that are offered.
const TAMPERED: &[(&str, &str, &str)] = &[
    ("bytes are others", "printf damaged | dd of=$p bs=1 seek=40000 conv=notrunc status=none", "came with other bytes"),
    ("shorter than said", "truncate -s -1 $p", "less than"),
    ("longer than said", "printf x >>$p", "more than"),
    ("empty", ": >$p", "less than"),
    ("endless, as far as its size says", "truncate -s 1E $p 2>/dev/null || truncate -s 7T $p", "more than"),
    ("another file of the same size", "n=$(stat -c %s $p); head -c $n /dev/urandom >$p", "came with other bytes"),
    ("a link to a file of the machine's", "rm $p; ln -s /etc/passwd $p", ""),
    ("a link to a key", "rm $p; ln -s ../../id_ed25519 $p", ""),
    ("a link to what never ends", "rm $p; ln -s /dev/zero $p", ""),
    ("a pipe that nobody writes to", "rm $p; mkfifo $p", ""),
    ("a folder", "rm $p; mkdir $p", ""),
    ("not there", "rm $p", ""),
];

/// The public part of an honest manifest, changed in one place and signed for.
macro_rules! manifest {
    ($name:literal, $fate:expr, $change:expr) => {
        Case { name: $name, fate: $fate, attack: |a| manifest(a, $change) }
    };
}

use Fate::{Harmless, Receipt};

const SIGNED: &[Case] = &[
    manifest!("an honest one under a new id", Harmless, |text| text),
    manifest!("it names another client's pack", Receipt("missing"), |text| pack(&text, &"ab".repeat(32))),
    manifest!("a pack's name is a path", Receipt("not well made"), |text| pack(&text, "../../web2/packs/x")),
    manifest!("another client", Receipt("client"), |text| swap(&text, "\"client\":\"web1\"", "\"client\":\"web2\"")),
    manifest!("another node", Receipt("node"), |text| swap(&text, "\"node\":\"node1\"", "\"node\":\"node2\"")),
    manifest!("another dataset", Receipt("dataset"), |text| swap(&text, "\"dataset\":\"files:", "\"dataset\":\"files:/etc")),
    manifest!("another id", Receipt("id"), |text| swap(&text, "\"id\":\"20261120", "\"id\":\"20261121")),
    manifest!("a newer version", Receipt("not well made"), |text| swap(&text, "\"version\":1", "\"version\":2")),
    manifest!("a field that is not known", Receipt("not well made"), |text| swap(&text, "\"version\":1", "\"version\":1,\"hold\":true")),
    manifest!("a pack is smaller than it is", Receipt(""), |text| size(&text, "10")),
    manifest!("a pack of sixteen exabytes", Receipt(""), |text| size(&text, "18446744073709551615")),
    manifest!("a pack of less than nothing", Receipt("not well made"), |text| size(&text, "-1")),
    manifest!("the same pack twice", Receipt(""), |text| {
        let list = &text[text.find("\"packs\":[").unwrap() + 9..];
        let first = list[..list.find('}').unwrap() + 1].to_owned();
        swap(&text, "\"packs\":[", &format!("\"packs\":[{first},"))
    }),
    manifest!("its sealed part was swapped", Receipt(""), |text| {
        let at = text.find("\"sealed\":\"blake3:").map_or_else(|| text.find("blake3:").unwrap() + 7, |at| at + 17);
        format!("{}{}{}", &text[..at], "0".repeat(64), &text[at + 64..])
    }),
    manifest!("words", Receipt("not well made"), |_| "all is well\n".into()),
    manifest!("brackets 60,000 deep", Receipt("not well made"), |_| "[".repeat(60_000)),
    manifest!("nothing", Receipt("not well made"), |_| String::new()),
];

/// How many cases there are.
pub const COUNT: usize = TAMPERED.len() + SIGNED.len();

fn swap(text: &str, old: &str, new: &str) -> String {
    assert!(text.contains(old), "{old} is not in {text}");
    text.replacen(old, new, 1)
}

/// Another name for the first pack.
fn pack(text: &str, name: &str) -> String {
    let at = text.find("\"packs\":[").unwrap();
    let digest = at + text[at..].find("blake3:").unwrap() + 7;
    format!("{}{name}{}", &text[..digest], &text[digest + 64..])
}

/// Another size for the first pack.
fn size(text: &str, size: &str) -> String {
    let at = text.find("\"packs\":[").unwrap();
    let at = at + text[at..].find("\"size\":").unwrap() + 7;
    let end = at + text[at..].find(|c: char| !c.is_ascii_digit()).unwrap();
    format!("{}{size}{}", &text[..at], &text[end..])
}

/// A request for a manifest that was made of an honest one.
fn manifest(a: &Attacker, change: impl FnOnce(String) -> String) -> Push {
    let honest = std::fs::read(a.safe.at("template")).unwrap();
    let end = honest.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let id = a.new_id();
    let public = String::from_utf8(honest[..end].to_vec()).unwrap().replace(a.safe.read("template.id").trim(), &id);
    let bytes = [change(public).as_bytes(), &honest[end..]].concat();
    std::fs::write(a.safe.at("manifest"), &bytes).unwrap();
    let digest = a.safe.sh("b3sum --no-names manifest");
    let text = swap(&a.request(&id), "dummy:x", &format!("files:{}/a", a.safe.text("source")));
    let text = format!("{text}manifest = \"blake3:{}\"\n", digest.trim());
    let files: [(&str, &[u8], &[u8]); 2] =
        [(PLAIN, &format!("MF{id}").into_bytes(), &bytes), (PLAIN, &format!("RQ{id}.toml").into_bytes(), text.as_bytes())];
    Push { id, ..a.files(&files) }
}

/// An installation whose client has one honest snapshot of a folder.
fn with_snapshot() -> Attacker {
    let attacker = Attacker::start();
    let safe = &attacker.safe;
    safe.sh("mkdir source/a; head -c 300000 /dev/urandom >source/a/x");
    safe.back_up("files", &safe.text("source/a"));
    attacker
}

#[test]
fn a_manifest_binds_nobody_but_its_client() {
    let attacker = with_snapshot();
    let safe = &attacker.safe;
    let id = safe.names("node/data/web1/snapshots").pop().unwrap();
    safe.write("template.id", &id);
    safe.sh(&format!(
        "cp node/data/web1/snapshots/{id}/manifest template; mkdir -p node/data/web2/packs; echo secret >node/data/web2/packs/{}",
        "ab".repeat(32)
    ));
    super::try_all(&attacker, SIGNED);
    assert!(!safe.at(&format!("node/data/web1/packs/{}", "ab".repeat(32))).exists());
    attacker.honest_requests_work();
}

#[test]
fn packs_that_are_not_what_was_signed_are_not_stored() {
    let attacker = with_snapshot();
    let (safe, mut wrong) = (&attacker.safe, Vec::new());
    let path = safe.text("source/a");
    let snapshots = || safe.names("node/data/web1/snapshots").len();
    for (name, script, word) in TAMPERED {
        let stored = (attacker.stored(), snapshots());
        safe.sh("head -c 300000 /dev/urandom >source/a/x");
        safe.client(&["submit", "files", &path]).exits(0);
        safe.client(&["send"]).silent();
        safe.sh(&format!("cd client/export/node1; p=$(ls -S | head -n 1); cp $p ../saved; echo $p >../name; {script}"));
        let before = attacker.answers();
        let polled = safe.node(&["poll"]);
        let receipt = safe.git("node/data/web1/receipts.git", &["log", "-1", "--format=", "-p", "receipts"]);
        let retry = std::fs::read_to_string(safe.at("node/data/web1/retry.toml")).unwrap_or_default();
        // What cannot be opened may be opened later, as far as the node can know.
        let told = if attacker.answers() == before { &retry } else { &receipt };
        if told.contains("+outcome = \"stored\"") || !told.contains(word) || told.is_empty() || (attacker.stored(), snapshots()) != stored {
            wrong.push(format!("{name}: {told}\n{polled}"));
        }
        safe.sh("cd client/export/node1; p=$(cat ../name); rm -rf $p; mv ../saved $p");
        if let Err(words) = attacker.honest_again("files", &path) {
            wrong.push(format!("{name}: {words}"));
        }
        if snapshots() == stored.1 {
            wrong.push(format!("{name}: nothing was stored afterwards"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n----\n"));
    attacker.honest_requests_work();
}
