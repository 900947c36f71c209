//! Writes what people read about the programs, from what the programs are: manual pages, completions for shells, and the
//! reference in `docs/reference/`. Part of building a package, and never installed.
//!
//! Knows the programs' command lines, and of their configurations the sources; nothing of what they do.

mod commands;
mod fields;
mod pages;
mod reference;
mod source;

use base::{At, Error, Result};
use clap::{Parser, Subcommand};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Write the manual of Nightsafe's programs.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Manual pages below DIR/man and completions below DIR/bash, DIR/zsh and DIR/fish.
    Pages {
        /// Where they go.
        dir: PathBuf,
    },
    /// The reference: a page for each program and each configuration file.
    Reference {
        /// Where it goes. What else is there is taken away.
        dir: PathBuf,
    },
}

/// The programs, by the names that they are installed under.
fn programs() -> [clap::Command; 3] {
    [nightsafe::command(), nightsafe_server::command(), nightsafe_gate::command()]
}

fn main() -> ExitCode {
    let done = match Arguments::parse().what {
        What::Pages { dir } => pages::write(&dir),
        What::Reference { dir } => reference::write(&source::root(), &dir),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            use std::io::Write;
            let _ = writeln!(std::io::stderr(), "manual: {}", error.render());
            ExitCode::FAILURE
        }
    }
}

/// A file of what is generated; whoever needs it makes it again.
fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).at("make the folder", folder)?;
    }
    std::fs::write(path, bytes).at("write", path)
}

/// Something in the sources that this tool does not understand.
fn unclear(what: impl std::fmt::Display) -> Error {
    Error::failed(format!("{what}"))
}
