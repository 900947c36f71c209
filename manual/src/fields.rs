//! The fields of a configuration file: names, types, defaults and meanings, from the types that read it.
//!
//! Understands of Rust what such types are made of, and says so of anything else: a page that is silently wrong is worse than
//! none.

mod defaults;

use crate::source::{self, doc};
use crate::unclear;
use base::Result;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use syn::{Fields, Item, Type};

/// Types that are written as one value, and how.
const KINDS: &[(&str, &str)] = &[
    ("bool", "`true` or `false`"),
    ("String", "text"),
    ("PathBuf", "path"),
    ("f64", "number"),
    ("Name", "name"),
    ("Dataset", "dataset, as `\"files:/var/www\"`"),
    ("DatasetPattern", "pattern of datasets, as `\"git:/srv/**\"`"),
    ("ByteSize", "size, as `\"4 GiB\"`"),
    ("Span", "span, as `\"12h\"`"),
    ("DayTime", "time of day, as `\"04:00\"`"),
    ("SshAddress", "`\"user@host\"` or `\"user@host:port\"`"),
    ("Keep", "rules, as `{ daily = 7, weekly = 4 }` (`docs/retention.md`)"),
    ("Table", "table"),
    ("Value", "value"),
];

/// What the first line of every such file says.
const VERSION: &str = "The version of the format, `1`.";

/// One table of a file.
pub struct Table {
    /// As it stands in the file: `[spool]`, `[[node]]`; empty for what stands before all tables.
    pub heading: String,
    /// What it is.
    pub about: String,
    /// What may stand in it.
    pub rows: Vec<Row>,
}

/// One field.
pub struct Row {
    pub name: String,
    pub kind: String,
    pub default: String,
    pub meaning: String,
}

/// The sources that have such types.
pub struct Sources {
    files: BTreeMap<PathBuf, syn::File>,
}

/// A type without what is around it.
struct Shape {
    optional: bool,
    list: bool,
    map: bool,
    name: String,
}

impl Sources {
    /// Reads them all.
    pub fn load(root: &Path) -> Result<Self> {
        let mut files = BTreeMap::new();
        for name in source::CRATES {
            for path in source::files(&root.join(name).join("src"))? {
                let parsed = source::parse(&path)?;
                files.insert(path.strip_prefix(root).unwrap_or(&path).to_owned(), parsed);
            }
        }
        Ok(Self { files })
    }

    /// The tables of the file that the type `name` in `file` reads, from `heading` on.
    pub fn tables(&self, file: &str, name: &str, heading: &str, about: Option<&str>) -> Result<Vec<Table>> {
        let file = Path::new(file);
        let found = self.structure(file, name).ok_or_else(|| unclear(format!("{} has no struct {name}", file.display())))?;
        let mut tables = Vec::new();
        self.collect(file, found, heading, about, &mut tables)?;
        Ok(tables)
    }

