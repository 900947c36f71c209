use super::*;
use queue::enrol::{NodeKeys, Pinned};

const OWN: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

fn key(letter: char) -> String {
    OWN.replace("IJdD", &format!("IJd{letter}"))
}

fn answer() -> NodeLine {
    let keys = NodeKeys { host: key('E'), receipts: key('F'), pull: key('G') };
    let client = Pinned {
        name: Name::new("web1").unwrap(),
        key: OWN.into(),
        reach: Reach::Ssh,
        host_key: Some(key('H')),
        address: Some("root@web1".parse().unwrap()),
        restore_key: None,
    };
    NodeLine::new(Name::new("node1").unwrap(), "gate@backup.example.org".parse().unwrap(), &keys, client, [1; 16]).unwrap()
}

#[test]
fn the_node_is_written_behind_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("client.toml");
    let load = || ClientConfig::load(&path).unwrap();
    for before in [
        "# mine\nversion = 1\nname = \"web1\" # no line end",
        "version = 1\nname = \"web1\"\n[[dataset]]\naddress = \"files:/x\"\n",
        "version = 1\nname = \"web1\"\n[module.git]\n",
    ] {
        std::fs::write(&path, before).unwrap();
        assert!(write_node(&path, &load(), &answer()).unwrap());
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with(before), "{text}");
        let node = load().nodes.remove(0);
        assert_eq!((node.name.as_str(), node.ssh.to_string(), node.pull_key), ("node1", "gate@backup.example.org".into(), Some(key('G'))));
        assert!(!write_node(&path, &load(), &answer()).unwrap(), "twice");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        let mut other = answer();
        other.host_key = key('X');
        assert!(write_node(&path, &load(), &other).unwrap_err().render().contains("another host_key"));
    }
    // One that dials says so in its [[node]], and does not change it behind somebody's back.
    let mut dials = answer();
    dials.client = Pinned { reach: Reach::Dial, host_key: None, address: None, ..dials.client };
    assert!(write_node(&path, &load(), &dials).unwrap_err().render().contains("no reach = \"dial\""));
    std::fs::write(&path, "version = 1\nname = \"web1\"\n").unwrap();
    assert!(write_node(&path, &load(), &dials).unwrap());
    assert_eq!(load().nodes[0].reach, Reach::Dial);
    assert!(!write_node(&path, &load(), &dials).unwrap(), "twice");
    assert!(write_node(&path, &load(), &answer()).unwrap_err().render().contains("Take that out of it"));
    // Where nothing can be written behind it, nothing is written at all.
    let inline = "version = 1\nname = \"web1\"\nnode = []\n";
    std::fs::write(&path, inline).unwrap();
    assert!(write_node(&path, &load(), &answer()).unwrap_err().render().contains("Write it in yourself"));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), inline);
}

#[test]
fn the_key_is_let_in_once_and_nothing_else_is_touched() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(".ssh/authorized_keys");
    let [config, other, also] = ["c.toml", "other.toml", "also.toml"].map(|name| dir.path().join(name));
    for file in [&config, &other] {
        std::fs::write(file, "").unwrap();
    }
    std::os::unix::fs::symlink(&config, &also).unwrap();
    let line = format!("command=\"/g --config {} export node1\",restrict {} node1", config.display(), key('G'));
    assert!(matches!(append(&path, &line, &config).unwrap(), Appended::Now));
    assert!(matches!(append(&path, &line, &config).unwrap(), Appended::Before));
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
    std::fs::write(&path, "# mine\nssh-ed25519 AAAA me").unwrap();
    assert!(matches!(append(&path, &line, &config).unwrap(), Appended::Now));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("# mine\nssh-ed25519 AAAA me\n{line}\n"));
    std::fs::write(&path, format!("{}\n", key('G'))).unwrap();
    let error = append(&path, &line, &config).err().unwrap().render();
    assert!(error.contains("line 1 of") && error.contains("Remove that line"), "{error}");
    // As before, at a gate that is there; and at one that is not; and for another client of this account's.
    let elsewhere = |program: &str, config: &Path| {
        format!("command=\"{program} --config {} export node1\",restrict {} x\n", config.display(), key('G'))
    };
    std::fs::write(&path, elsewhere("/bin/sh", &also)).unwrap();
    assert!(matches!(append(&path, &line, &config).unwrap(), Appended::Before));
    std::fs::write(&path, elsewhere("/absent/gate", &also)).unwrap();
    assert!(append(&path, &line, &config).is_err());
    for other in [other.as_path(), Path::new("/absent/c.toml")] {
        let text = elsewhere("/bin/sh", other);
        std::fs::write(&path, &text).unwrap();
        let error = append(&path, &line, &config).err().unwrap();
        assert_eq!(error.kind(), base::Kind::Refused);
        assert!(error.render().contains(&format!("another configuration, {}", other.display())), "{}", error.render());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }
    // The line that is wanted stands behind another one with the key, which is the one that sshd takes.
    std::fs::write(&path, format!("{}\n{line}\n", key('G'))).unwrap();
    assert!(append(&path, &line, &config).is_err());
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert!(matches!(append(&link, &line, &config).unwrap(), Appended::Not(_)));
}

#[test]
fn an_answer_to_another_machine_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let text = format!("version = 1\nname = \"web1\"\nstate = \"{}\"\n", dir.path().display());
    let config: ClientConfig = base::config::parse("c", text.as_bytes()).unwrap();
    let pair = ssh_key::private::Ed25519Keypair::from_seed(&[5; 32]);
    let private = ssh_key::PrivateKey::new(ssh_key::private::KeypairData::Ed25519(pair), "").unwrap();
    atomic::write(&config.key_path(), private.to_openssh(ssh_key::LineEnding::LF).unwrap().as_bytes(), 0o600).unwrap();
    let own = crate::trust::key_text(private.public_key()).unwrap();
    let mut line = ClientLine::new(Name::new("web1").unwrap(), &own).unwrap();
    line.host_key = Some(key('H'));
    let name = config.client_name().unwrap();
    let mut good = answer();
    good.client.key = own;
    fits(&config, name, &line, &good).unwrap();
    let with = |client: Pinned| {
        let mut other = good.clone();
        other.client = client;
        other
    };
    for (bad, words) in [
        (with(Pinned { name: Name::new("web2").unwrap(), ..good.client.clone() }), "answers web2"),
        (with(Pinned { key: OWN.into(), ..good.client.clone() }), "another login key"),
        (with(Pinned { host_key: Some(key('Z')), ..good.client.clone() }), "another host key"),
        (with(Pinned { restore_key: Some(key('Z')), ..good.client.clone() }), "another key restore"),
    ] {
        let error = fits(&config, name, &line, &bad).unwrap_err();
        assert!(error.kind() == base::Kind::Refused && error.render().contains(words), "{}", error.render());
    }
    // One that dials, with a node that does not know it.
    (line.reach, line.host_key) = (Reach::Dial, None);
    let known = with(Pinned { reach: Reach::Dial, host_key: None, address: None, ..good.client.clone() });
    fits(&config, name, &line, &known).unwrap();
    let unknown = with(Pinned { host_key: None, address: None, ..good.client.clone() });
    assert!(fits(&config, name, &line, &unknown).unwrap_err().render().contains("does not know that web1 dials"));
}
