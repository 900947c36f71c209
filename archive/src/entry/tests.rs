//! Lines: what they are, hostile ones, and that every entry survives its own.

use super::*;
use proptest::prelude::*;

const FILE: &str = r#"{"path":"a/b","type":"file","mode":"0644","uid":0,"gid":0,"user":"root","mtime":"-1.500000000","size":5,"chunks":"00000000000000ab/3/0","digest":"000102030405060708090a0b0c0d0e0f"}"#;

#[test]
fn a_line_is_what_the_format_says() {
    let entry = Entry::parse(FILE.as_bytes()).unwrap();
    assert_eq!(entry.to_line().unwrap(), FILE);
    assert_eq!(entry.mtime, Mtime { seconds: -1, nanos: 500_000_000 });
    let root = r#"{"path":"","type":"dir","mode":"1777","uid":0,"gid":0,"mtime":"0.000000000"}"#;
    assert_eq!(Entry::parse(root.as_bytes()).unwrap().to_line().unwrap(), root);
    let link = r#"{"path_b64":"/w==","type":"link","mode":"0777","uid":0,"gid":0,"mtime":"0.000000000","target_b64":"/w=="}"#;
    assert_eq!(Entry::parse(link.as_bytes()).unwrap().to_line().unwrap(), link);
}

#[test]
fn hostile_lines() {
    let with = |from: &str, to: &str| {
        assert!(FILE.contains(from), "{from}");
        FILE.replace(from, to)
    };
    let mut bad: Vec<String> = ["", "{}", "[]", "null", "\u{0}", "{", "{\"path\":\"a\"}"].map(String::from).into();
    for path in ["/a", "../a", "a/../b", "a/..", ".", "..", "./a", "a//b", "a/", "/", "a\\u0000b", "a/./b", ""] {
        let line = with("a/b", path);
        // A file may be the dataset itself.
        if path.is_empty() { assert!(Entry::parse(line.as_bytes()).is_ok()) } else { bad.push(line) }
    }
    bad.push(with("\"path\":\"a/b\"", "\"path\":\"a\",\"path_b64\":\"YQ==\""));
    bad.push(with("\"path\":\"a/b\"", "\"path_b64\":\"Y\""));
    bad.push(with("\"path\":\"a/b\"", "\"path_b64\":\"Li4=\""));
    bad.push(with("\"path\":\"a/b\"", "\"path\":\"a\",\"path\":\"b\""));
    bad.push(with("a/b", &"a".repeat(70_000)));
    for (from, to) in [
        ("\"file\"", "\"dir\""),
        ("\"file\"", "\"link\""),
        ("\"file\"", "\"fifo\""),
        ("\"file\"", "\"socket\""),
        ("0644", "644"),
        ("0644", "0888"),
        ("0644", "+644"),
        ("0644", "00644"),
        ("\"uid\":0", "\"uid\":-1"),
        ("\"uid\":0", "\"uid\":4294967296"),
        ("\"uid\":0", "\"uid\":\"0\""),
        ("-1.500000000", "-1.5"),
        ("-1.500000000", "1"),
        ("-1.500000000", "--1.500000000"),
        ("-1.500000000", ".500000000"),
        ("-1.500000000", "99999999999999999999.000000000"),
        ("\"size\":5,", ""),
        ("\"size\":5", "\"size\":0"),
        ("\"size\":5", "\"size\":-5"),
        ("\"size\":5", "\"size\":18446744073709551616"),
        ("\"chunks\":\"00000000000000ab/3/0\",", ""),
        ("ab/3/0", "ab/3"),
        ("0e0f", "0e"),
        ("0e0f", "0E0F"),
        ("\"chunks\"", "\"xattrs\""),
        ("\"size\":5", "\"size\":5,\"data\":4"),
        ("\"size\":5", "\"size\":5,\"holes\":\"0+1\""),
        ("\"size\":5", "\"size\":5,\"data\":4,\"holes\":\"0+2\""),
        ("\"size\":5", "\"size\":5,\"data\":4,\"holes\":\"5+1\""),
        ("\"size\":5", "\"size\":5,\"data\":0,\"holes\":\"0+5\""),
        ("\"size\":5", "\"size\":5,\"data\":4,\"holes\":\"0+1\",\"holes_more\":\"00000000000000ab/3/0\""),
        ("\"size\":5", "\"size\":5,\"data\":5,\"holes_more\":\"00000000000000ab/3/0\""),
        ("\"size\":5", "\"size\":5,\"major\":1,\"minor\":1"),
        ("\"size\":5", "\"size\":5,\"acl\":\"user::rw-\""),
        ("\"size\":5", "\"size\":5,\"default_acl\":\"user::rw-,group::r--,other::r--\""),
        ("\"size\":5", "\"size\":5,\"acl_names\":{\"user:1\":\"x\"}"),
        ("\"size\":5", "\"size\":5,\"acl\":\"user::rw-,group::r--,other::r--\",\"acl_names\":{\"user:\":\"x\"}"),
        ("\"size\":5", "\"size\":5,\"xattrs\":{\"user.a\":\"!\"}"),
        ("\"size\":5", "\"size\":5,\"xattrs\":{\"\":\"\"}"),
        ("\"size\":5", "\"size\":5,\"xattrs\":{\"a\":\"\"},\"xattrs_b64\":{\"YQ==\":\"\"}"),
        ("\"size\":5", "\"size\":5,\"xattrs\":{\"a\":\"\"},\"xattrs_more\":\"00000000000000ab/3/0\""),
        ("\"size\":5", "\"size\":5,\"target\":\"x\""),
        ("\"size\":5", "\"size\":5,\"more\":\"00000000000000ab/3/0\""),
    ] {
        bad.push(with(from, to));
    }
    for line in bad {
        assert!(Entry::parse(line.as_bytes()).is_err(), "{line:?}");
    }
    assert!(Entry::parse(&vec![b' '; limits::LINE + 1]).is_err());
    let dir = r#"{"path":"a","type":"dir","mode":"0755","uid":0,"gid":0,"mtime":"0.000000000"}"#;
    assert!(Entry::parse(dir.as_bytes()).is_err());
    let newer = Entry::parse(with("\"chunks\"", "\"flags\"").as_bytes()).unwrap_err();
    assert!(newer.render().contains("newer nightsafe"), "{}", newer.render());
}

