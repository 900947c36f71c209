//! What a field is where the file does not say it, worked out from the code that says so.
//!
//! Knows the expressions that defaults are written as, and of any other that it does not.

use super::{Shape, Sources, serde, variant_name};
use base::{ByteSize, DayTime, Span};
use std::path::{Path, PathBuf};
use std::time::Duration;
use syn::{Expr, Item, Lit, Type};

impl Sources {
    /// What a field is where the file does not say it, as a person would write it there.
    pub(super) fn default(
        &self,
        file: &Path,
        of: &syn::ItemStruct,
        field: &syn::Field,
        whole: bool,
        shape: &Shape,
        table: bool,
    ) -> Option<String> {
        let written = serde(&field.attrs, "default");
        if written.as_deref().is_some_and(|name| !name.is_empty()) {
            return None;
        }
        if shape.optional || (table && (written.is_some() || whole)) {
            return Some("none".into());
        }
        if whole && let Some(value) = self.of_whole(file, &of.ident, field.ident.as_ref()?) {
            return self.value(file, &value);
        }
        Some(match (written.is_some() || whole, shape.name.as_str()) {
            (false, _) => "required".into(),
            (true, _) if shape.list || shape.map => "none".into(),
            (true, "bool") => "`false`".into(),
            (true, "Table") => "none".into(),
            (true, _) => match self.find(file, &shape.name)?.1 {
                Item::Enum(one) => {
                    let plain = one.variants.iter().find(|variant| variant.attrs.iter().any(|a| a.path().is_ident("default")))?;
                    format!("`\"{}\"`", variant_name(one, plain))
                }
                _ => return None,
            },
        })
    }

    /// What a function gives whose body is one expression: one of this file, or `crate::…` of another of its crate.
    pub(super) fn body(&self, file: &Path, function: &str) -> Option<Expr> {
        let (module, name) = function.rsplit_once("::").unwrap_or(("", function));
        let file = match module.strip_prefix("crate::") {
            None => file.to_owned(),
            Some(module) => file.components().take(2).collect::<PathBuf>().join(format!("{}.rs", module.replace("::", "/"))),
        };
        self.files.get(&file)?.items.iter().find_map(|item| match item {
            Item::Fn(one) if one.sig.ident == name => only_expression(&one.block),
            _ => None,
        })
    }

    /// A constant of a type's.
    fn constant(&self, file: &Path, of: &str, name: &str) -> Option<Expr> {
        let (file, _) = self.find(file, of)?;
        let impls = self.files.get(&file)?.items.iter().filter_map(|item| match item {
            Item::Impl(one) if matches!(&*one.self_ty, Type::Path(path) if path.path.is_ident(of)) => Some(one),
            _ => None,
        });
        impls.flat_map(|one| &one.items).find_map(|item| match item {
            syn::ImplItem::Const(one) if one.ident == name => Some(one.expr.clone()),
            _ => None,
        })
    }

    /// The same where words name it, as in `` `Listen::DEFAULT` ``.
    pub(super) fn named(&self, file: &Path, said: &str) -> Option<String> {
        let (of, name) = said.strip_prefix('`')?.strip_suffix('`')?.split_once("::")?;
        self.value(file, &self.constant(file, of, name)?)
    }

    /// What `impl Default` of the type gives a field.
    fn of_whole(&self, file: &Path, of: &syn::Ident, field: &syn::Ident) -> Option<Expr> {
        let items = &self.files.get(file)?.items;
        let whole = items.iter().find_map(|item| match item {
            Item::Impl(one) if one.trait_.as_ref().is_some_and(|(_, path, _)| path.is_ident("Default")) => match &*one.self_ty {
                Type::Path(path) if path.path.is_ident(of) => one.items.iter().find_map(|item| match item {
                    syn::ImplItem::Fn(one) => only_expression(&one.block),
                    _ => None,
                }),
                _ => None,
            },
            _ => None,
        })?;
        let Expr::Struct(whole) = whole else { return None };
        whole.fields.into_iter().find(|one| matches!(&one.member, syn::Member::Named(name) if name == field)).map(|one| one.expr)
    }

    /// An expression as a person would write it into the file.
    pub(super) fn value(&self, file: &Path, expression: &Expr) -> Option<String> {
        let path = |expression: &Expr| match expression {
            Expr::Path(path) => path.path.segments.iter().map(|one| one.ident.to_string()).collect::<Vec<_>>(),
            _ => Vec::new(),
        };
        match expression {
            Expr::Lit(one) => match &one.lit {
                Lit::Str(text) => Some(format!("`\"{}\"`", text.value())),
                Lit::Bool(flag) => Some(format!("`{}`", flag.value)),
                Lit::Float(number) => Some(format!("`{}`", number.base10_digits())),
                Lit::Int(_) => Some(format!("`{}`", number(expression)?)),
                _ => None,
            },
            Expr::MethodCall(call) => self.value(file, &call.receiver),
            Expr::Call(call) => {
                let name = path(&call.func);
                let name: Vec<&str> = name.iter().map(String::as_str).collect();
                let given: Vec<&Expr> = call.args.iter().collect();
                match (name.as_slice(), given.as_slice()) {
                    (["Span"], [Expr::Call(seconds)]) => {
                        let seconds = Duration::from_secs(number(seconds.args.first()?)?);
                        Some(format!("`\"{}\"`", String::from(Span(seconds))))
                    }
                    (["ByteSize"], [size]) => Some(format!("`\"{}\"`", String::from(ByteSize(number(size)?)))),
                    (["DayTime", "at"], [hour, minute]) => {
                        let time = DayTime::at(number(hour)?.try_into().ok()?, number(minute)?.try_into().ok()?);
                        Some(format!("`\"{time}\"`"))
                    }
                    ([.., function], []) => self.value(file, &self.body(file, &name.join("::")).or_else(|| self.body(file, function))?),
                    _ => None,
                }
            }
            Expr::Path(_) => match path(expression).as_slice() {
                [none] if none == "None" => Some("none".into()),
                [of, name] => self.value(file, &self.constant(file, of, name)?),
                _ => None,
            },
            _ => number(expression).map(|number| format!("`{number}`")),
        }
    }
}

/// A number that is worked out.
fn number(expression: &Expr) -> Option<u64> {
    match expression {
        Expr::Lit(syn::ExprLit { lit: Lit::Int(number), .. }) => number.base10_parse().ok(),
        Expr::Paren(inner) => number(&inner.expr),
        Expr::Binary(both) => {
            let (left, right) = (number(&both.left)?, number(&both.right)?);
            match both.op {
                syn::BinOp::Mul(_) => left.checked_mul(right),
                syn::BinOp::Add(_) => left.checked_add(right),
                syn::BinOp::Shl(_) => left.checked_shl(right.try_into().ok()?),
                _ => None,
            }
        }
        _ => None,
    }
}

fn only_expression(block: &syn::Block) -> Option<Expr> {
    match block.stmts.as_slice() {
        [syn::Stmt::Expr(expression, None)] => Some(expression.clone()),
        _ => None,
    }
}
