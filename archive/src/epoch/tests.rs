//! Keys: what each recipient opens, and what others are told.

use super::*;
use crate::limits;
use crate::manifest::{Counts, Manifest, PackRef, Public, Root, Sealed, SealedPack, SealedRef, VERSION};
use crate::reference::{Member, RunId};
use base::{Blake3, Dataset, Name};

const SSH: &str = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZWQyNTUxOQAAACCzPq7zfqLffKoBDe/eo04kH2XxtSmk9D7RQyf1xUqrYgAAAJgAIAxdACAMXQAAAAtzc2gtZWQyNTUxOQAAACCzPq7zfqLffKoBDe/eo04kH2XxtSmk9D7RQyf1xUqrYgAAAEC2BsIi0QwW2uFscKTUUXNHLsYX4FxlaSDSblbAj7WR7bM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqtiAAAAEHVzZXJAZXhhbXBsZS5jb20BAgMEBQ==\n-----END OPENSSH PRIVATE KEY-----\n";
const SSH_PUBLIC: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti user@example.com";

fn identity() -> (String, IdentityFile) {
    let identity = age::x25519::Identity::generate();
    let text = format!("# created: today\n\n{}\n", identity.to_string().expose_secret());
    (identity.to_public().to_string(), IdentityFile::parse(text.as_bytes()).unwrap())
}

fn manifest(epoch: &Epoch) -> (Manifest, Sealed) {
    let id: base::RequestId = "20261120T031500Z-3f9a1c7e".parse().unwrap();
    let dataset: Dataset = "files:/a".parse().unwrap();
    let at = Member { run: RunId(1), frame: 2, n: 3 };
    let sealed = Sealed {
        version: VERSION,
        id: id.clone(),
        dataset: dataset.clone(),
        secret: Secrets::from_bytes([7; 32]),
        root: Root { at, id: ChunkId([1; 32]), level: 1 },
        packs: vec![SealedPack { run: RunId(1), first: 0, frames: 3, table: Blake3([2; 32]) }],
        unreadable: vec![crate::manifest::Unreadable { path: b"\xff".to_vec(), why: "no".into() }],
        skipped: vec![crate::manifest::Unreadable { path: b"s".to_vec(), why: "a socket".into() }],
        tags: vec!["t".into()],
        stream: false,
        time: base::clock::now(),
    };
    let public = Public {
        version: VERSION,
        id,
        part: None,
        client: Name::new("web1").unwrap(),
        node: Name::new("node1").unwrap(),
        dataset,
        epoch: epoch.public().clone(),
        packs: vec![PackRef { digest: Blake3([3; 32]), size: 65_536 }],
        repairs: None,
        counts: Counts { entries: 1, files: 1, bytes: 5, unreadable: 1 },
        sealed: SealedRef { digest: Blake3([0; 32]), size: 0 },
    };
    (Manifest::seal(public, &sealed, epoch.recipient()).unwrap(), sealed)
}

#[test]
fn each_recipient_opens_and_others_are_told_for_whom_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("epochs/node1.toml");
    let ((one, one_file), (_, other_file)) = (identity(), identity());
    let epoch = Epoch::current(&path, &[SSH_PUBLIC.into(), one.clone()], base::clock::now()).unwrap();
    let (manifest, sealed) = manifest(&epoch);
    let ssh = IdentityFile::parse(SSH.as_bytes()).unwrap();
    for identities in [&one_file, &ssh] {
        let key = open_epoch(&manifest.public.epoch, identities, &|| Ok(Vec::new())).unwrap();
        assert_eq!(manifest.open(&key).unwrap(), sealed);
    }
    let error = open_epoch(&manifest.public.epoch, &other_file, &|| Ok(Vec::new())).unwrap_err().render();
    assert!(error.contains(&one) && error.contains("ssh-ed25519 AAAA") && !error.contains("example.com"), "{error}");
    // A key file that holds another key than the manifest names.
    let mut swapped = manifest.public.clone();
    swapped.epoch.recipient = one;
    assert!(open_epoch(&swapped.epoch, &one_file, &|| Ok(Vec::new())).unwrap_err().one_line().contains("another key"));
}

#[test]
fn an_epoch_lasts_a_year_and_is_for_one_set_of_recipients() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("epochs/node1.toml");
    let ((one, _), (two, _)) = (identity(), identity());
    let now = base::clock::now();
    let at = |days: i64, recipients: &[&String]| {
        let recipients: Vec<String> = recipients.iter().map(|s| (*s).clone()).collect();
        let now = Timestamp::from_second(now.as_second() + days * 86_400).unwrap();
        Epoch::current(&path, &recipients, now).unwrap().public().recipient.clone()
    };
    let first = at(0, &[&one, &two]);
    assert_eq!(at(364, &[&two, &one, &two]), first);
    assert_eq!(at(-3, &[&one, &two]), first);
    let later = at(366, &[&one, &two]);
    assert_ne!(later, first);
    assert_ne!(at(366, &[&one]), later);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(!text.contains("AGE-SECRET"));
    // Damage costs a new epoch: a key file with another bit opens nothing.
    let last = at(366, &[&one]);
    for damaged in [String::new(), text[..text.len() / 2].to_owned(), text.replacen("YWdl", "YWdm", 1)] {
        assert_ne!(damaged, text);
        std::fs::write(&path, damaged).unwrap();
        assert_ne!(at(366, &[&one]), last);
    }
    std::fs::write(&path, "version = 2").unwrap();
    assert!(Epoch::current(&path, &[one], now).is_err());
}

