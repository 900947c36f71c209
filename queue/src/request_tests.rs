//! Requests as they are written and read, and everything that is none.

use super::*;
use proptest::prelude::*;

pub(crate) fn sample() -> Request {
    Request {
        id: "20261120T031500Z-3f9a1c7e".parse().unwrap(),
        client: Name::new("web1").unwrap(),
        node: Name::new("node1").unwrap(),
        dataset: "files:/var/www".parse().unwrap(),
        seq: 1042,
        prev: Some("20261119T031500Z-90ab12cd".parse().unwrap()),
        submitted: "2026-11-20T03:15:00Z".parse().unwrap(),
        by: "git".into(),
        reason: Reason::Hook,
        tags: vec![],
        payload: Payload::Manifest(Blake3([7; 32])),
        repairs: vec![],
        group: None,
    }
}

#[test]
fn the_file_reads_as_the_design_shows_it() {
    let expected = format!(
        "version = 1\nid = \"20261120T031500Z-3f9a1c7e\"\nclient = \"web1\"\nnode = \"node1\"\ndataset = \"files:/var/www\"\nseq = 1042\n\
         prev = \"20261119T031500Z-90ab12cd\"\nsubmitted = 2026-11-20T03:15:00Z\nby = \"git\"\nreason = \"hook\"\nmanifest = \"blake3:{}\"\n",
        "07".repeat(32)
    );
    assert_eq!(String::from_utf8(sample().to_toml()).unwrap(), expected);
    assert_eq!(Request::parse(expected.as_bytes()).unwrap(), sample());
}

#[test]
fn what_is_refused_and_in_which_words() {
    let good = String::from_utf8(sample().to_toml()).unwrap();
    let cases: &[(&str, &str, &[&str])] = &[
        ("version = 1", "version = 2", &["version = 2"]),
        ("version = 1\n", "", &["no version"]),
        ("seq = 1042", "seq = 0", &["line 6", "begins at 1"]),
        ("seq = 1042", "seq = -1", &["line 6"]),
        ("seq = 1042\n", "", &["seq"]),
        ("by = \"git\"", "by = \"\"", &["line 9", "1 to 64"]),
        ("by = \"git\"", "by = \"a\\u001b[2J\"", &["line 9", "cannot be shown"]),
        ("by = \"git\"", "by = \"a\\u202eb\"", &["line 9", "cannot be shown"]),
        ("reason = \"hook\"", "reason = \"whim\"", &["line 10", "whim"]),
        ("reason = \"hook\"", "reason = \"hook\"\ntags = [\"A\"]", &["line 11", "no tag"]),
        ("reason = \"hook\"", "reason = \"hook\"\npart = 3", &["names part 3"]),
        ("reason = \"hook\"", "reason = \"hook\"\npart = 70000", &["line 11"]),
        ("reason = \"hook\"", "reason = \"hook\"\nrepairs = []", &["line 11", "repairs", "1 to 400"]),
        (
            "reason = \"hook\"",
            "reason = \"hook\"\nrefs = \"sha256:0707070707070707070707070707070707070707070707070707070707070707\"",
            &["both"],
        ),
        ("reason = \"hook\"", "reason = \"hook\"\nextra = 1", &["line 11", "extra"]),
        ("reason = \"hook\"", "reason = \"hook\"\nreason = \"hook\"", &["line 11", "duplicate"]),
        ("03:15:00Z\n", "03:15:00\n", &["line 8", "UTC"]),
        ("03:15:00Z\n", "03:15:00.5Z\n", &["line 8", "UTC"]),
        ("03:15:00Z\n", "03:15:00+01:00\n", &["line 8", "UTC"]),
        ("2026-11-20T03:15:00Z\n", "\"2026-11-20T03:15:00Z\"\n", &["line 8"]),
        ("files:/var/www", "files:/var/../www", &["line 5", "shortest form"]),
        ("\"web1\"", "\"../web1\"", &["line 3", "name"]),
        ("3f9a1c7e", "3f9a1c7e.1", &["names no part"]),
        ("3f9a1c7e", "3f9a1c7e.01", &["line 2"]),
        ("blake3:07", "blake3:0", &["digest"]),
        ("blake3:07", "sha256:07", &["digest"]),
    ];
    for (from, to, words) in cases {
        let text = good.replacen(from, to, 1);
        assert_ne!(&text, &good, "{from}");
        let error = Request::parse(text.as_bytes()).unwrap_err();
        assert_eq!(error.kind(), base::Kind::Refused);
        for word in *words {
            assert!(error.render().contains(word), "{to}: {word:?} is missing in {}", error.render());
        }
    }
    let mut member = sample();
    let other: Dataset = "postgres:shop".parse().unwrap();
    let id = "20261120T031400Z-3f9a1c7d".parse().unwrap();
    member.group = Some(Group { id, name: "shop".into(), members: vec![other.clone(), member.dataset.clone()], lacks: vec![other] });
    member.check().unwrap();
    let text = String::from_utf8(member.to_toml()).unwrap();
    let lines = "group = \"20261120T031400Z-3f9a1c7d\"\ngroup_name = \"shop\"\ngroup_members = [\"postgres:shop\", \"files:/var/www\"]\ngroup_lacks = [\"postgres:shop\"]\n";
    assert!(text.ends_with(lines), "{text}");
    for (from, to) in [
        ("group = \"20261120T031400Z-3f9a1c7d\"\n", ""),
        ("group_name = \"shop\"\n", ""),
        ("group_name = \"shop\"", "group_name = \"../shop\""),
        ("group_members = [\"postgres:shop\", \"files:/var/www\"]\n", ""),
        ("\"files:/var/www\"]", "\"files:/var/other\"]"),
        ("group_lacks = [\"postgres:shop\"]", "group_lacks = [\"files:/var/www\"]"),
        ("group_lacks = [\"postgres:shop\"]", "group_lacks = [\"postgres:shop\", \"postgres:shop\"]"),
        ("3f9a1c7d\"\ngroup_name", "3f9a1c7d.1\"\ngroup_name"),
        (lines, "group_lacks = []\n"),
    ] {
        assert!(text.contains(from), "{from}");
        assert!(Request::parse(text.replacen(from, to, 1).as_bytes()).is_err(), "{from} -> {to}");
    }
    let mut part = sample();
    part.id = part.id.with_part(12).unwrap();
    part.check().unwrap();
    let text = String::from_utf8(part.to_toml()).unwrap();
    assert!(text.ends_with("\npart = 12\n"), "{text}");
    for (from, to) in [("part = 12", "part = 13"), ("part = 12\n", ""), ("7e.12", "7e")] {
        assert!(Request::parse(text.replacen(from, to, 1).as_bytes()).is_err(), "{to}");
    }
    part.payload = Payload::Nothing;
    assert!(part.check().is_err());
    let long = format!("{good}#{}", "x".repeat(FILE_LIMIT));
    assert!(Request::parse(long.as_bytes()).is_err());
    assert!(Request::parse(b"\xff").is_err());
    let mut unwritable = sample();
    unwritable.by = "a\nb".into();
    assert!(unwritable.check().is_err());
    unwritable.by = Request::fit_by(&unwritable.by);
    unwritable.check().unwrap();
}

