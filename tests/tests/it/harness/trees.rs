//! Folders to back up, and comparing them by `find` and `diff`.

use super::run::{command, run, source_root};
use std::path::Path;

/// Makes a folder with what people have, and with what they forget to test.
pub fn tree(folder: &Path) {
    let script = r#"
        mkdir -p "$1" && cd "$1"
        mkdir -p a/b/c a.d "with space" empty closed many
        printf hello >a/hello
        printf 'sorted before a slash' >a-minus
        printf x >a.d/x
        : >a/b/c/nothing
        printf 'one\n' >hard-1 && ln hard-1 a/hard-2 && ln hard-1 a/b/hard-3
        ln -s hello a/link && ln -s /nowhere dangling && ln -s .. a/b/up
        printf 'odd' >"$(printf 'new\nline')"
        printf 'latin' >"$(printf 'latin-\344')"
        printf 'quote' >"\"'\\ \$x"
        head -c 1048576 /dev/urandom >exactly-one-mib
        head -c 5000001 /dev/urandom >random
        yes 'the same line again' | head -c 3000000 >repeated
        truncate -s 4M sparse && printf end >>sparse
        truncate -s 1G void && ln void a/void
        mkfifo -m 0640 fifo && ln fifo a/z-fifo
        python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("socket")'
        setfattr -n user.comment -v "a comment" a/hello && setfattr -n user.empty many
        setfacl -m u:1:r,g:33:rwx,u:4711:- random && setfacl -dm u:1:rx empty
        if [ "$(id -u)" = 0 ]; then
            mknod null c 1 3 && mknod loop b 7 200
            setfattr -n trusted.mark -v 0x00ff dangling && setfattr -n trusted.mark -v x fifo
            cp /bin/true capable && chown 1:33 capable && setcap cap_net_raw+ep capable && chmod 6755 capable
            ln null a/null && chown -h 1:33 dangling
        fi
        i=0; while [ $i -lt 300 ]; do printf '%s\n' "$i" >"many/file-$i"; i=$((i + 1)); done
        chmod 0755 a/hello && chmod 0600 random && chmod 0400 a.d/x && if [ "$(id -u)" = 0 ]; then chmod 0000 a.d/x; fi && chmod 0700 closed && chmod 1777 empty && chmod 2750 many
        touch -d '1969-12-31 23:59:58.5 UTC' a/hello
        touch -d '2001-02-03 04:05:06.789012345 UTC' hard-1 empty
        touch -h -d '2010-01-01 00:00:00.000000001 UTC' dangling
        touch -d '2020-02-29 UTC' a/b .
    "#;
    run(command("sh", Path::new("/")).args(["-euc", script, "sh"]).arg(folder)).ok();
}

/// Every entry with type, mode, owner, time, and for all but folders size, number of names and target; in one order.
pub fn listing(folder: &Path) -> String {
    let script = r"find . ! -type s \( -type d -printf '%P|%y %m %U:%G %T@\0' -o -printf '%P|%y %m %U:%G %T@ %s %n %l\0' \) | sort -z | tr '\0' '\n'";
    run(command("sh", Path::new("/")).args(["-euc", script]).current_dir(folder)).ok()
}

/// Which names belong to one file, one file a line.
fn hard_links(folder: &Path) -> String {
    let script =
        r#"find . -type f -links +1 -printf '%i %P\n' | sort | awk '{ g[$1] = g[$1] " " $2 } END { for (i in g) print g[i] }' | sort"#;
    run(command("sh", Path::new("/")).args(["-euc", script]).current_dir(folder)).ok()
}

/// Two folders are the same in everything that is backed up.
#[track_caller]
pub fn same_trees(a: &Path, b: &Path) {
    let (left, right) = (listing(a), listing(b));
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<std::collections::BTreeSet<_>>();
    let (left, right) = (lines(&left), lines(&right));
    let only = |one: &std::collections::BTreeSet<String>, other| one.difference(other).cloned().collect::<Vec<_>>().join("\n  ");
    assert_eq!(left, right, "\n{}:\n  {}\n{}:\n  {}", a.display(), only(&left, &right), b.display(), only(&right, &left));
    assert_eq!(hard_links(a), hard_links(b));
    let (left, right) = (lines(&seen(a)), lines(&seen(b)));
    assert_eq!(left, right, "\n{}:\n  {}\n{}:\n  {}", a.display(), only(&left, &right), b.display(), only(&right, &left));
}

/// What stat, getfattr and getfacl see of a folder and all that is in it, with digests and holes of files.
pub fn seen(folder: &Path) -> String {
    run(command("python3", Path::new("/")).arg(source_root().join("tests/seen.py")).arg(folder)).ok()
}
