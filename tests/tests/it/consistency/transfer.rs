//! zstd's level and the bandwidth of a dataset.

use super::configure;
use crate::harness::Loopback;

#[test]
fn level_and_bandwidth_of_a_dataset() {
    let safe = Loopback::start();
    let (small, slow) = (safe.text("source/small"), safe.text("source/slow"));
    safe.sh(&format!(
        "mkdir '{small}' '{slow}'; seq 400000 >'{small}/text'; cp '{small}/text' small; head -c 3000000 /dev/urandom >'{slow}/x'"
    ));
    let stored = |path: &str| {
        safe.back_up("files", path);
        let newest = safe.snapshots_in_order().pop().unwrap();
        let text = safe.read(&format!("node/data/web1/snapshots/{newest}/accepted.toml"));
        text.lines().find_map(|line| line.strip_prefix("bytes_fetched = ")).unwrap().parse::<u64>().unwrap()
    };
    let config = safe.read("client.toml");
    configure(&safe, &format!("[[dataset]]\naddress = \"files:{small}\"\nlevel = 1"));
    let fast = stored(&small);
    safe.write("client.toml", &config);
    // Of another content, so that all of it is sent again.
    safe.sh(&format!("seq 1 400001 >'{small}/text'; rm -rf client/index client/cache"));
    configure(
        &safe,
        &format!("[[dataset]]\naddress = \"files:{small}\"\nlevel = 19\n[[dataset]]\naddress = \"files:{slow}\"\nbandwidth = \"1 MiB\""),
    );
    let tight = stored(&small);
    assert!(tight < fast, "{tight} {fast}");
    safe.client(&["verify"]).exits(0);
    // At 1 MiB a second nearly 3 MB cannot come in less than two; how much longer it takes is the machine's matter.
    safe.client(&["submit", "files", &slow]).exits(0);
    safe.client(&["send"]).silent();
    let begun = std::time::Instant::now();
    safe.node(&["poll"]).silent();
    assert!(begun.elapsed().as_millis() > 2000, "{:?}", begun.elapsed());
    safe.client(&["send"]).silent();
    assert_eq!(super::snapshots(&safe, &format!("files:{slow}")), 1);
    // A mirror goes by no level, and through no export folder.
    safe.write("client.toml", &format!("{config}\n[[dataset]]\naddress = \"git:/srv/a.git\"\nbandwidth = \"1 MiB\"\n"));
    safe.client(&["config", "check"]).exits(2).says(&["bandwidth", "sealed = true"]);
}
