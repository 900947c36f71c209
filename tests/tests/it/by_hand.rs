//! `docs/restore-by-hand.sh`: what it brings back without our programs, and what it says of a store that is not what it was.

use crate::harness::{Loopback, Run, root, run, same_trees, source_root, tree};
use std::path::Path;

fn by_hand(safe: &Loopback, store: &str, snapshot: &str, target: &str, signers: bool) -> Run {
    let mut script = safe.command("bash");
    script.arg(source_root().join("docs/restore-by-hand.sh"));
    if !signers {
        script.env_remove("NIGHTSAFE_SIGNERS");
    }
    run(script.args([store, snapshot, "identity.txt", target]))
}

const STORE: &str = "node/data/web1";

/// What few trees have; devices and owners as root alone.
fn oddities(safe: &Loopback, path: &str) {
    safe.sh(&format!(
        "cd '{path}'; printf dash >-dash; printf percent >'%s %n'; mkfifo pipe-2; ln -s \"$(printf 'to\\nthere')\" 'a/link to'
         truncate -s 300M holes; printf middle | dd of=holes bs=1 seek=100000000 conv=notrunc status=none
         setfattr -n user.bytes -v 0s/wD+AA== random; setfacl -m u:1234:r-- random; setfacl -d -m g:5:rwx many
         n=$(printf 'd%.0s' $(seq 1 200)); for i in $(seq 1 30); do mkdir $n; cd -P ./$n; done 2>/dev/null
         echo deep >file; ln -s file link; touch -d '2003-03-03 UTC' file ."
    ));
    if root() {
        safe.sh(&format!(
            "cd '{path}'; mknod null-2 c 1 3; mknod disk b 7 9; chown 1234:5678 repeated; chmod 4711 repeated; chown -h 1:2 dangling"
        ));
    }
}

/// Attributes and lists of both, which `find` does not show.
fn attributes(safe: &Loopback, folder: &str) -> String {
    safe.sh(&format!("cd '{folder}' && getfattr -h -d -m '^user|^system.posix' -e hex random many empty && find . -type b -o -type c | sort | xargs -r stat -c '%n %t %T'"))
}

#[test]
fn everything_comes_back_without_our_programs() {
    let safe = Loopback::start();
    let path = safe.text("source/tree");
    tree(Path::new(&path));
    safe.back_up("files", &path);
    let dataset = format!("latest:files:{path}");
    by_hand(&safe, STORE, &dataset, "back/plain", true).says(&["Good \"git\" signature"]).exits(0);
    same_trees(Path::new(&path), &safe.at("back/plain"));

    oddities(&safe, &path);
    safe.back_up("files", &path);
    let before = safe.sh("cd node/data && find . -printf '%p %s %T@ %C@\\n' | sort");
    by_hand(&safe, STORE, "latest", "back/odd", true).exits(0);
    let list = |folder: &str| {
        safe.sh(&format!(
            r"cd '{folder}' && find . ! -type s -printf '%P|%y %m %U:%G %T@ %n %l|%b\0' | sed -z 's/|\([dl] .*\)|.*/|\1/' | sort -z | tr '\0' '\n'"
        ))
    };
    assert_eq!(list(&path), list("back/odd"));
    assert_eq!(attributes(&safe, &path), attributes(&safe, "back/odd"));
    safe.sh(&format!("cmp '{path}/holes' back/odd/holes && cmp '{path}/random' back/odd/random"));
    assert_eq!(safe.sh("cd node/data && find . -printf '%p %s %T@ %C@\\n' | sort"), before, "it wrote into the store");
    assert_eq!(safe.sh("ls -A back"), "odd\nplain\n", "it left something behind");

    // A file, by the older of two snapshots of the store.
    safe.back_up("files", &format!("{path}/random"));
    by_hand(&safe, STORE, &format!("latest:files:{path}/random"), "back/file", true).exits(0);
    safe.sh(&format!("cmp '{path}/random' back/file/random"));
    by_hand(&safe, STORE, "latest", "back/file", true).says(&["not empty"]).exits(1);
    by_hand(&safe, STORE, "latest:files:/no/such", "back/none", true).says(&["there is no snapshot"]).exits(1);
}

