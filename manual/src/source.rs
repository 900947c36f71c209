//! What only the sources say: exit codes, and the variables that the programs look at.
//!
//! Reads files of this workspace and runs nothing.

use crate::unclear;
use base::{At, Result};
use std::path::{Path, PathBuf};

/// This workspace.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/")).to_owned()
}

/// The crates whose code is in the programs.
pub const CRATES: [&str; 10] = ["base", "queue", "archive", "transport", "mail", "show", "modules", "client", "server", "hooks"];

/// One exit code.
pub struct ExitCode {
    /// As a shell sees it.
    pub code: String,
    /// A sentence.
    pub meaning: String,
}

/// What a shell makes of programs that a signal ended, which no code of ours names (client/src/interrupt.rs, tests/tests/it/endings.rs).
const SIGNALS: [(&str, &str); 2] = [
    (
        "129, 130, 143",
        "Ended by SIGHUP, Ctrl-C or SIGTERM, as a shell has it; the same command goes on where it was. Of `watch` and `web`, which are ended so: 0.",
    ),
    ("141", "Whoever read the bytes that were printed, as of `restore --stdout`, did not want the rest."),
];

/// The exit codes of all programs: those of the enum `Exit`, and what signals make.
pub fn exits(root: &Path) -> Result<Vec<ExitCode>> {
    let path = root.join("base/src/error.rs");
    let file = parse(&path)?;
    let found = file.items.iter().find_map(|item| match item {
        syn::Item::Enum(one) if one.ident == "Exit" => Some(one),
        _ => None,
    });
    let found = found.ok_or_else(|| unclear(format!("{} has no enum Exit", path.display())))?;
    let of = |variant: &syn::Variant| match &variant.discriminant {
        Some((_, syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Int(number), .. }))) => {
            Ok(ExitCode { code: number.base10_digits().to_owned(), meaning: doc(&variant.attrs) })
        }
        _ => Err(unclear(format!("{} of Exit has no number", variant.ident))),
    };
    let mut all = found.variants.iter().map(of).collect::<Result<Vec<_>>>()?;
    all.extend(SIGNALS.iter().map(|(code, meaning)| ExitCode { code: (*code).to_owned(), meaning: (*meaning).to_owned() }));
    Ok(all)
}

/// The names of variables that code of the programs asks the environment for.
pub fn variables(root: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for name in CRATES {
        for path in files(&root.join(name).join("src"))? {
            // Tests that are in files of their own.
            let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            if path.iter().any(|part| part == "tests") || stem.ends_with("tests") || stem == "testing" {
                continue;
            }
            let text = std::fs::read_to_string(&path).at("read", &path)?;
            let text = text.split("#[cfg(test)]").next().unwrap_or_default();
            for call in ["env::var(\"", "env::var_os(\""] {
                found.extend(text.split(call).skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_owned));
            }
        }
    }
    found.sort();
    found.dedup();
    Ok(found)
}

/// Every file with code below a folder.
pub fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).at("read the folder", folder)? {
        let path = entry.at("read the folder", folder)?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// One file as Rust.
pub fn parse(path: &Path) -> Result<syn::File> {
    let text = std::fs::read_to_string(path).at("read", path)?;
    syn::parse_file(&text).map_err(|error| unclear(format!("{}: {error}", path.display())))
}

/// What a doc comment says, as one line.
pub fn doc(attributes: &[syn::Attribute]) -> String {
    let lines = attributes.iter().filter(|attribute| attribute.path().is_ident("doc")).filter_map(|attribute| match &attribute.meta {
        syn::Meta::NameValue(syn::MetaNameValue { value: syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }), .. }) => {
            Some(text.value().trim().to_owned())
        }
        _ => None,
    });
    let text = lines.collect::<Vec<_>>().join(" ");
    // A link to an item of Rust's is the item's name for who reads no Rust.
    text.trim().replace("[`", "`").replace("`]", "`")
}