fn path() -> impl Strategy<Value = Vec<u8>> {
    let part = prop::collection::vec(any::<u8>().prop_filter("no part of a path", |b| *b != 0 && *b != b'/'), 1..12)
        .prop_filter("means something else", |part| part != b"." && part != b"..");
    prop::collection::vec(part, 1..5).prop_map(|parts| parts.join(&b'/'))
}

fn kind() -> impl Strategy<Value = EntryKind> {
    use crate::reference::{Member, RunId};
    let list = || {
        prop::collection::vec((0u64..3, any::<u32>(), any::<u32>()), 1..5)
            .prop_map(|all| References::of(all.into_iter().map(|(run, frame, n)| Member { run: RunId(run), frame, n })))
    };
    let content = (list(), any::<bool>()).prop_map(|(list, more)| if more { Content::More(list) } else { Content::Chunks(list) });
    let file = (1u64.., content, any::<[u8; 16]>(), sparse(list())).prop_map(|(data, content, digest, sparse)| {
        let (size, sparse) = sparse.map_or((data, None), |(more, holes)| {
            let length = holes.iter().map(|hole| hole.length).sum::<u64>();
            let data = data.clamp(1 << 40, u64::MAX >> 1);
            let holes = more.map_or(Holes::List(holes), Holes::More);
            (data + length, Some(Sparse { data, holes }))
        });
        EntryKind::File { size, content, digest: FileDigest(digest), sparse }
    });
    let empty = any::<[u8; 16]>().prop_map(|digest| EntryKind::File {
        size: 0,
        content: Content::Chunks(References::default()),
        digest: FileDigest(digest),
        sparse: None,
    });
    let device = any::<(bool, u32, u32)>().prop_map(|(block, major, minor)| EntryKind::Device { block, major, minor });
    prop_oneof![Just(EntryKind::Dir), file, empty, path().prop_map(|target| EntryKind::Link { target }), Just(EntryKind::Fifo), device]
}

/// Holes that end before 2^40, and maybe where their list is instead.
fn sparse(list: impl Strategy<Value = References>) -> impl Strategy<Value = Option<(Option<References>, Vec<Hole>)>> {
    let holes = prop::collection::vec((1u64..1 << 30, 1u64..1 << 30), 1..20).prop_map(|pairs| {
        let mut end = 0;
        let place = |(gap, length)| {
            let hole = Hole { offset: end + gap, length };
            end += gap + length;
            hole
        };
        pairs.into_iter().map(place).collect()
    });
    prop::option::of((prop::option::of(list), holes))
}