#[test]
fn recipients_and_identities_that_cannot_be_used_say_why() {
    let secret = age::x25519::Identity::generate().to_string();
    for (bad, why) in [
        ("", "neither"),
        ("age1", "not whole"),
        ("age1yubikey1qgqgqgqg", "not whole"),
        (secret.expose_secret(), "secret key"),
        ("ssh-ed25519", "cannot be a recipient"),
        ("ssh-dss AAAA", "cannot be a recipient"),
        ("bob", "neither"),
    ] {
        let error = check_recipients(&[bad.into()]).unwrap_err();
        assert!(error.render().contains(why) && error.kind() == base::Kind::Usage, "{bad}: {}", error.render());
        assert!(!error.render().contains("AGE-SECRET-KEY-1"), "the secret is repeated");
    }
    assert!(check_recipients(&[]).is_err());
    for (bad, why) in [
        ("", "no identity"),
        ("# only\n", "no identity"),
        ("AGE-PLUGIN-YUBIKEY-1", "line 1"),
        ("AGE-SECRET-KEY-1X", "line 1"),
        ("-----BEGIN X-----\n", "ssh"),
        ("\u{0}", "line 1"),
    ] {
        assert!(IdentityFile::parse(bad.as_bytes()).unwrap_err().render().contains(why), "{bad}");
    }
    assert!(IdentityFile::parse(b"\xff").is_err());
}

#[test]
fn the_secret_stays() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("secret");
    let first = Secrets::load_or_create(&folder).unwrap();
    assert!(first == Secrets::load_or_create(&folder).unwrap());
    assert!(!format!("{first:?}").contains(&first.to_hex()));
    std::fs::write(folder.join("chunk"), "short").unwrap();
    assert!(Secrets::load_or_create(&folder).is_err());
}

#[test]
fn hostile_manifests() {
    let dir = tempfile::tempdir().unwrap();
    let (one, file) = identity();
    let epoch = Epoch::current(&dir.path().join("e.toml"), &[one], base::clock::now()).unwrap();
    let (good, sealed) = manifest(&epoch);
    let bytes = good.to_bytes();
    assert_eq!(Manifest::parse(&bytes).unwrap().digest, Blake3::of(&bytes));
    let line = bytes.iter().position(|b| *b == b'\n').unwrap();
    let text = std::str::from_utf8(&bytes[..line]).unwrap();
    let with = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        [text.replacen(from, to, 1).as_bytes(), &bytes[line..]].concat()
    };
    let digest = "\"digest\":\"blake3:0303";
    let mut bad = vec![
        Vec::new(),
        b"\n".to_vec(),
        b"{}\n".to_vec(),
        bytes[..line].to_vec(),
        bytes[..line + 1].to_vec(),
        bytes[..bytes.len() - 1].to_vec(),
        [&bytes[..], b"x"].concat(),
        vec![b'a'; limits::MANIFEST + 1],
    ];
    for (from, to) in [
        ("\"version\":1", "\"version\":2"),
        ("\"version\":1", "\"version\":1,\"x\":1"),
        ("\"web1\"", "\"../x\""),
        ("files:/a", "files:/a/../b"),
        ("3f9a1c7e", "3F9A1C7E"),
        (digest, "\"digest\":\"blake3:XX03"),
        ("\"size\":65536", "\"size\":0"),
        ("\"size\":65536", "\"size\":-1"),
        ("\"entries\":1", "\"entries\":-1"),
        ("\"recipient\":\"age1", "\"recipient\":\"bge1"),
        ("\"key_file\":\"", "\"key_file\":\"*"),
    ] {
        bad.push(with(from, to));
    }
    let packs = text.find("\"packs\":[").unwrap() + 9;
    let end = packs + text[packs..].find(']').unwrap();
    let pack = &text[packs..end];
    bad.push(with(pack, &format!("{pack},{pack}")));
    bad.push(with(pack, ""));
    bad.push(with(pack, &format!("{pack},{}", pack.replace("0303", "0404").replace("65536", &u64::MAX.to_string()))));
    for bytes in bad {
        assert!(Manifest::parse(&bytes).is_err(), "{}", String::from_utf8_lossy(&bytes[..bytes.len().min(300)]));
    }
    assert!(Manifest::parse(&with("\"version\":1", "\"version\":2")).unwrap_err().render().contains("newer nightsafe"));
    // The public part of one snapshot with the sealed part of another.
    let key = open_epoch(&good.public.epoch, &file, &|| Ok(Vec::new())).unwrap();
    assert!(Manifest::parse(&with("3f9a1c7e", "3f9a1c7f")).unwrap().open(&key).unwrap_err().one_line().contains("different snapshots"));
    let seal = |change: &dyn Fn(&mut Sealed)| {
        let mut other = sealed.clone();
        change(&mut other);
        Manifest::seal(good.public.clone(), &other, epoch.recipient()).unwrap().open(&key)
    };
    assert!(seal(&|_| ()).is_ok());
    assert!(seal(&|s| s.packs.clear()).is_err());
    assert!(seal(&|s| s.packs[0].frames = 0).is_err());
    assert!(seal(&|s| s.root.level = limits::LEVELS).is_err());
    assert!(seal(&|s| s.dataset = "files:/b".parse().unwrap()).is_err());
    assert!(seal(&|s| s.version = 2).unwrap_err().render().contains("newer"));
}
