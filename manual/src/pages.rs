//! Manual pages and completions.
//!
//! Both are clap's own; added is what a command line does not say: exit codes, variables, and where there is more.

use crate::{programs, put, source};
use base::{At, Result};
use clap::Command;
use clap_complete::Shell;
use std::fmt::Write;
use std::path::Path;

/// Writes all of them below `dir`: `man/*.1`, `bash/NAME`, `zsh/_NAME`, `fish/NAME.fish`.
pub fn write(dir: &Path) -> Result<()> {
    let exits = source::exits(&source::root())?;
    for program in programs() {
        completions(&program, dir)?;
        let name = program.get_name().to_owned();
        let mut program = program.disable_help_subcommand(true).disable_help_flag(true);
        program.build();
        man(&program, &name, &exits, &dir.join("man"))?;
    }
    Ok(())
}

fn completions(program: &Command, dir: &Path) -> Result<()> {
    let name = program.get_name();
    for (shell, file) in
        [(Shell::Bash, format!("bash/{name}")), (Shell::Zsh, format!("zsh/_{name}")), (Shell::Fish, format!("fish/{name}.fish"))]
    {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut program.clone(), name, &mut text);
        put(&dir.join(file), &text)?;
    }
    Ok(())
}

/// The page of a command and of all below it, as git has them: `nightsafe-submit.1` is of `nightsafe submit`.
fn man(command: &Command, name: &str, exits: &[source::ExitCode], dir: &Path) -> Result<()> {
    let below: Vec<_> = command.get_subcommands().filter(|command| !command.is_hide_set() && command.get_name() != "help").collect();
    for one in &below {
        man(one, &format!("{name}-{}", one.get_name()), exits, dir)?;
    }
    let page = clap_mangen::Man::new(command.clone()).section("1").manual("Nightsafe");
    let path = dir.join(format!("{name}.1"));
    let mut text = Vec::new();
    page.render(&mut text).at("write", &path)?;
    text.extend_from_slice(more(name, exits).as_bytes());
    put(&path, &text)
}

/// What stands below every page.
fn more(name: &str, exits: &[source::ExitCode]) -> String {
    let mut text = String::from(".SH \"EXIT STATUS\"\n");
    for exit in exits {
        // Writing into a String does not fail.
        let _ = write!(text, ".TP\n\\fB{}\\fR\n{}\n", exit.code, roff(&exit.meaning));
    }
    let others = ["nightsafe", "nightsafe-server", "nightsafe-gate"].into_iter().filter(|other| *other != name);
    let others: Vec<String> = others.map(|other| format!("\\fB{}\\fR(1)", roff(other))).collect();
    let _ = write!(text, ".SH \"SEE ALSO\"\n{}. The documents are in /usr/share/doc/nightsafe\\-gate.\n", others.join(", "));
    text
}

/// Text as roff takes it for what it is.
fn roff(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    // At the beginning of a line these would be a request.
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_and_every_shell_its_completions() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path()).unwrap();
        for name in [
            "man/nightsafe.1",
            "man/nightsafe-server.1",
            "man/nightsafe-gate.1",
            "man/nightsafe-submit.1",
            "man/nightsafe-server-client-add.1",
        ] {
            let page = std::fs::read_to_string(dir.path().join(name)).unwrap();
            for words in [".SH NAME", ".SH SYNOPSIS", "EXIT STATUS", "\\fB75\\fR"] {
                assert!(page.contains(words), "{name} lacks {words}:\n{page}");
            }
        }
        for name in ["bash/nightsafe", "zsh/_nightsafe-server", "fish/nightsafe.fish", "bash/nightsafe-gate"] {
            assert!(std::fs::read_to_string(dir.path().join(name)).unwrap().contains("nightsafe"), "{name}");
        }
        assert_eq!(roff(".x -- \\"), "\\&.x \\-\\- \\e");
    }
}