fn attributes() -> impl Strategy<Value = Option<Box<Attributes>>> {
    let name = prop::collection::vec(1u8.., 1..20);
    let xattrs = prop::collection::btree_map(name, any::<Vec<u8>>(), 0..4);
    let acl = || {
        prop::option::of(prop::collection::btree_map(any::<u32>(), 0u8..8, 0..4).prop_map(|users| {
            let fixed = [(Who::Owner, 6), (Who::OwningGroup, 4), (Who::Mask, 7), (Who::Other, 0)];
            Acl(users.into_iter().map(|(id, bits)| (if id % 2 == 0 { Who::User(id) } else { Who::Group(id) }, bits)).chain(fixed).collect())
        }))
    };
    (xattrs, acl(), acl(), any::<String>()).prop_map(|(xattrs, acl, default_acl, name)| {
        let ids = acl.iter().chain(&default_acl).flat_map(|list| list.0.keys()).filter(|who| matches!(who, Who::User(_) | Who::Group(_)));
        let names = ids.map(|who| (*who, name.clone())).collect();
        Some(Box::new(Attributes { xattrs: Xattrs::Here(xattrs), acl, default_acl, names })).filter(|all| !all.is_empty())
    })
}

proptest! {
    #[test]
    fn entries_survive_their_line(mut path in path(), kind in kind(), mode in 0u32..=0o7777, uid: u32, user: Option<String>, seconds: i64, nanos in 0u32..1_000_000_000, hard_link: Option<u64>, mut attributes in attributes()) {
        if kind == EntryKind::Dir {
            path.push(b'/');
        } else if let Some(attributes) = &mut attributes {
            attributes.default_acl = None;
        }
        if matches!(kind, EntryKind::Link { .. }) && let Some(attributes) = &mut attributes {
            attributes.acl = None;
        }
        let attributes = attributes.filter(|all| !all.is_empty());
        let hard_link = hard_link.filter(|_| kind != EntryKind::Dir);
        let mtime = Mtime { seconds, nanos };
        let entry = Entry { path, kind, mode, uid, gid: uid ^ 1, user: user.clone(), group: user, mtime, hard_link, attributes };
        let line = entry.to_line().unwrap();
        prop_assert!(!line.contains('\n'));
        prop_assert_eq!(Entry::parse(line.as_bytes()).unwrap(), entry);
    }

    #[test]
    fn attributes_survive_their_text(map in prop::collection::btree_map(prop::collection::vec(1u8.., 1..20), any::<Vec<u8>>(), 0..9)) {
        prop_assert_eq!(parse_xattrs(&xattrs_text(&map).unwrap()).unwrap(), map);
    }
}

#[test]
fn lines_with_all_that_there_is() {
    for line in [
        r#"{"path":"a","type":"fifo","mode":"0644","uid":0,"gid":0,"mtime":"0.000000000","hard_link":3}"#,
        r#"{"path":"a","type":"char","mode":"0644","uid":0,"gid":0,"mtime":"0.000000000","major":1,"minor":3}"#,
        r#"{"path":"a","type":"block","mode":"0644","uid":0,"gid":0,"mtime":"0.000000000","major":8,"minor":0}"#,
        r#"{"path":"a","type":"file","mode":"0644","uid":0,"gid":0,"mtime":"0.000000000","size":9000,"digest":"000102030405060708090a0b0c0d0e0f","data":0,"holes":"0+9000"}"#,
        r#"{"path":"a/","type":"dir","mode":"0755","uid":0,"gid":0,"mtime":"0.000000000","acl":"user::rwx,user:7:r--,group::r-x,mask::r-x,other::r-x","default_acl":"user::rwx,group::r-x,other::r-x","acl_names":{"user:7":"alice"},"xattrs":{"user.a":"eA=="},"xattrs_b64":{"dXNlci7/":""}}"#,
        r#"{"path":"a","type":"link","mode":"0777","uid":0,"gid":0,"mtime":"0.000000000","target":"x","xattrs_more":"00000000000000ab/3/0"}"#,
    ] {
        assert_eq!(Entry::parse(line.as_bytes()).unwrap().to_line().unwrap(), line);
    }
}
