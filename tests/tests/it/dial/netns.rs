//! A client behind a router that hides it, in network namespaces of their own: the node has no way to it at all.
//!
//! Needs root for the namespaces, which are removed afterwards.

use super::{come_back, installation, sources, wait_at_the_gate};
use crate::harness::{Killed, Loopback, not_tested, root, run, until};
use std::process::{Command, Stdio};

/// What is tried here.
const HIDDEN: &str = "a client that the node has no way to";

/// The node's address, in a network that the router's outer side is in as well.
const NODE: &str = "192.0.2.1";
/// The client's, in a network that nobody outside knows.
const CLIENT: &str = "10.77.0.2";

/// Three namespaces: the node, a router with address translation, the client.
struct Nets<'a> {
    safe: &'a Loopback,
    sshd: Vec<Killed>,
}

impl<'a> Nets<'a> {
    fn make(safe: &'a Loopback) -> Self {
        let this = Self { safe, sshd: Vec::new() };
        let [node, router, client] = ["node", "router", "client"].map(|name| this.name(name));
        let script = format!(
            "for ns in {node} {router} {client}; do ip netns add $ns; ip -n $ns link set lo up; done
             ip -n {node} link add wire type veth peer name out netns {router}
             ip -n {client} link add wire type veth peer name in netns {router}
             ip -n {node} addr add {NODE}/30 dev wire; ip -n {router} addr add 192.0.2.2/30 dev out
             ip -n {client} addr add {CLIENT}/30 dev wire; ip -n {router} addr add 10.77.0.1/30 dev in
             for net in '{node} wire' '{router} out' '{router} in' '{client} wire'; do set -- $net; ip -n $1 link set $2 up; done
             ip -n {client} route add default via 10.77.0.1
             ip netns exec {router} sh -ec 'echo 1 >/proc/sys/net/ipv4/ip_forward; nft -f -' <<'END'
table ip nat {{
  chain out {{
    type nat hook postrouting priority 100;
    oifname \"out\" masquerade
  }}
}}
table ip filter {{
  chain through {{
    type filter hook forward priority 0; policy drop;
    ct state established,related accept
    iifname \"in\" accept
  }}
}}
END"
        );
        this.safe.sh(&script);
        this
    }

    fn name(&self, which: &str) -> String {
        format!("nst{}-{which}", std::process::id())
    }

    /// A program in one of them.
    fn command(&self, which: &str, program: &str) -> Command {
        let mut command = self.safe.command("ip");
        command.args(["netns", "exec", &self.name(which), program]);
        command
    }

    /// An sshd in one of them, as the installation's is but for its address.
    fn sshd(&mut self, which: &str, address: &str, keys: &str) {
        let config = self.safe.read("sshd_config").replace("ListenAddress 127.0.0.1", &format!("ListenAddress {address}"));
        let config: String = config
            .lines()
            .filter(|line| !line.starts_with("AuthorizedKeysFile") && !line.starts_with("PidFile"))
            .map(|line| format!("{line}\n"))
            .collect();
        let pid = self.safe.text(&format!("{which}.listening"));
        self.safe.write(&format!("{which}.sshd"), &format!("{config}AuthorizedKeysFile {keys}\nPidFile {pid}\n"));
        let mut sshd = self.command(which, "/usr/sbin/sshd");
        sshd.args(["-D", "-f"]).arg(self.safe.at(&format!("{which}.sshd"))).arg("-E").arg(self.safe.at(&format!("{which}.sshd.log")));
        self.sshd.push(Killed::start(sshd.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null())));
        until("sshd listens", || self.safe.at(&format!("{which}.listening")).exists());
    }

    /// Whether a connection from one of them to an address comes about.
    fn connects(&self, from: &str, address: &str) -> bool {
        let port = self.safe.port();
        run(self.command(from, "timeout").args(["10", "bash", "-c", &format!("exec 3<>/dev/tcp/{address}/{port}")])).code == Some(0)
    }
}

impl Drop for Nets<'_> {
    fn drop(&mut self) {
        self.sshd.clear();
        for which in ["node", "router", "client"] {
            // What still runs in it, a connection that is kept for a minute, goes with it.
            let script = format!("for pid in $(ip netns pids {0}); do kill -9 $pid; done; ip netns del {0}", self.name(which));
            let _ = run(self.safe.command("sh").args(["-c", &script]));
        }
    }
}

#[test]
fn a_client_that_the_node_has_no_way_to_is_backed_up_and_restored() {
    if !root() {
        return not_tested(HIDDEN, "this user is not root");
    }
    let safe = installation();
    let namespaces = safe.run("unshare", &["--net", "true"]);
    if namespaces.code != Some(0) {
        return not_tested(HIDDEN, &format!("network namespaces cannot be made here: {namespaces}"));
    }
    let (files, git) = sources(&safe);
    let mut nets = Nets::make(&safe);
    safe.loopback("stop").exits(0);
    nets.sshd("node", NODE, &safe.text("node/data/access/authorized_keys"));
    // On the client too, and the node's key would open it: it is the network alone that keeps the node away.
    safe.write("client/authorized_keys", &safe.read("node/pull.pub"));
    nets.sshd("client", "0.0.0.0", &safe.text("client/authorized_keys"));
    safe.edit("client.toml", "@127.0.0.1:", &format!("@{NODE}:"));
    assert!(nets.connects("client", NODE) && nets.connects("client", "127.0.0.1"), "the client gets to the node, and has an sshd");
    for address in [CLIENT, "192.0.2.2", "10.77.0.1"] {
        assert!(!nets.connects("node", address), "the node gets to {address}");
    }
    for (module, path) in [("files", &files), ("git", &git)] {
        run(nets.command("client", "nightsafe").args(["submit", module, path])).exits(0);
    }
    let send = Killed::start(nets.command("client", "nightsafe").arg("send"));
    wait_at_the_gate(&safe, 2);
    run(nets.command("node", "nightsafe-server").arg("poll")).silent();
    assert!(send.wait().success(), "send has its receipts and goes");
    assert!(!safe.read("client.sshd.log").contains("Accepted"), "nobody logged in to the client");
    // Restores come the usual way, from where the client is.
    let back = safe.text("back/far");
    run(nets.command("client", "nightsafe").args(["restore", &format!("files:{files}"), "--target", &back])).exits(0);
    crate::harness::same_trees(std::path::Path::new(&files), std::path::Path::new(&back));
    drop(nets);
    safe.edit("client.toml", &format!("@{NODE}:"), "@127.0.0.1:");
    safe.loopback("start").exits(0);
    come_back(&safe, &files, &git);
}