    fn collect(&self, file: &Path, found: &syn::ItemStruct, heading: &str, about: Option<&str>, tables: &mut Vec<Table>) -> Result<()> {
        // What is read through another type has that one's fields.
        if let Some(raw) = serde(&found.attrs, "try_from")
            && let Some(raw) = self.structure(file, &raw)
        {
            return self.collect(file, raw, heading, about.or(Some(&doc(&found.attrs))), tables);
        }
        let whole = serde(&found.attrs, "default").is_some();
        let at = tables.len();
        tables.push(Table { heading: heading.to_owned(), about: about.map_or_else(|| doc(&found.attrs), str::to_owned), rows: Vec::new() });
        for field in &found.fields {
            let Some(ident) = &field.ident else { return Err(unclear(format!("{} is no table", found.ident))) };
            if serde(&field.attrs, "skip").is_some() {
                continue;
            }
            let name = serde(&field.attrs, "rename").unwrap_or_else(|| ident.to_string());
            let place = || format!("{} of {} in {}", ident, found.ident, file.display());
            let shape = shape(&field.ty).ok_or_else(|| unclear(format!("the type of {} is not understood", place())))?;
            let below = self.find(file, &shape.name).filter(|_| KINDS.iter().all(|(kind, _)| *kind != shape.name));
            let text = match doc(&field.attrs) {
                text if !text.is_empty() => text,
                _ if name == "version" => VERSION.to_owned(),
                _ => self.said_elsewhere(file, &name).ok_or_else(|| unclear(format!("{} has no words that explain it", place())))?,
            };
            let (mut meaning, said) = split_default(&text);
            let kind = match &below {
                Some((_, Item::Enum(one))) if serde(&one.attrs, "try_from").is_some() => first_sentence(&doc(&one.attrs)),
                Some((_, Item::Enum(one))) => format!("one of {}", variants(one)),
                Some((_, Item::Struct(one))) if is_table(one) => {
                    let sub = sub_heading(heading, &name, &shape);
                    meaning = format!("{meaning} See `{sub}`.");
                    if shape.list || shape.map { "tables".into() } else { "table".to_owned() }
                }
                Some((_, Item::Struct(one))) => first_sentence(&doc(&one.attrs)),
                _ if shape.name == "Table" => {
                    meaning = format!("{meaning} See below.");
                    "tables".to_owned()
                }
                _ => kind(&shape.name),
            };
            let kind = match (shape.list, shape.map) {
                (true, _) if kind != "tables" => format!("list: {kind}"),
                (_, true) if kind != "tables" => format!("table: {kind}"),
                _ => kind,
            };
            // What the code says before what its words say.
            let function = serde(&field.attrs, "default").filter(|name| !name.is_empty());
            let worked_out = function.and_then(|function| self.value(file, &self.body(file, &function)?));
            let said = said.map(|said| self.named(file, &said).unwrap_or(said));
            let default = match worked_out.or(said) {
                Some(default) => default,
                None => self
                    .default(file, found, field, whole, &shape, matches!(&below, Some((_, Item::Struct(one))) if is_table(one)))
                    .ok_or_else(|| unclear(format!("the default of {} is not understood; say it in words: Default: …", place())))?,
            };
            tables[at].rows.push(Row { name: name.clone(), kind, default, meaning });
            if let Some((other, Item::Struct(one))) = below
                && is_table(one)
            {
                // The words of a field say what it is; a table with its own words needs them not twice.
                self.collect(&other, one, &sub_heading(heading, &name, &shape), None, tables)?;
            }
        }
        Ok(())
    }

    /// A struct of one file.
    fn structure(&self, file: &Path, name: &str) -> Option<&syn::ItemStruct> {
        self.files.get(file)?.items.iter().find_map(|item| match item {
            Item::Struct(one) if one.ident == name => Some(one),
            _ => None,
        })
    }

    /// The struct or enum of this name: of the same file, else the only one that reads something of all files.
    fn find(&self, file: &Path, name: &str) -> Option<(PathBuf, &Item)> {
        let of = |path: &Path| {
            let items = self.files.get(path)?.items.iter();
            items.into_iter().find(|item| match item {
                Item::Struct(one) => one.ident == name,
                Item::Enum(one) => one.ident == name,
                _ => false,
            })
        };
        if let Some(item) = of(file) {
            return Some((file.to_owned(), item));
        }
        let reads = |item: &Item| {
            let attributes = match item {
                Item::Struct(one) => &one.attrs,
                Item::Enum(one) => &one.attrs,
                _ => return false,
            };
            attributes.iter().any(|attribute| attribute.path().is_ident("derive") && tokens(attribute).contains("Deserialize"))
        };
        let mut all = self.files.keys().filter_map(|path| Some((path.clone(), of(path)?))).filter(|(_, item)| reads(item));
        match (all.next(), all.next()) {
            (Some(one), None) => Some(one),
            _ => None,
        }
    }

    /// What another type of the file says of a field of this name: what is read is often made into that type.
    fn said_elsewhere(&self, file: &Path, name: &str) -> Option<String> {
        let structs = self.files.get(file)?.items.iter().filter_map(|item| match item {
            Item::Struct(one) => Some(one),
            _ => None,
        });
        let fields = structs.flat_map(|one| one.fields.iter()).filter(|field| field.ident.as_ref().is_some_and(|ident| ident == name));
        fields.map(|field| doc(&field.attrs)).find(|text| !text.is_empty())
    }
}

/// Whether it has named fields and is read as they stand, or through one that has.
fn is_table(one: &syn::ItemStruct) -> bool {
    matches!(one.fields, Fields::Named(_)) && serde(&one.attrs, "try_from").is_none_or(|from| from != "String")
}

