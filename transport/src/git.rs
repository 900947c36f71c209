//! Git's network steps: push, fetch and the listing of refs, by the git program over our ssh.
//!
//! Does not know what the repositories are for. URLs are made from the endpoint and a name, never from what a peer said.

use crate::peer::{GATE, Peer, unreachable};
use crate::wrapper;
use base::{At, Error, Kind, Result, crash, process};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

/// How long a push or a listing may take where nobody says.
const TIME: Duration = Duration::from_secs(3600);

/// Complaints of git's fsck that old and honest repositories give cause for; a backup must not refuse history for its age.
const OLD_HISTORY: [&str; 41] = [
    "badDate",
    "badDateOverflow",
    "badEmail",
    "badName",
    "badTimezone",
    "emptyName",
    "fullPathname",
    "badParentSha1",
    "missingEmail",
    "missingNameBeforeEmail",
    "missingSpaceBeforeDate",
    "missingSpaceBeforeEmail",
    "missingTaggerEntry",
    "multipleAuthors",
    "nulInCommit",
    "nullSha1",
    "zeroPaddedDate",
    "zeroPaddedFilemode",
    "badFilemode",
    "extraHeaderEntry",
    "badTagName",
    "duplicateEntries",
    "hasDotgit",
    "largePathname",
    "missingAuthor",
    "missingCommitter",
    "treeNotSorted",
    // Rules of later years about what a checkout would do. Nothing is checked out here, and git looks again where it is.
    "gitattributesBlob",
    "gitattributesLarge",
    "gitattributesLineLength",
    "gitattributesMissing",
    "gitmodulesBlob",
    "gitmodulesLarge",
    "gitmodulesMissing",
    "gitmodulesName",
    "gitmodulesPath",
    "gitmodulesSymlink",
    "gitmodulesUpdate",
    "gitmodulesUrl",
    "symlinkTargetBlob",
    "symlinkTargetLength",
];

/// Words of git's that find fault with what came, and would with the same bytes again: ssh lets none change on the way. Whatever
/// may be the line's, or trouble of the peer's that passes, is not among them.
const UNFIT: [&str; 17] = [
    "fsck error",
    "pack signature mismatch",
    "pack version",
    "pack has bad object",
    "pack has junk at the end",
    "pack is corrupted",
    "inflate returned",
    "inflate inconsistency",
    "unresolved delta",
    "COLLISION",
    "did not receive expected object",
    "did not send all necessary objects",
    "shallow update not allowed",
    "bad object",
    "size_t overflow",
    "data too large to fit",
    OUT_OF_MEMORY,
];
/// What git says when what came needs more memory than it may have here ([`process::memory_limit`]).
const OUT_OF_MEMORY: &str = "ut of memory";

/// What came of a push that reached the peer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum PushOutcome {
    /// The peer has it, also when it had it already.
    Accepted,
    /// The peer does not want it, with its words.
    Refused(String),
}

/// What came of a fetch that reached the peer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum FetchOutcome {
    /// All of it is here.
    Fetched,
    /// The peer does not have, or does not give, one of the ids or refs, with git's words.
    Gone(String),
    /// What came is no good: no pack, not the objects that were asked for, or more than a file or the memory may hold.
    Unfit(String),
}

/// Bounds of a fetch.
#[derive(Debug, Clone)]
pub struct GitFetch {
    /// The longest time for all of it.
    pub time: Duration,
    /// The largest file that git may write; a pack is one file.
    pub file_limit: Option<u64>,
    /// The most bytes in a second.
    pub rate: Option<u64>,
    /// Whether objects are checked as they come in (complaints about old history are warnings).
    pub fsck: bool,
    /// Whether git writes down in `FETCH_HEAD` what came, one line for each id of which it has seen that all that it leads to is there.
    pub heads: bool,
}

impl Default for GitFetch {
    fn default() -> Self {
        Self { time: TIME, file_limit: None, rate: None, fsck: true, heads: false }
    }
}

