//! What travels in commits: requests, receipts, notices, and the commits themselves.

use queue::{Notice, Receipt, Request, signature};

/// A request's file. What is read survives being written, and none of its words steers a terminal.
pub fn request(bytes: &[u8]) {
    let Ok(request) = Request::parse(bytes) else { return };
    request.check().expect("what was read is well formed");
    assert_eq!(Request::parse(&request.to_toml()).as_ref().ok(), Some(&request), "it survives its own file");
    plain(&request.message());
    name(&request.file_name(), "RQ");
    name(&request.attachment_name(), "MF");
    assert!(!request.dataset.path().split('/').any(|part| part == ".."), "{}", request.dataset);
}

/// A receipt's file, or a notice's, which a client takes from its node.
pub fn receipt(bytes: &[u8]) {
    if let Ok(receipt) = Receipt::parse(bytes) {
        let fitted = receipt.fitted();
        assert_eq!(Receipt::parse(&fitted.to_toml()).as_ref().ok(), Some(&fitted), "it survives its own file");
        assert_eq!(fitted.clone().fitted(), fitted, "fitting twice changes nothing");
        plain(&fitted.message());
        name(&fitted.file_name(), "RC");
    }
    if let Ok(notice) = Notice::parse(bytes) {
        // What stands at the end of its reason and cannot be seen is left out when it is written.
        let written = notice.to_toml();
        let again = Notice::parse(&written).expect("what is written is read");
        assert!(again.to_toml() == written && Notice { reason: notice.reason.clone(), ..again } == notice, "it survives its own file");
        plain(&notice.message());
        name(&notice.file_name(), "NT");
    }
}

/// A raw commit with its signature.
pub fn commit(bytes: &[u8]) {
    let Ok(commit) = signature::read_commit(bytes) else { return };
    let hex = |text: &String| text.len() == 40 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    assert!(hex(&commit.tree) && commit.parents.iter().all(hex), "ids are ids");
    assert!(commit.signed_payload.len() < bytes.len(), "the signature is no part of what was signed");
}

/// A message that `git log` may show as it stands.
fn plain(message: &str) {
    assert!(!message.chars().any(|c| c.is_control() && c != '\n'), "{message:?}");
}

/// A file's name that is nothing else.
fn name(name: &str, kind: &str) {
    assert!(name.starts_with(kind) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b)), "{name:?}");
}
