//! A program's command line, as a page of the reference.
//!
//! Asks clap alone, so that the page says what the program understands.

use clap::{Arg, ArgAction, Command};
use std::fmt::Write;

/// The page's part on a program with all its commands.
pub fn page(program: &Command) -> String {
    let mut program = program.clone().disable_help_subcommand(true).disable_help_flag(true).disable_version_flag(true);
    program.build();
    let name = program.get_name().to_owned();
    let mut text = String::new();
    about(&program, &mut text);
    let globals: Vec<&Arg> = program.get_arguments().filter(|arg| arg.is_global_set() && !arg.is_hide_set()).collect();
    if !globals.is_empty() {
        text.push_str("## What every command understands\n\n");
        table(&globals, &mut text);
    }
    let own: Vec<&Arg> = program.get_arguments().filter(|arg| !arg.is_global_set() && !arg.is_hide_set()).collect();
    if !own.is_empty() {
        text.push_str("## What stands before the command\n\n");
        table(&own, &mut text);
    }
    for command in program.get_subcommands() {
        section(command, &format!("{name} {}", command.get_name()), &mut text);
    }
    text
}

fn section(command: &Command, name: &str, text: &mut String) {
    if command.is_hide_set() {
        return;
    }
    // Writing into a String does not fail.
    let _ = write!(text, "## `{name}`\n\n");
    let mut whole = command.clone();
    let usage = whole.render_usage().to_string();
    let _ = write!(text, "```console\n{}\n```\n\n", usage.trim_start_matches("Usage: ").trim());
    about(command, text);
    let arguments: Vec<&Arg> = command.get_arguments().filter(|arg| !arg.is_global_set() && !arg.is_hide_set()).collect();
    if !arguments.is_empty() {
        table(&arguments, text);
    }
    for below in command.get_subcommands() {
        section(below, &format!("{name} {}", below.get_name()), text);
    }
}

fn about(command: &Command, text: &mut String) {
    if let Some(about) = command.get_long_about().or(command.get_about()) {
        let _ = write!(text, "{}\n\n", sentence(&about.to_string()));
    }
}

fn table(arguments: &[&Arg], text: &mut String) {
    text.push_str("| | meaning | default |\n| --- | --- | --- |\n");
    for arg in arguments {
        let _ = writeln!(text, "| {} | {} | {} |", cell(&spelling(arg)), cell(&meaning(arg)), cell(&default(arg)));
    }
    text.push('\n');
}

/// How an argument is written.
fn spelling(arg: &Arg) -> String {
    let values: Vec<String> = arg
        .get_value_names()
        .map_or_else(|| vec![arg.get_id().as_str().to_uppercase()], |names| names.iter().map(ToString::to_string).collect());
    let dots = if matches!(arg.get_action(), ArgAction::Append) || arg.get_num_args().is_some_and(|n| n.max_values() > values.len()) {
        "…"
    } else {
        ""
    };
    let values = format!("{}{dots}", values.join(" "));
    if arg.is_positional() {
        return format!("`{values}`");
    }
    let names = [arg.get_short().map(|c| format!("-{c}")), arg.get_long().map(|name| format!("--{name}"))];
    let names = names.into_iter().flatten().collect::<Vec<_>>().join("`, `");
    if arg.get_action().takes_values() { format!("`{names} {values}`") } else { format!("`{names}`") }
}

fn meaning(arg: &Arg) -> String {
    let mut text = arg.get_long_help().or(arg.get_help()).map(|help| sentence(&help.to_string())).unwrap_or_default();
    let possible: Vec<String> = arg
        .get_possible_values()
        .iter()
        .filter(|value| !value.is_hide_set())
        .map(|value| format!("`{}`{}", value.get_name(), value.get_help().map(|help| format!(" ({help})")).unwrap_or_default()))
        .collect();
    if !possible.is_empty() && arg.get_action().takes_values() {
        let _ = write!(text, " One of {}.", possible.join(", "));
    }
    if let Some(variable) = arg.get_env() {
        let _ = write!(text, " Or by the variable `{}`.", variable.to_string_lossy());
    }
    text
}

fn default(arg: &Arg) -> String {
    let values: Vec<String> = arg.get_default_values().iter().map(|value| format!("`{}`", value.to_string_lossy())).collect();
    if arg.is_required_set() {
        return "required".into();
    }
    if arg.get_action().takes_values() { values.join(" ") } else { String::new() }
}

/// clap takes the full stop of short help away.
fn sentence(text: &str) -> String {
    let text = text.trim();
    if text.is_empty() || text.ends_with(['.', ':', '?', '!']) { text.to_owned() } else { format!("{text}.") }
}

/// Text in a cell of a table.
pub fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_what_clap_knows() {
        let program = Command::new("p")
            .arg(Arg::new("config").long("config").env("P_CONFIG").default_value("/etc/p").global(true).help("Where | what"))
            .subcommand(
                Command::new("go")
                    .about("Go on.")
                    .arg(Arg::new("place").required(true).help("Where to."))
                    .arg(Arg::new("how").short('h').long("how").value_parser(["slow", "fast"]).action(ArgAction::Append).help("How."))
                    .arg(Arg::new("dry").long("dry").action(ArgAction::SetTrue).help("Not at all."))
                    .arg(Arg::new("secret").long("secret").hide(true)),
            )
            .subcommand(Command::new("hidden").hide(true));
        let page = page(&program);
        for words in [
            "| `--config CONFIG` | Where \\| what. Or by the variable `P_CONFIG`. | `/etc/p` |",
            "## `p go`\n\n```console\np go",
            "| `PLACE` | Where to. | required |",
            "| `-h`, `--how HOW…` | How. One of `slow`, `fast`. |  |",
            "| `--dry` | Not at all. |  |",
        ] {
            assert!(page.contains(words), "{words} is not in\n{page}");
        }
        assert!(!page.contains("hidden") && !page.contains("secret"), "{page}");
    }
}
