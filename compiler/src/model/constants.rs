//! The values of constants, and of the other names in expressions.

use std::collections::BTreeMap;

use super::codes;
use super::decode::{Lenient, Named};
use super::expr::{EvalError, Expr, Lookup, Number};
use super::sink::{Sink, Span};
use super::tree::Key;
use crate::diag::Diagnostic;

/// What names in expressions mean.
#[derive(Default)]
pub struct Names {
    constants: BTreeMap<String, Constant>,
    symbols: Vec<String>,
    indices: Vec<(String, i64)>,
}

struct Constant {
    /// `None` after a mistake, which has been reported.
    value: Option<Number>,
    span: Span,
    used: bool,
}

impl Names {
    /// Evaluates the constants, in whatever order they need one another.
    pub fn new(defined: Option<&Named<Lenient<Expr>>>, symbols: Vec<String>, sink: &mut Sink) -> Names {
        let mut names = Names {
            symbols,
            ..Names::default()
        };
        let defined: &[_] = defined.map_or(&[], |named| &named.0);
        let by_name: BTreeMap<&str, usize> = defined
            .iter()
            .enumerate()
            .map(|(i, (key, _))| (key.name.as_str(), i))
            .collect();
        // Depth-first, with a stack of its own: a chain of constants may be as long as the file.
        let mut done = vec![false; defined.len()];
        let mut on_path = vec![false; defined.len()];
        for root in 0..defined.len() {
            let mut path = if done[root] { vec![] } else { vec![(root, 0)] };
            while let Some((i, next)) = path.pop() {
                on_path[i] = true;
                let (key, Lenient(expr)) = &defined[i];
                let needs = expr.as_ref().map_or_else(Vec::new, Expr::names);
                let Some((name, _)) = needs.get(next) else {
                    on_path[i] = false;
                    done[i] = true;
                    if !names.constants.contains_key(&key.name) {
                        let value = expr.as_ref().and_then(|expr| names.eval(expr, sink));
                        names.define(&key.name, value, &key.span);
                    }
                    continue;
                };
                path.push((i, next + 1));
                match by_name.get(name) {
                    Some(&j) if on_path[j] => names.report_cycle(defined, &path, j, sink),
                    Some(&j) if !done[j] => path.push((j, 0)),
                    _ => {}
                }
            }
        }
        names
    }

    fn define(&mut self, name: &str, value: Option<Number>, span: &Span) {
        let span = span.clone();
        self.constants.insert(
            name.to_string(),
            Constant {
                value,
                span,
                used: false,
            },
        );
    }

    /// Reports the cycle at the end of `path` that starts at `from`; its constants have no value.
    fn report_cycle(
        &mut self,
        defined: &[(Key, Lenient<Expr>)],
        path: &[(usize, usize)],
        from: usize,
        sink: &mut Sink,
    ) {
        let start = path.iter().position(|&(i, _)| i == from).unwrap_or(0);
        let keys: Vec<_> = path[start..].iter().map(|&(i, _)| &defined[i].0).collect();
        let chain: Vec<String> = keys
            .iter()
            .chain(keys.first())
            .map(|key| format!("`{}`", key.name))
            .collect();
        let shown = if chain.len() > 9 {
            format!("{} -> ... -> {}", chain[..8].join(" -> "), chain[chain.len() - 1])
        } else {
            chain.join(" -> ")
        };
        let mut diagnostic = Diagnostic::new(
            codes::CONSTANT_CYCLE,
            format!("constants depend on themselves: {shown}"),
        );
        for key in keys.iter().take(8) {
            diagnostic = diagnostic.at(key.span.clone(), "in the cycle");
        }
        sink.push(diagnostic);
        for key in keys {
            self.define(&key.name, None, &key.span);
        }
    }

    /// Whether a constant or symbol of that name is there, with its place if it is a constant.
    pub fn constant_span(&self, name: &str) -> Option<&Span> {
        self.constants.get(name).map(|constant| &constant.span)
    }

    /// Gives the index of a repeat its value, inside it.
    pub fn push_index(&mut self, name: &str, value: i64) {
        self.indices.push((name.to_string(), value));
    }

    /// Leaves a repeat.
    pub fn pop_index(&mut self) {
        self.indices.pop();
    }

    /// The value. `None` after a mistake, which has been reported.
    pub fn eval(&mut self, expr: &Expr, sink: &mut Sink) -> Option<Number> {
        let result = expr.eval(&mut Reporting { names: self, sink });
        result
            .map_err(|e| sink.error(e.code, e.message, &e.span, "in this expression"))
            .ok()
            .flatten()
    }

    /// Runs `f` with names that report what is unknown.
    pub fn with<T>(&mut self, sink: &mut Sink, f: impl FnOnce(&mut dyn Lookup) -> Result<T, EvalError>) -> Option<T> {
        let result = f(&mut Reporting { names: self, sink });
        result.map_err(|e| sink.error(e.code, e.message, &e.span, "here")).ok()
    }

    /// Reports constants that no expression uses.
    pub fn report_unused(&self, sink: &mut Sink) {
        for (name, constant) in &self.constants {
            if !constant.used {
                sink.push(
                    Diagnostic::new(codes::UNUSED, format!("the constant `{name}` is never used"))
                        .at(constant.span.clone(), "never used")
                        .help("remove it, or use it where it was meant to be used"),
                );
            }
        }
    }
}

/// Names, with a place for reports of unknown ones: an expression with two unknown names reports both.
struct Reporting<'a> {
    names: &'a mut Names,
    sink: &'a mut Sink,
}

impl Lookup for Reporting<'_> {
    fn lookup(&mut self, name: &str, span: &Span) -> Result<Option<Number>, EvalError> {
        if let Some((_, value)) = self.names.indices.iter().rev().find(|(index, _)| index == name) {
            return Ok(Some(Number::Int(*value)));
        }
        if let Some(constant) = self.names.constants.get_mut(name) {
            constant.used = true;
            return Ok(constant.value);
        }
        let message = format!("unknown constant `{name}`");
        let diagnostic = Diagnostic::new(codes::UNKNOWN_CONSTANT, message).at(span.clone(), "no such constant");
        if self.names.symbols.iter().any(|symbol| symbol == name) {
            let help = format!("`{name}` is a symbol: its value is known at run time only");
            self.sink.push(diagnostic.help(help));
            return Ok(None);
        }
        let indices = self.names.indices.iter().map(|(index, _)| index.as_str());
        let known = self.names.constants.keys().map(String::as_str).chain(indices);
        let (help, meant) = self.sink.guess(name, known);
        self.sink.push(diagnostic.help(help));
        // The constant that was meant is not unused.
        if let Some(meant) = meant.map(str::to_string)
            && let Some(constant) = self.names.constants.get_mut(&meant)
        {
            constant.used = true;
        }
        Ok(None)
    }
}
