//! What `pg_restore --list --verbose` says is in a dump, and which of it a table needs.
//!
//! Runs nothing. The list is a stranger's: it chooses among the dump's own entries and does no more.

use base::{Error, Result};
use std::collections::BTreeSet;

/// One entry of a dump.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Item {
    id: u32,
    /// The line, which is what `--use-list` takes.
    line: String,
    /// All behind the numbers: kind, schema, name, owner.
    text: String,
    needs: Vec<u32>,
}

/// A dump's list.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Toc(Vec<Item>);

/// What is restored of a dump.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Choice {
    /// The list for `--use-list`.
    pub list: String,
    /// The tables, as SQL takes them.
    pub tables: Vec<String>,
}

/// What belongs to a table and is called by it: its name comes first, then that of the thing.
const NAMED_BY_TABLE: [&str; 6] = ["CONSTRAINT", "FK CONSTRAINT", "TRIGGER", "RULE", "POLICY", "DEFAULT"];
/// What belongs to what it needs.
const FOLLOWS: [&str; 11] = [
    "TABLE DATA",
    "INDEX",
    "SEQUENCE",
    "SEQUENCE OWNED BY",
    "SEQUENCE SET",
    "STATISTICS",
    "ROW SECURITY",
    "ACL",
    "COMMENT",
    "SECURITY LABEL",
    "MATERIALIZED VIEW DATA",
];
/// What a table may need, in a database that does not have it.
const NEEDED: [&str; 12] = [
    "SCHEMA",
    "EXTENSION",
    "TYPE",
    "SHELL TYPE",
    "DOMAIN",
    "COLLATION",
    "FUNCTION",
    "SEQUENCE",
    "TABLE",
    "ACCESS METHOD",
    "OPERATOR CLASS",
    "FOREIGN TABLE",
];
/// Kinds of two words and more that begin with another kind.
const LONG: [&str; 6] = ["TABLE DATA", "TABLE ATTACH", "INDEX ATTACH", "SEQUENCE SET", "SEQUENCE OWNED BY", "MATERIALIZED VIEW DATA"];
/// Settings that belong to every restore.
const ALWAYS: [&str; 3] = ["ENCODING", "STDSTRINGS", "SEARCHPATH"];

impl Toc {
    /// Reads a list.
    pub fn parse(text: &str) -> Self {
        let mut items: Vec<Item> = Vec::new();
        for line in text.lines() {
            if let Some(needs) = line.strip_prefix(";\tdepends on:") {
                if let Some(last) = items.last_mut() {
                    last.needs = needs.split_whitespace().filter_map(|id| id.parse().ok()).collect();
                }
                continue;
            }
            let parsed = line.split_once("; ").and_then(|(id, rest)| {
                let id = id.parse().ok()?;
                Some((id, rest.splitn(3, ' ').nth(2)?))
            });
            if let Some((id, text)) = parsed {
                items.push(Item { id, line: line.to_owned(), text: text.to_owned(), needs: Vec::new() });
            }
        }
        Self(items)
    }

    /// The list of what concerns the database as such: how it was made, who may do what with it.
    pub fn of_database(&self) -> String {
        let own = |item: &&Item| {
            ["DATABASE - ", "DATABASE PROPERTIES - ", "ACL - DATABASE ", "COMMENT - DATABASE ", "SECURITY LABEL - DATABASE "]
                .iter()
                .any(|begin| item.text.starts_with(begin))
        };
        list(self.0.iter().filter(own))
    }