impl Peer {
    /// Pushes one refspec from the repository `repo` to the peer's repository `remote_name`.
    ///
    /// # Errors
    /// Of kind not-now when the peer could not be reached or the connection broke, so that nobody knows what it did.
    pub fn git_push(&self, repo: &Path, remote_name: &str, refspec: &str) -> Result<PushOutcome> {
        let mut command = self.git(repo)?;
        command.args(["push", "--porcelain", "--no-verify", "--no-follow-tags", "--no-signed", "--recurse-submodules=no", "--"]);
        command.arg(self.url(remote_name)?).arg(refspec);
        let output = process::run(command, 1 << 20, TIME).map_err(|error| error.context(format!("could not push to {}", self.name())))?;
        crash::point("pushed");
        if output.status.success() {
            return Ok(PushOutcome::Accepted);
        }
        let Some(words) = refusal(&output) else { return Err(self.broken("push to", &output)) };
        if is_rule(&words) {
            return Ok(PushOutcome::Refused(words));
        }
        Err(Error::not_now(format!("{} cannot take what is pushed now: {words}", self.name())).or_full())
    }

    /// Whether an error says that the peer was reached and its gate does not serve what was asked for.
    pub fn is_gates_refusal(error: &Error) -> bool {
        error.one_line().contains(GATE)
    }

    /// Fetches `refspecs` (`<id or ref>:<ref>`, never written from what a peer chose without a check) into `repo`.
    ///
    /// # Errors
    /// Of kind not-now when the peer could not be reached; failed when git fetched and was not satisfied, with its words.
    pub fn git_fetch(&self, repo: &Path, remote_name: &str, refspecs: &[String], options: GitFetch) -> Result<()> {
        match self.git_try_fetch(repo, remote_name, refspecs, options)? {
            FetchOutcome::Fetched => Ok(()),
            FetchOutcome::Gone(words) => Err(Error::failed(format!("{} does not have what was asked for: {words}", self.name()))),
            FetchOutcome::Unfit(words) => Err(Error::failed(format!("what {} sent is not usable: {words}", self.name()))),
        }
    }

    /// As [`Peer::git_fetch`], for callers to whom it matters why a fetch cannot succeed, however often it is tried.
    ///
    /// # Errors
    /// As [`Peer::git_fetch`].
    pub fn git_try_fetch(&self, repo: &Path, remote_name: &str, refspecs: &[String], options: GitFetch) -> Result<FetchOutcome> {
        let url = self.url(remote_name)?;
        let mut command = self.git(repo)?;
        if let Some(rate) = options.rate {
            command.env(wrapper::RATE, rate.to_string());
        }
        let output =
            fetch(command, &url, refspecs, &options).map_err(|error| error.context(format!("could not fetch from {}", self.name())))?;
        crash::point("fetched");
        if output.status.success() {
            return Ok(FetchOutcome::Fetched);
        }
        if options.file_limit.is_some_and(|limit| met_limit(repo, limit)) {
            return Ok(FetchOutcome::Unfit("it is larger than there is room for".into()));
        }
        final_trouble(&base::text::excerpt(&output.stderr, 4000))
            .ok_or_else(|| self.broken(&format!("fetch into {} from", repo.display()), &output))
    }

    /// The peer's refs as `git ls-remote --symref` prints them, at most `limit` bytes.
    ///
    /// # Errors
    /// As [`Peer::git_fetch`].
    pub fn git_ls_remote(&self, remote_name: &str, limit: usize, time: Duration) -> Result<Vec<u8>> {
        let mut command = self.git(Path::new("/"))?;
        command.args(["ls-remote", "--symref", "--"]).arg(self.url(remote_name)?);
        let output =
            process::run(command, limit, time).map_err(|error| error.context(format!("could not list the refs of {}", self.name())))?;
        if output.status.success() { Ok(output.stdout) } else { Err(self.broken("list the refs of", &output)) }
    }

    fn git(&self, repo: &Path) -> Result<Command> {
        let way = self.way.to_text().ok_or_else(|| Error::usage("the way to the peer holds a line break"))?;
        let mut command = process::git();
        command
            .args(["-c", "protocol.version=2"])
            .arg("-C")
            .arg(repo)
            .env("GIT_SSH", &self.wrapper)
            .env("GIT_SSH_VARIANT", "ssh")
            .env(wrapper::VARIABLE, way)
            .env("GIT_ALLOW_PROTOCOL", "ssh");
        Ok(command)
    }

    fn url(&self, remote_name: &str) -> Result<String> {
        let name = remote_name.strip_prefix('/').unwrap_or(remote_name);
        if name.is_empty() || name.chars().any(char::is_control) {
            return Err(Error::usage(format!("{remote_name:?} cannot be a repository's name")));
        }
        // Git decodes %xx in URLs before it sends the path.
        let mut url = self.git_url.clone();
        for byte in name.bytes() {
            if byte.is_ascii_alphanumeric() || b"/._-~+@=,".contains(&byte) {
                url.push(char::from(byte));
            } else {
                url.push_str(&format!("%{byte:02X}"));
            }
        }
        Ok(url)
    }

