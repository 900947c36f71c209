//! The commands before and after: run as the sender, without a shell, with a cleared environment, for a bounded time.

use base::config::Commands;
use base::{Dataset, Error, Kind, Name, RequestId, Result, process, text};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// So much of what a command says is kept for the log, and for the error when it fails.
const WORDS: usize = 16 << 10;

/// What comes after, as it is noted when `before` is run: what belongs together stays together, also when the configuration is
/// changed in between.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct After {
    /// The dataset or the group.
    pub subject: Dataset,
    /// The request.
    pub request: RequestId,
    /// The program and its arguments.
    pub words: Vec<String>,
    /// How long it may run.
    pub seconds: u64,
}

/// What becomes of the backup, as far as what comes after is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Course {
    /// It was read, or its snapshot was made.
    Done,
    /// `before` failed, or the reading.
    Failed,
    /// The process that had run `before` died.
    Interrupted,
}

impl Course {
    fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        }
    }
}

impl After {
    /// What comes after, if anything does.
    pub fn of(subject: &Dataset, request: &RequestId, commands: &Commands) -> Option<Self> {
        let (words, seconds) = (commands.after.clone(), commands.time_limit.as_secs());
        (!words.is_empty()).then(|| Self { subject: subject.clone(), request: request.clone(), words, seconds })
    }

    /// Runs it.
    ///
    /// # Errors
    /// When it cannot be started, fails, or takes too long.
    pub fn run(&self, node: &Name, course: Course) -> Result<()> {
        let about = About { subject: &self.subject, request: &self.request, node, stage: "after", course: Some(course) };
        // What makes it good again is waited for, also where this process is to stop.
        run(&self.words, Duration::from_secs(self.seconds), true, &about)
    }
}

/// Runs what comes before, if anything does. It is ended where this process is to stop.
///
/// # Errors
/// As [`After::run`].
pub fn before(subject: &Dataset, request: &RequestId, node: &Name, commands: &Commands) -> Result<()> {
    if commands.before.is_empty() {
        return Ok(());
    }
    run(&commands.before, commands.time_limit, false, &About { subject, request, node, stage: "before", course: None })
}

/// What a command is told by its environment.
struct About<'a> {
    subject: &'a Dataset,
    request: &'a RequestId,
    node: &'a Name,
    stage: &'static str,
    course: Option<Course>,
}

fn run(words: &[String], time: Duration, goes_on: bool, about: &About<'_>) -> Result<()> {
    let Some((program, arguments)) = words.split_first() else { return Ok(()) };
    let mut command = process::command(program);
    command
        .args(arguments)
        .env("NIGHTSAFE_DATASET", about.subject.to_string())
        .env("NIGHTSAFE_REQUEST", about.request.as_str())
        .env("NIGHTSAFE_NODE", about.node.as_str())
        .env("NIGHTSAFE_STAGE", about.stage);
    if let Some(course) = about.course {
        command.env("NIGHTSAFE_OUTCOME", course.word());
    }
    let (stage, subject) = (about.stage, about.subject);
    let context = |error: Error| error.with_kind(Kind::Failed).context(format!("the command {stage} {subject} failed"));
    let (status, said) = process::run_heard(command, WORDS, time, goes_on).map_err(context)?;
    let said = text::excerpt(&said, 2000);
    tracing::info!("{}: {stage} {subject} ({}): {program} ended with {status}; it said: {said}", about.node, about.request);
    if status.success() {
        return Ok(());
    }
    let said = if said.is_empty() { "it said nothing".to_owned() } else { said };
    Err(context(Error::failed(format!("{program} ended with {status}: {said}"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commands(words: &[&str], seconds: u64) -> Commands {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        Commands { before: words.clone(), after: words, time_limit: Duration::from_secs(seconds) }
    }

    #[test]
    fn what_a_command_is_told_and_what_is_heard_of_it() {
        let (subject, node) = ("files:/a".parse().unwrap(), Name::new("n1").unwrap());
        let id: RequestId = "20261120T031500Z-3f9a1c7e".parse().unwrap();
        let run = |words: &[&str], seconds| before(&subject, &id, &node, &commands(words, seconds));
        run(&["true"], 60).unwrap();
        run(&[], 60).unwrap();
        let told = run(&["sh", "-c", "env | sort; exit 3"], 60).unwrap_err().render();
        for word in [
            "NIGHTSAFE_DATASET=files:/a",
            "NIGHTSAFE_REQUEST=20261120T031500Z-3f9a1c7e",
            "NIGHTSAFE_NODE=n1",
            "NIGHTSAFE_STAGE=before",
            "exit status: 3",
        ] {
            assert!(told.contains(word), "{word} is missing in {told}");
        }
        assert!(!told.contains("CARGO") && !told.contains("OUTCOME"), "{told}");
        let after = After::of(&subject, &id, &commands(&["sh", "-c", "echo $NIGHTSAFE_OUTCOME >&2; exit 1"], 60)).unwrap();
        assert!(after.run(&node, Course::Interrupted).unwrap_err().render().contains("interrupted"));
        assert!(After::of(&subject, &id, &Commands::default()).is_none());
        // No shell, no end of words, no end of time.
        assert!(run(&["sh -c true"], 60).unwrap_err().render().contains("sh -c true"));
        assert!(run(&["sh", "-c", "head -c 1000000 /dev/zero; exit 1"], 60).unwrap_err().render().len() < 20_000);
        let late = run(&["sleep", "300"], 1).unwrap_err();
        assert!(late.kind() == Kind::Failed && late.render().contains("took longer"), "{}", late.render());
        // A daemon that it has started may keep its output open.
        run(&["sh", "-c", "sleep 30 & exit 0"], 60).unwrap();
    }
}