    /// The tables `wanted` (`orders` or `sales.orders`) with their data and all that belongs to them; with `all`, what they
    /// need too.
    ///
    /// # Errors
    /// Of kind usage when there is no such table, or more than one.
    pub fn choose(&self, wanted: &[String], all: bool) -> Result<Choice> {
        let mut chosen = BTreeSet::new();
        let mut tables = Vec::new();
        for name in wanted {
            let (item, schema, table) = self.table(name)?;
            chosen.insert(item.id);
            tables.push(format!("{}.{}", super::names::identifier(&schema), super::names::identifier(&table)));
        }
        // Partitions, which are tables of their own, hang on what attaches them.
        self.grow(&mut chosen, |chosen| {
            let attached = |item: &&Item| item.is("TABLE ATTACH") && item.needs.get(1).is_some_and(|parent| chosen.contains(parent));
            self.0.iter().filter(attached).filter_map(|item| item.needs.first().copied()).collect()
        });
        let own: Vec<String> = self.0.iter().filter(|item| chosen.contains(&item.id)).filter_map(Item::of_table).collect();
        self.grow(&mut chosen, |chosen| self.0.iter().filter(|item| item.belongs(chosen, &own)).map(|item| item.id).collect());
        if all {
            self.grow(&mut chosen, |chosen| {
                let asking = self.0.iter().filter(|item| chosen.contains(&item.id) && !item.is("FK CONSTRAINT"));
                let needed: BTreeSet<u32> = asking.flat_map(|item| item.needs.clone()).collect();
                let can_be = |item: &&Item| needed.contains(&item.id) && NEEDED.iter().any(|kind| item.is(kind));
                self.0.iter().filter(can_be).map(|item| item.id).collect()
            });
        }
        let list = list(self.0.iter().filter(|item| chosen.contains(&item.id) || ALWAYS.iter().any(|kind| item.is(kind))));
        Ok(Choice { list, tables })
    }

    /// Adds what `more` gives until that is nothing new.
    fn grow(&self, chosen: &mut BTreeSet<u32>, more: impl Fn(&BTreeSet<u32>) -> Vec<u32>) {
        loop {
            let before = chosen.len();
            chosen.extend(more(chosen));
            if chosen.len() == before {
                return;
            }
        }
    }

    fn table(&self, name: &str) -> Result<(&Item, String, String)> {
        let mut found = Vec::new();
        for item in &self.0 {
            for kind in ["TABLE ", "FOREIGN TABLE ", "MATERIALIZED VIEW "] {
                let Some((schema, rest)) = item.text.strip_prefix(kind).and_then(|rest| rest.split_once(' ')) else { continue };
                // What stands behind the name is its owner, which may have spaces too.
                let matches = |table: &str| rest.strip_prefix(table).is_some_and(|owner| owner.starts_with(' '));
                let dotted = name.split_once('.').filter(|(first, table)| *first == schema && matches(table)).map(|(_, table)| table);
                if let Some(table) = dotted.or_else(|| matches(name).then_some(name))
                    && !["DATA", "ATTACH"].contains(&schema)
                {
                    found.push((item, schema.to_owned(), table.to_owned()));
                }
            }
        }
        match found.len() {
            1 => Ok(found.remove(0)),
            0 => Err(Error::usage(format!("there is no table {name:?} in the dump"))
                .hint("Write TABLE or SCHEMA.TABLE; `nightsafe restore … --stdout | pg_restore --list` shows what there is.")),
            _ => {
                let all = found.iter().map(|(_, schema, table)| format!("{schema}.{table}")).collect::<Vec<_>>().join(", ");
                Err(Error::usage(format!("{name:?} may be one of {all}")).hint("Write SCHEMA.TABLE."))
            }
        }
    }
}

impl Item {
    fn is(&self, kind: &str) -> bool {
        let begins = |kind: &str| self.text.strip_prefix(kind).is_some_and(|rest| rest.starts_with(' '));
        // Some kinds are the beginnings of others.
        let longer = LONG.iter().any(|long| long.len() > kind.len() && long.starts_with(kind) && begins(long));
        begins(kind) && !longer
    }

    /// Whether it belongs to what was chosen; `tables` are the tables of that.
    fn belongs(&self, chosen: &BTreeSet<u32>, tables: &[String]) -> bool {
        // An attachment has two sides, and both must be there.
        if self.is("TABLE ATTACH") || self.is("INDEX ATTACH") {
            return self.needs.iter().all(|id| chosen.contains(id));
        }
        // A foreign key of another table needs this one too: only what is called by one of the tables is theirs.
        let named = || NAMED_BY_TABLE.iter().any(|kind| tables.iter().any(|table| self.text.starts_with(&format!("{kind} {table} "))));
        self.needs.iter().any(|id| chosen.contains(id)) && (FOLLOWS.iter().any(|kind| self.is(kind)) || named())
    }