    fn broken(&self, doing: &str, output: &Output) -> Error {
        let words = base::text::excerpt(&output.stderr, 4000);
        // Git says this when ssh or the gate ended early, whatever the cause.
        if words.contains("Could not read from remote repository")
            || words.contains("the remote end hung up")
            || words.contains("unable to fork")
        {
            return unreachable(&self.name(), &words);
        }
        let words = if words.is_empty() { "git said nothing".into() } else { words };
        Error::failed(format!("could not {doing} {} ({}): {words}", self.name(), output.status)).or_full()
    }
}

/// What git's words, in one line, mean where trying again would come to the same.
fn final_trouble(words: &str) -> Option<FetchOutcome> {
    // What the peer's git says of its own trouble is handed on by ours under this name.
    let own: Vec<&str> = words.split("; ").filter(|words| !words.starts_with("remote:")).collect();
    let has = |parts: &[&str]| own.iter().any(|words| parts.iter().any(|part| words.contains(part)));
    if is_full(words) || has(&["on the remote side"]) {
        return None;
    }
    if has(&["not our ref", "unadvertised object", "couldn't find remote ref"]) {
        return Some(FetchOutcome::Gone(words.into()));
    }
    if has(&[OUT_OF_MEMORY]) {
        let most = base::ByteSize(process::memory_limit());
        return Some(FetchOutcome::Unfit(format!("it needs more memory than the {most} that a program may have here ({words})")));
    }
    has(&UNFIT).then(|| FetchOutcome::Unfit(words.into()))
}

/// Whether words tell of a full disk.
fn is_full(words: &str) -> bool {
    Error::failed(words).or_full().kind() == Kind::NotNow
}

/// Whether a pack in the making has met the limit on a file's size: the signal ends index-pack without a word.
fn met_limit(repo: &Path, limit: u64) -> bool {
    let files = [repo.join("objects/pack"), repo.join(".git/objects/pack")]
        .into_iter()
        .filter_map(|folder| std::fs::read_dir(folder).ok())
        .flatten()
        .flatten();
    files
        .filter(|file| file.file_name().as_encoded_bytes().starts_with(b"tmp_"))
        .any(|file| file.metadata().is_ok_and(|meta| meta.len() >= limit))
}

/// Options of git with which a fetch holds what comes against its fsck, and takes what old and honest histories have.
pub fn fsck_options() -> Vec<String> {
    let old = OLD_HISTORY.iter().map(|id| format!("fetch.fsck.{id}=warn"));
    std::iter::once("fetch.fsckObjects=true".to_owned()).chain(old).flat_map(|option| ["-c".to_owned(), option]).collect()
}

/// Runs `git fetch` with `refspecs` on its input, `command` being git with its first options.
fn fetch(mut command: Command, url: &str, refspecs: &[String], options: &GitFetch) -> Result<Output> {
    command.args(["-c", "fetch.unpackLimit=1", "-c", "core.bigFileThreshold=1m"]);
    if options.fsck {
        command.args(fsck_options());
    }
    command.args([
        "fetch",
        "--quiet",
        "--no-tags",
        "--no-prune",
        if options.heads { "--write-fetch-head" } else { "--no-write-fetch-head" },
        "--no-auto-maintenance",
        "--recurse-submodules=no",
        "--no-show-forced-updates",
        "--stdin",
        "--",
        url,
    ]);
    let (reader, mut writer) = std::io::pipe().at("make", "a pipe")?;
    command.stdin(reader);
    let lines: String = refspecs.iter().flat_map(|refspec| [refspec.as_str(), "\n"]).collect();
    // Ends by itself: when git is gone nobody reads the pipe any more.
    let feed = std::thread::spawn(move || writer.write_all(lines.as_bytes()));
    let output = process::run_started(command, 1 << 20, options.time, |child| {
        if let Some(limit) = options.file_limit {
            process::bound_files(child, limit);
        }
    });
    let _ = feed.join();
    output
}