#[test]
fn what_is_not_proven_or_not_there_is_said() {
    let safe = Loopback::start();
    let path = safe.text("source/tree");
    tree(Path::new(&path));
    safe.back_up("files", &path);
    by_hand(&safe, STORE, "latest", "back/unproven", false).says(&["UNVERIFIED"]).exits(3);
    same_trees(Path::new(&path), &safe.at("back/unproven"));
    let id = safe.names("node/data/web1/snapshots").remove(0);
    safe.sh("cp -a node/data/web1 changed && chmod -R u+w changed");
    // Each link of the chain, changed.
    for (file, change, said) in [
        ("request.toml", "s/seq = 1/seq = 2/", "the request is not the one that was signed"),
        ("commit", "s/asks/begs/", "the signature is wrong"),
        ("commit", "s/^tree .*/tree 0000000000000000000000000000000000000000/", "the signature is wrong"),
        ("manifest", "1s/\"entries\":/\"entries\":1/", "the manifest is not the one"),
    ] {
        safe.sh(&format!("sed -i '{change}' changed/snapshots/{id}/{file}"));
        by_hand(&safe, "changed", "latest", "back/forged", true).says(&[said]).exits(1);
        assert!(safe.names("back/forged").is_empty(), "{said}");
        safe.sh(&format!("cp {STORE}/snapshots/{id}/{file} changed/snapshots/{id}/{file}"));
    }
    safe.sh("mv allowed_signers kept; sed 's/^web1/web2/' kept >allowed_signers");
    by_hand(&safe, "changed", "latest", "back/forged", true).says(&["not in"]).exits(1);
    safe.sh("mv kept allowed_signers; age-keygen -o other 2>/dev/null; mv identity.txt kept; mv other identity.txt");
    by_hand(&safe, "changed", "latest", "back/forged", true).says(&["the identity does not open it"]).exits(1);
    safe.sh("mv kept identity.txt");
    // The pack with the data is damaged: what is elsewhere comes back, and the rest is named.
    let pack = safe.sh("ls -S changed/packs").lines().next().unwrap().to_owned();
    safe.sh(&format!("printf XXXX | dd of=changed/packs/{pack} bs=1 seek=3000 conv=notrunc status=none"));
    by_hand(&safe, "changed", "latest", "back/damaged", true).says(&[&pack, "LOST: \"random\""]).exits(3);
    assert!(!safe.at("back/damaged/random").exists() && safe.at("back/damaged/a/b/c/nothing").exists());
}

#[test]
fn nothing_leaves_the_target() {
    let safe = Loopback::start();
    // A store that somebody made to break out; the data of all its files is "evil".
    let hostile = r#"
        mkdir -p h/packs h/snapshots/20261120T031500Z-3f9a1c7e m/0123456789abcdef/0 outside; r=0123456789abcdef
        printf '%s\n' "$1" >m/$r/0/0; printf evil >m/$r/0/1
        [ -s epoch ] || age-keygen -o epoch 2>/dev/null; age-keygen -y epoch >recipient; key=$(age -r "$(age-keygen -y identity.txt)" epoch | base64 -w0)
        tar -cf t --format=ustar --mode=0600 --owner=0 --group=0 --mtime=@0 --numeric-owner -C m $r/0/0 $r/0/1; zstd -q -f t -o z; age -R recipient z >p
        d=$(b3sum --no-names p); cp p h/packs/$d
        jq -cn --arg r $r '{version: 1, id: "20261120T031500Z-3f9a1c7e", dataset: "files:/x", root: {ref: "\($r)/0/0", level: 0}, secret: ("00" * 32), unreadable: []}' | age -R recipient >s
        jq -cn --arg k "$key" --arg e "$(cat recipient)" --arg d "blake3:$d" '{version: 1, id: "20261120T031500Z-3f9a1c7e", client: "web1", node: "node1", dataset: "files:/x",
            epoch: {recipient: $e, recipients: ["x"], key_file: $k}, packs: [{digest: $d, size: 1}], counts: {entries: 1}}' | cat - s >h/snapshots/20261120T031500Z-3f9a1c7e/manifest
        printf 'manifest = "blake3:%s"\nsubmitted = "x"\n' "$(b3sum --no-names h/snapshots/20261120T031500Z-3f9a1c7e/manifest)" >h/snapshots/20261120T031500Z-3f9a1c7e/request.toml
    "#;
    let base = r#""mode":"0644","uid":0,"gid":0,"mtime":"1.000000000""#;
    let folder = |path: &str| format!(r#"{{"path":"{path}","type":"dir",{base}}}"#);
    let file = |path: &str, list: &str| format!(r#"{{"path":"{path}","type":"file",{base},"size":4,"chunks":"{list}"}}"#);
    let link = |path: &str, target: &str| format!(r#"{{"path":"{path}","type":"link",{base},"target":"{target}"}}"#);
    let (evil, outside) = ("0123456789abcdef/0/1", safe.text("outside"));
    let long = vec!["l".repeat(200); 20].join("/");
    let cases = [
        file("../outside/a", evil),
        file("a/../../outside/a", evil),
        file(&format!("{outside}/a"), evil),
        format!(r#"{{"path_b64":"Li4vb3V0c2lkZS9h","type":"file",{base},"size":4,"chunks":"{evil}"}}"#),
        [link("a", &outside), file("a/evil", evil)].join("\n"),
        [link("a", "../outside"), file("a/evil", evil)].join("\n"),
        [link("a", &outside), folder("a/"), file("a/evil", evil)].join("\n"),
        [link("l", &outside), file(&format!("l/{long}"), evil)].join("\n"),
        file("a", "../../identity.txt"),
        file("a", "0123456789abcdef/0/1,../../../identity.txt"),
        // A length that would let tar take content for headers.
        file("a", evil).replace("\"size\":4", "\"size\":1024"),
    ];
    for lines in cases {
        let mut make = safe.command("sh");
        let lines = [folder(""), lines].join("\n");
        run(make.args(["-euc", hostile, "sh", &lines])).exits(0);
        safe.sh("chmod -R u+rwX back; rm -rf back/h");
        let tried = by_hand(&safe, "h", "20261120T031500Z-3f9a1c7e", "back/h", false);
        assert!(matches!(tried.code, Some(c) if c != 0), "{lines}\n{tried}");
        assert!(safe.names("outside").is_empty(), "{lines}\n{tried}");
        let identity = safe.sh("grep -rl AGE-SECRET-KEY back || true");
        assert_eq!(identity, "", "{lines}\n{tried}");
    }
}
