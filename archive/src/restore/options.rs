//! What is asked of a restore of files beside paths and target.
//!
//! Does not carry anything out.

use base::{Error, Result};

/// What happens to things that are in the target already. A folder is never emptied, and what the snapshot does not have
/// is never touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overwrite {
    /// What is there stays as it is; only what is missing comes back.
    Never,
    /// What differs is replaced. A file of the same size and time counts as the same; where only the time differs, its
    /// content decides. Folders are not replaced by other things, and other things not by folders.
    Changed,
    /// Every file's content is compared, whatever its time says; and what is not a folder, or is an empty one, makes way
    /// for what the snapshot has there.
    Always,
}

/// How files are restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FileOptions {
    /// How many folders are taken off the front of each path.
    pub strip: usize,
    /// What happens to what is there. None: the target must be new, or empty, or hold nothing but what the snapshot has.
    pub overwrite: Option<Overwrite>,
    /// Owners by their numbers, whatever names these have here.
    pub numeric_owner: bool,
    /// Nothing is written; what would be done is told to the monitor and counted.
    pub dry_run: bool,
}

impl FileOptions {
    /// Refuses all options, for what does not come back as a tree of files.
    ///
    /// # Errors
    /// Of kind usage, with the first option that is set; `what` is said of it, as in "a database".
    pub fn refuse(&self, what: &str) -> Result<()> {
        let set = [
            (self.dry_run, "--dry-run"),
            (self.strip > 0, "--strip"),
            (self.overwrite.is_some(), "--overwrite"),
            (self.numeric_owner, "--numeric-owner"),
        ];
        match set.iter().find(|(set, _)| *set) {
            None => Ok(()),
            Some((_, option)) => {
                Err(Error::usage(format!("{option} is for trees of files, and this is {what}")).hint(format!("Leave {option} out.")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_option_is_refused_by_its_name() {
        FileOptions::default().refuse("a database").unwrap();
        for (options, name) in [
            (FileOptions { dry_run: true, ..FileOptions::default() }, "--dry-run"),
            (FileOptions { strip: 1, ..FileOptions::default() }, "--strip"),
            (FileOptions { overwrite: Some(Overwrite::Never), ..FileOptions::default() }, "--overwrite"),
            (FileOptions { numeric_owner: true, ..FileOptions::default() }, "--numeric-owner"),
        ] {
            let error = options.refuse("a database").unwrap_err();
            assert!(error.kind() == base::Kind::Usage && error.render().contains(name), "{}", error.render());
        }
    }
}