/// The words of a push that was refused: the reason of the porcelain line, then what the peer's hooks said.
fn refusal(output: &Output) -> Option<String> {
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find(|line| line.starts_with("!\t"))?;
    let summary = line.rsplit('\t').next().unwrap_or(line);
    // The peer was gone before it told what became of the ref.
    if summary.starts_with("[remote failure]") || summary.starts_with("[no match]") {
        return None;
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let said: Vec<&str> =
        stderr.lines().filter_map(|line| line.strip_prefix("remote:")).map(str::trim).filter(|line| !line.is_empty()).collect();
    let words = if said.is_empty() { summary.to_owned() } else { format!("{summary}: {}", said.join("; ")) };
    Some(base::text::printable(&words.chars().take(2000).collect::<String>()))
}

/// Whether a push that came to nothing met a rule, and not a full disk or some other trouble over there.
fn is_rule(words: &str) -> bool {
    let unpacked = !words.contains("(unpacker error)") || ["fsck error", "exceeds maximum"].iter().any(|rule| words.contains(rule));
    unpacked && !is_full(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    #[test]
    fn what_is_tried_again_and_what_is_not() {
        let whole = "fatal: fetch-pack: invalid index-pack output";
        for gone in ["fatal: remote error: upload-pack: not our ref ff5b63d1", "fatal: couldn't find remote ref refs/heads/x"] {
            assert_eq!(final_trouble(gone), Some(FetchOutcome::Gone(gone.into())));
        }
        for unfit in [
            "error: object 1: hasDotdot: contains '..'; fatal: fsck error in packed object",
            "fatal: pack has bad object at offset 12: unknown object type 0",
            "fatal: pack is corrupted (SHA1 mismatch)",
            "fatal: Out of memory, calloc failed",
            "fatal: data too large to fit into virtual memory space",
            "fatal: size_t overflow: 18446744073709551615 + 1",
            "fatal: pack has 1 unresolved delta",
            "fatal: did not receive expected object ab69b4ab",
            "fatal: bad object 91f049f9; error: ssh://h/x did not send all necessary objects",
        ] {
            let words = format!("{unfit}; {whole}");
            assert!(matches!(final_trouble(&words), Some(FetchOutcome::Unfit(found)) if found.contains(&words)), "{unfit}");
        }
        for passing in [
            "fatal: early EOF",
            "fetch-pack: unexpected disconnect while reading sideband packet; fatal: protocol error: bad pack header",
            "remote: fatal: Out of memory, malloc failed; fatal: early EOF",
            "fatal: bad object 1; fatal: git upload-pack: aborting due to possible repository corruption on the remote side.",
            "fatal: write error: No space left on device; fatal: bad object 1",
            "fatal: local object 12 is corrupt",
            "fatal: the remote end hung up unexpectedly",
            "",
        ] {
            assert_eq!(final_trouble(&format!("{passing}; {whole}")), None, "{passing}");
        }
    }

    #[test]
    fn what_a_push_came_to() {
        let output = |stdout: &str, stderr: &str| Output {
            status: std::process::ExitStatus::from_raw(256),
            stdout: stdout.into(),
            stderr: stderr.into(),
        };
        let hook = output(
            "To ssh://x\n!\ta:refs/heads/requests\t[remote rejected] (pre-receive hook declined)\nDone\n",
            "remote: too large        \nremote: \nerror: failed to push some refs\n",
        );
        assert_eq!(refusal(&hook).unwrap(), "[remote rejected] (pre-receive hook declined): too large");
        assert_eq!(refusal(&output("!\ta:b\t[rejected] (fetch first)\n", "")).unwrap(), "[rejected] (fetch first)");
        for (words, rule) in [
            ("[remote rejected] (pre-receive hook declined): too large", true),
            ("[remote rejected] (pre-receive hook declined): could not write: No space left on device", false),
            ("[remote rejected] (unpacker error): fatal: fsck error in packed object", true),
            ("[remote rejected] (unpacker error): fatal: pack exceeds maximum allowed size", true),
            ("[remote rejected] (unpacker error): fatal: sha1 file '/x' write error. Out of diskspace", false),
            ("[remote rejected] (unpacker error): error: index-pack died of signal 9", false),
        ] {
            assert_eq!(is_rule(words), rule, "{words}");
        }
        assert!(refusal(&output("!\ta:b\t[remote failure] (remote failed to report status)\n", "")).is_none());
        assert!(
            refusal(&output("", "ssh: connect to host x port 22: Connection refused\nfatal: Could not read from remote repository.\n"))
                .is_none()
        );
    }
}