    /// `schema table` of a table, as it stands in the lines of what belongs to it.
    fn of_table(&self) -> Option<String> {
        let rest = self.text.strip_prefix("TABLE ").filter(|_| self.is("TABLE"))?;
        rest.rsplit_once(' ').map(|(name, _)| name.to_owned())
    }
}

fn list<'a>(items: impl Iterator<Item = &'a Item>) -> String {
    items.map(|item| format!("{}\n", item.line)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = include_str!("toc_sample.txt");

    fn chosen(tables: &[&str], all: bool) -> Vec<String> {
        let tables: Vec<String> = tables.iter().map(|table| (*table).to_owned()).collect();
        let list = Toc::parse(LIST).choose(&tables, all).unwrap().list;
        list.lines()
            .map(|line| line.splitn(4, ' ').nth(3).unwrap().to_owned())
            .filter(|text| !ALWAYS.iter().any(|word| text.starts_with(word)))
            .collect()
    }

    #[test]
    fn a_table_comes_with_what_belongs_to_it_and_nothing_else() {
        assert_eq!(
            chosen(&["orders"], false),
            [
                "TABLE public orders postgres",
                "COMMENT public TABLE orders postgres",
                "ACL public TABLE orders postgres",
                "SEQUENCE public orders_id_seq postgres",
                "SEQUENCE OWNED BY public orders_id_seq postgres",
                "DEFAULT public orders id postgres",
                "TABLE DATA public orders postgres",
                "SEQUENCE SET public orders_id_seq postgres",
                "CONSTRAINT public orders orders_pkey postgres",
                "INDEX public orders_t_idx postgres",
                "TRIGGER public orders tr postgres",
                "FK CONSTRAINT public orders orders_c_fkey postgres",
                "ROW SECURITY public orders postgres",
                "POLICY public orders p postgres",
            ]
        );
        assert_eq!(chosen(&["odd table"], false), ["TABLE public odd table postgres", "TABLE DATA public odd table postgres"]);
    }

    #[test]
    fn in_a_new_database_what_it_needs_comes_too() {
        let all = chosen(&["s.cust"], true);
        for text in ["SCHEMA - s postgres", "TYPE s mood postgres", "TABLE s cust postgres", "CONSTRAINT s cust cust_pkey postgres"] {
            assert!(all.iter().any(|line| line == text), "{text} is missing in {all:?}");
        }
        assert!(chosen(&["orders"], true).iter().any(|line| line == "FUNCTION public f() postgres"));
        assert!(!all.iter().any(|line| line.contains("orders")), "{all:?}");
    }

    #[test]
    fn partitions_come_with_the_whole() {
        let all = chosen(&["part"], false);
        assert_eq!(
            all,
            [
                "TABLE public part postgres",
                "TABLE public part1 postgres",
                "TABLE ATTACH public part1 postgres",
                "TABLE DATA public part1 postgres",
                "INDEX public part_id_idx postgres",
                "INDEX public part1_id_idx postgres",
                "INDEX ATTACH public part1_id_idx postgres",
            ]
        );
    }

    #[test]
    fn what_is_not_there_or_is_several_is_said() {
        let toc = Toc::parse(LIST);
        for (name, word) in [("nosuch", "no table"), ("s.orders", "no table"), ("v", "no table"), ("", "no table"), ("order", "no table")] {
            let error = toc.choose(&[name.into()], false).unwrap_err();
            assert!(error.one_line().contains(word), "{name}: {}", error.one_line());
        }
        let twice = format!("{LIST}9; 1259 1 TABLE s orders postgres\n");
        assert!(Toc::parse(&twice).choose(&["orders".into()], false).unwrap_err().one_line().contains("s.orders"));
        assert_eq!(Toc::parse(&twice).choose(&["s.orders".into()], false).unwrap().tables, ["\"s\".\"orders\""]);
        assert_eq!(Toc::parse("nonsense\n;\tdepends on: 1\n1; x\n; ; ;\n").0.len(), 0);
    }

    #[test]
    fn what_concerns_the_database_itself() {
        assert_eq!(Toc::parse(LIST).of_database(), "3405; 1262 16386 DATABASE - shop shop\n");
    }
}