pub(crate) fn any_request() -> impl Strategy<Value = Request> {
    let payload = prop_oneof![
        Just(Payload::Nothing),
        any::<[u8; 32]>().prop_map(|d| Payload::Manifest(Blake3(d))),
        any::<[u8; 32]>().prop_map(|d| Payload::Refs(Sha256(d))),
    ];
    let reason = prop_oneof![Just(Reason::Hook), Just(Reason::Schedule), Just(Reason::Manual), Just(Reason::Heal)];
    let id = "[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}".prop_map(|text| text.parse::<RequestId>().unwrap());
    (
        (id.clone(), "[a-z0-9][a-z0-9-]{0,20}x", "[a-z0-9][a-z0-9-]{0,20}x", "[a-z]{1,8}:/[a-z\"'\\\\ =#äß]{1,30}z"),
        (1..=i64::MAX as u64, proptest::option::of(id), 0i64..253_402_300_000, ".{1,16}", reason),
        (
            proptest::collection::vec("[a-z0-9._-]{1,64}", 0..16),
            payload,
            proptest::collection::btree_set(any::<[u8; 32]>(), 0..5),
            0u16..=9999,
        ),
    )
        .prop_map(|((id, client, node, dataset), (seq, prev, submitted, by, reason), (tags, payload, repairs, part))| {
            let is_part = matches!(payload, Payload::Manifest(_)) && part > 0 && repairs.is_empty();
            let (dataset, tags_are_odd) = (dataset.parse::<Dataset>().unwrap(), tags.len() % 2 == 1);
            Request {
                id: if is_part { id.with_part(part).unwrap() } else { id.clone() },
                client: Name::new(client).unwrap(),
                node: Name::new(node).unwrap(),
                dataset: dataset.clone(),
                seq,
                prev,
                submitted: Timestamp::from_second(submitted).unwrap(),
                by: Request::fit_by(&by),
                reason,
                tags,
                payload,
                group: (!is_part && tags_are_odd).then(|| Group {
                    id,
                    name: "of.both_0-1".into(),
                    members: vec!["dummy:z".parse().unwrap(), dataset],
                    lacks: if part > 3 { vec![] } else { vec!["dummy:z".parse().unwrap()] },
                }),
                repairs: repairs.into_iter().filter(|_| matches!(payload, Payload::Manifest(_))).map(Blake3).collect(),
            }
        })
}

proptest! {
    #[test]
    fn every_request_survives_its_file(request in any_request()) {
        let bytes = request.to_toml();
        prop_assert_eq!(&Request::parse(&bytes).unwrap(), &request);
        prop_assert_eq!(Request::parse(&bytes).unwrap().to_toml(), bytes);
        request.check().unwrap();
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), cut in 0usize..400) {
        let _ = Request::parse(&bytes);
        let mut good = sample().to_toml();
        good.truncate(cut);
        let _ = Request::parse(&good);
    }
}