fn sub_heading(above: &str, name: &str, shape: &Shape) -> String {
    let above = above.trim_matches(['[', ']']);
    let path = if above.is_empty() { name.to_owned() } else { format!("{above}.{name}") };
    match (shape.list, shape.map) {
        (true, _) => format!("[[{path}]]"),
        (_, true) => format!("[{path}.NAME]"),
        _ => format!("[{path}]"),
    }
}

fn shape(of: &Type) -> Option<Shape> {
    let Type::Path(path) = of else { return None };
    let last = path.path.segments.last()?;
    let mut inner = match &last.arguments {
        syn::PathArguments::AngleBracketed(given) => given
            .args
            .iter()
            .filter_map(|one| match one {
                syn::GenericArgument::Type(one) => Some(one),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    };
    let name = last.ident.to_string();
    let innermost = inner.pop();
    match (name.as_str(), innermost) {
        ("Option", Some(inner)) => shape(inner).map(|shape| Shape { optional: true, ..shape }),
        ("Vec", Some(inner)) => shape(inner).map(|shape| Shape { list: true, ..shape }),
        ("BTreeMap", Some(inner)) => shape(inner).map(|shape| Shape { map: true, ..shape }),
        ("Spanned" | "Box", Some(inner)) => shape(inner),
        (_, None) => Some(Shape { optional: false, list: false, map: false, name }),
        _ => None,
    }
}

fn kind(name: &str) -> String {
    match KINDS.iter().find(|(kind, _)| *kind == name) {
        Some((_, words)) => (*words).to_owned(),
        None if name.starts_with("NonZero") => "number above 0".to_owned(),
        None if name.starts_with(['u', 'i']) && name[1..].parse::<u8>().is_ok() => "number".to_owned(),
        None => format!("`{name}`"),
    }
}

fn variants(one: &syn::ItemEnum) -> String {
    let names =
        one.variants.iter().map(|variant| format!("`\"{}\"` ({})", variant_name(one, variant), doc(&variant.attrs).trim_end_matches('.')));
    names.collect::<Vec<_>>().join(", ")
}

fn variant_name(one: &syn::ItemEnum, variant: &syn::Variant) -> String {
    let plain = variant.ident.to_string();
    serde(&variant.attrs, "rename").unwrap_or_else(|| match serde(&one.attrs, "rename_all").as_deref() {
        Some("lowercase") => plain.to_lowercase(),
        Some(case @ ("kebab-case" | "snake_case")) => {
            let between = if case == "kebab-case" { '-' } else { '_' };
            let mut text = String::new();
            for letter in plain.chars() {
                if letter.is_uppercase() && !text.is_empty() {
                    text.push(between);
                }
                text.extend(letter.to_lowercase());
            }
            text
        }
        _ => plain,
    })
}

/// What `#[serde(NAME = "…")]` says; empty where there is no value.
fn serde(attributes: &[syn::Attribute], name: &str) -> Option<String> {
    let mut found = None;
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("serde")) {
        // What is not understood is no setting that is asked for here.
        let _ = attribute.parse_nested_meta(|meta| {
            let value = match meta.value() {
                Ok(value) => value.parse::<syn::LitStr>().map(|text| text.value()).unwrap_or_default(),
                Err(_) => String::new(),
            };
            if meta.path.is_ident(name) {
                found = Some(value);
            }
            Ok(())
        });
    }
    found
}

/// The names in a `derive`.
fn tokens(attribute: &syn::Attribute) -> String {
    let mut names = String::new();
    let _ = attribute.parse_nested_meta(|meta| {
        names.extend(meta.path.segments.last().map(|one| format!("{} ", one.ident)));
        Ok(())
    });
    names
}

/// The words without their sentence on the default, and what that sentence says.
fn split_default(text: &str) -> (String, Option<String>) {
    let starts = |at: usize| at == 0 || text[..at].ends_with(". ") || text[..at].ends_with("; ");
    let Some(at) = text.match_indices("Default").map(|(at, _)| at).find(|at| starts(*at)) else { return (text.to_owned(), None) };
    let rest = &text[at + "Default".len()..];
    let rest = rest.trim_start_matches([':', ' ']);
    let end =
        rest.match_indices(". ").map(|(end, _)| end).find(|end| rest[end + 2..].starts_with(char::is_uppercase)).unwrap_or(rest.len());
    let said = rest[..end].trim_end_matches('.').to_owned();
    let after = rest.get(end + 1..).unwrap_or_default().trim();
    (format!("{} {after}", text[..at].trim()).trim().to_owned(), Some(said))
}

fn first_sentence(text: &str) -> String {
    text.split_once(". ").map_or(text, |(first, _)| first).trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str) -> Result<Vec<String>> {
        let path = PathBuf::from("a/src/b.rs");
        let sources = Sources { files: BTreeMap::from([(path, syn::parse_file(text).unwrap())]) };
        let tables = sources.tables("a/src/b.rs", "Config", "", None)?;
        let row = |table: &Table, row: &Row| format!("{}|{}|{}|{}|{}", table.heading, row.name, row.kind, row.default, row.meaning);
        Ok(tables.iter().flat_map(|table| table.rows.iter().map(move |one| row(table, one))).collect())
    }

    #[test]
    fn fields_have_their_types_defaults_and_words() {
        let found = rows(
            r#"
            /// All.
            #[derive(Deserialize)]
            struct Config {
                version: i64,
                /// A name.
                name: Name,
                /// Perhaps. Default: the other. And more.
                #[serde(default)]
                perhaps: Option<PathBuf>,
                /// A while.
                #[serde(default = "while_")]
                while_: Span,
                /// Some.
                #[serde(default, rename = "node")]
                nodes: Vec<Node>,
                /// By name.
                #[serde(default)]
                by: BTreeMap<String, Times>,
                /// How.
                #[serde(default)]
                how: How,
            }
            fn while_() -> Span { Span(Duration::from_secs(2 * 3600)) }
            /// One.
            #[derive(Deserialize)]
            struct Node { /// How much.
                size: Option<ByteSize>, said: u16 }
            struct Other { /// Said elsewhere.
                said: u16 }
            /// When.
            #[derive(Deserialize)]
            #[serde(default)]
            struct Times { /// At.
                at: DayTime, /// How many.
                many: u32 }
            impl Default for Times { fn default() -> Self { Self { at: DayTime::at(4, 0), many: 1 << 4 } } }
            #[derive(Deserialize)]
            #[serde(rename_all = "kebab-case")]
            enum How { /// Not slow.
                #[default]
                VeryFast, /// Slow.
                Slow }
            "#,
        )
        .unwrap();
        assert_eq!(
            found,
            [
                "|version|number|required|The version of the format, `1`.",
                "|name|name|required|A name.",
                "|perhaps|path|the other|Perhaps. And more.",
                "|while_|span, as `\"12h\"`|`\"2h\"`|A while.",
                "|node|tables|none|Some. See `[[node]]`.",
                "|by|tables|none|By name. See `[by.NAME]`.",
                "|how|one of `\"very-fast\"` (Not slow), `\"slow\"` (Slow)|`\"very-fast\"`|How.",
                "[[node]]|size|size, as `\"4 GiB\"`|none|How much.",
                "[[node]]|said|number|required|Said elsewhere.",
                "[by.NAME]|at|time of day, as `\"04:00\"`|`\"04:00\"`|At.",
                "[by.NAME]|many|number|`16`|How many.",
            ]
        );
    }

    #[test]
    fn what_is_not_understood_is_said() {
        for (field, words) in [
            ("x: u8", "no words that explain it"),
            ("/// X.\n x: &'static str", "type of x of Config in a/src/b.rs is not understood"),
            ("/// X.\n #[serde(default = \"f\")] x: u8", "default of x of Config in a/src/b.rs is not understood"),
        ] {
            let error = rows(&format!("struct Config {{ {field} }} fn f() -> u8 {{ let a = 1; a }}")).unwrap_err().one_line();
            assert!(error.contains(words), "{field}: {error}");
        }
    }

    #[test]
    fn a_default_in_words() {
        for (text, meaning, said) in [
            ("The port. Default: 587, with `tls` 465.", "The port.", Some("587, with `tls` 465")),
            ("Default `/x`. More.", "More.", Some("`/x`")),
            ("By default none.", "By default none.", None),
        ] {
            assert_eq!(split_default(text), (meaning.into(), said.map(str::to_owned)), "{text}");
        }
    }
}
