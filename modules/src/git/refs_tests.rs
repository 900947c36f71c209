//! Both sources of a list of refs, and hostile ones.

use super::*;
use proptest::prelude::*;

const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

#[test]
fn both_sources_give_the_same_list() {
    let line = |text: &str| format!("{:04x}{text}", text.len() + 4);
    let advertised = [
        line(&format!("{A} HEAD\0multi_ack symref=HEAD:refs/heads/main object-format=sha1 agent=git/2\n")),
        line(&format!("{A} refs/heads/main\n")),
        line(&format!("{B} refs/kept/x/heads/main\n")),
        line(&format!("{B} refs/tags/v1\n")),
        line(&format!("{A} refs/tags/v1^{{}}\n")),
        "0000".into(),
    ]
    .concat();
    let listed = format!(
        "ref: refs/heads/main\tHEAD\n{A}\tHEAD\n{A}\trefs/heads/main\n{B}\trefs/kept/x/heads/main\n{B}\trefs/tags/v1\n{A}\trefs/tags/v1^{{}}\n"
    );
    let first = RefList::from_advertisement(advertised.as_bytes()).unwrap();
    assert_eq!(first, RefList::from_ls_remote(listed.as_bytes()).unwrap());
    assert!(first.told_of_left_out().unwrap().starts_with("1 ref below refs/kept/, refs/nightsafe/, refs/replace/ is not"));
    assert_eq!(
        String::from_utf8(first.to_bytes()).unwrap(),
        format!("HEAD refs/heads/main\nleft-out 1\n{A} refs/heads/main\n{B} refs/tags/v1\n")
    );
    let empty = line(&format!("{} capabilities^{{}}\0agent=git/2\n", "0".repeat(40))) + "0000";
    assert_eq!(RefList::from_advertisement(empty.as_bytes()).unwrap(), RefList::from_ls_remote(b"").unwrap());
    for bad in [
        "",
        "0003",
        "zzzz",
        "0009abc",
        &line("nonsense\n"),
        &(line(&format!("{A} refs/heads/a\0object-format=sha256\n")) + "0000"),
        &(line(&format!("{A} refs/heads/a\0\n")) + &line(&format!("shallow {A}\n")) + "0000"),
    ] {
        assert!(RefList::from_advertisement(bad.as_bytes()).is_err(), "{bad:?}");
    }
}

#[test]
fn what_is_no_list_is_refused() {
    for good in [
        "HEAD -\n".to_owned(),
        format!("HEAD {A}\n"),
        format!("HEAD refs/heads/a\n{A} refs/heads/a\n"),
        format!("HEAD -\n{A} refs/heads/a-b\n{A} refs/heads/a/b\n"),
        "HEAD refs/heads/unborn\n".to_owned(),
        "HEAD -\nleft-out 12\n".to_owned(),
        format!("HEAD refs/heads/a\ndescription x\nleft-out 1\n{A} refs/heads/a\n"),
        format!("HEAD refs/heads/a\ndescription It's <b>ü</b> & more\n{A} refs/heads/a\n"),
    ] {
        assert_eq!(RefList::parse(good.as_bytes()).unwrap().to_bytes(), good.as_bytes());
    }
    let names = [
        "refs/heads/a b",
        "refs/heads/../a",
        "refs/heads/a..b",
        "refs/heads/.a",
        "refs/heads/a.lock",
        "refs/heads//a",
        "refs/heads/",
        "heads/a",
        "HEAD",
        "refs/heads/a^{}",
        "refs/heads/a:b",
        "refs/heads/a@{1}",
        "refs/heads/a.",
        "refs/kept/a",
        "refs/nightsafe/x",
        "refs/replace/x",
        "refs/heads/a\u{7f}",
        "refs/heads/a\0",
    ];
    for name in names
        .iter()
        .map(|name| (*name).to_owned())
        .chain([format!("refs/heads/{}", "x".repeat(241)), format!("refs/{}", "x/".repeat(600) + "x")])
    {
        assert!(RefList::parse(format!("HEAD -\n{A} {name}\n").as_bytes()).is_err(), "{name:?}");
    }
    for bad in [
        "",
        "\n",
        "HEAD\n",
        "HEAD -",
        "HEAD refs/tags/a\n",
        "HEAD refs/heads/.a\n",
        "HEAD -\ndescription \n",
        "HEAD -\ndescription a\tb\n",
        "HEAD -\ndescription  a\n",
        "HEAD -\ndescription a\ndescription b\n",
        "HEAD -\nleft-out 0\n",
        "HEAD -\nleft-out 01\n",
        "HEAD -\nleft-out +1\n",
        "HEAD -\nleft-out 99999999999999999999999\n",
        "HEAD -\nleft-out 1\nleft-out 1\n",
        "HEAD -\nleft-out 1\ndescription a\n",
        &format!("HEAD -\n{A} refs/heads/a\ndescription a\n"),
        &format!("HEAD -\ndescription {}\n", "x".repeat(513)),
        "HEAD -\n\n",
        &format!("HEAD -\n{A}\n"),
        &format!("HEAD -\n{} refs/heads/a\n", A.to_uppercase()),
        &format!("HEAD -\n{A} refs/heads/b\n{A} refs/heads/a\n"),
        &format!("HEAD -\n{A} refs/heads/a\n{A} refs/heads/a\n"),
        &format!("HEAD -\n{A} refs/heads/a\n{A} refs/heads/a-b\n{A} refs/heads/a/b\n"),
    ] {
        assert!(RefList::parse(bad.as_bytes()).is_err(), "{bad:?}");
    }
}

proptest! {
    #[test]
    fn what_parses_is_what_was_written(bytes in proptest::collection::vec(any::<u8>(), 0..200), names in proptest::collection::btree_set("refs/[a-c/]{1,6}", 0..6)) {
        for bytes in [bytes, names.iter().fold(b"HEAD -\n".to_vec(), |mut all, name| { all.extend(format!("{A} {name}\n").bytes()); all })] {
            if let Ok(list) = RefList::parse(&bytes) {
                prop_assert_eq!(list.to_bytes(), bytes);
                prop_assert!(list.nested().is_none());
            }
        }
    }
}
