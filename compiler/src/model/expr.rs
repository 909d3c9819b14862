//! Arithmetic on constants: numbers, names, `+ - * / ( )`, `sqrt`. Checked, and exact on whole numbers.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::codes;
use super::decode::{Decode, wrong_type};
use super::sink::{Sink, Span};
use super::tree::{Node, Value};

/// The longest expression, in bytes: bounds the depth of the tree, and with it the stack of its evaluation.
const MAX_LEN: usize = 1024;

/// Parentheses and signs within one another: bounds the parser's stack.
const MAX_DEPTH: usize = 64;

/// A number: whole as long as it can be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// Whole.
    Int(i64),
    /// Finite.
    Float(f64),
}

impl Number {
    /// As a float; whole numbers beyond 2^53 are rounded.
    pub fn as_f64(self) -> f64 {
        match self {
            Number::Int(value) => value as f64,
            Number::Float(value) => value,
        }
    }
}

/// A parsed expression and its place.
#[derive(Clone, Debug)]
pub struct Expr {
    root: Term,
    /// The whole expression.
    pub span: Span,
}

#[derive(Clone, Debug)]
struct Term {
    kind: Kind,
    span: Span,
}

#[derive(Clone, Debug)]
enum Kind {
    Number(Number),
    Name(String),
    Negate(Box<Term>),
    Sqrt(Box<Term>),
    Binary(Operator, Box<Term>, Box<Term>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
}

/// What went wrong in an evaluation, and where.
#[derive(Clone, Debug, PartialEq)]
pub struct EvalError {
    /// The diagnostic's code.
    pub code: &'static str,
    /// The message.
    pub message: String,
    /// The part of the expression.
    pub span: Span,
}

/// The meaning of a name in an expression.
pub trait Lookup {
    /// The number, or what is wrong with the name at `span`. `None` if that has been reported elsewhere.
    fn lookup(&mut self, name: &str, span: &Span) -> Result<Option<Number>, EvalError>;
}

impl Expr {
    /// Parses `text`. Positions are `start` plus the offset in the text, or all of `whole` where the text does not
    /// stand in the file as it is.
    pub fn parse(text: &str, start: Option<usize>, whole: &Span) -> Result<Expr, EvalError> {
        let mut parser = Parser {
            text,
            at: 0,
            start,
            whole,
            depth: 0,
        };
        if text.len() > MAX_LEN {
            return Err(parser.error(format!("an expression has at most {MAX_LEN} bytes"), 0, text.len()));
        }
        let root = parser.sum()?;
        parser.skip_space();
        if parser.at < text.len() {
            return Err(parser.unexpected("an operator or the end"));
        }
        Ok(Expr {
            root,
            span: whole.clone(),
        })
    }

    /// The names that occur, with their places.
    pub fn names(&self) -> Vec<(&str, &Span)> {
        fn walk<'a>(term: &'a Term, into: &mut Vec<(&'a str, &'a Span)>) {
            match &term.kind {
                Kind::Number(_) => {}
                Kind::Name(name) => into.push((name, &term.span)),
                Kind::Negate(inner) | Kind::Sqrt(inner) => walk(inner, into),
                Kind::Binary(_, a, b) => {
                    walk(a, into);
                    walk(b, into);
                }
            }
        }
        let mut names = Vec::new();
        walk(&self.root, &mut names);
        names
    }

    /// The value. `None` if a name in it has no value, which has been reported.
    pub fn eval(&self, names: &mut dyn Lookup) -> Result<Option<Number>, EvalError> {
        eval(&self.root, names)
    }
}

fn eval(term: &Term, names: &mut dyn Lookup) -> Result<Option<Number>, EvalError> {
    let fail = |message: String| EvalError {
        code: codes::ARITHMETIC,
        message,
        span: term.span.clone(),
    };
    let value = match &term.kind {
        Kind::Number(number) => *number,
        Kind::Name(name) => return names.lookup(name, &term.span),
        Kind::Negate(inner) => match eval(inner, names)? {
            None => return Ok(None),
            Some(Number::Int(value)) => Number::Int(
                value
                    .checked_neg()
                    .ok_or_else(|| fail(format!("-({value}) does not fit in 64 bits")))?,
            ),
            Some(Number::Float(value)) => Number::Float(-value),
        },
        Kind::Sqrt(inner) => match eval(inner, names)? {
            None => return Ok(None),
            Some(number) if number.as_f64() < 0.0 => {
                return Err(fail(format!(
                    "the square root of {}, a negative number",
                    number.as_f64()
                )));
            }
            Some(number) => Number::Float(number.as_f64().sqrt()),
        },
        Kind::Binary(operator, a, b) => {
            // Both sides are looked at, so that the mistakes of both are reported.
            let (a, b) = (eval(a, names)?, eval(b, names)?);
            let (Some(a), Some(b)) = (a, b) else { return Ok(None) };
            binary(*operator, a, b).map_err(fail)?
        }
    };
    Ok(Some(value))
}

fn binary(operator: Operator, a: Number, b: Number) -> Result<Number, String> {
    let symbol = match operator {
        Operator::Add => '+',
        Operator::Subtract => '-',
        Operator::Multiply => '*',
        Operator::Divide => '/',
    };
    if operator == Operator::Divide && b.as_f64() == 0.0 {
        return Err(format!("{} is divided by zero", a.as_f64()));
    }
    if let (Number::Int(a), Number::Int(b)) = (a, b) {
        let whole = match operator {
            Operator::Add => a.checked_add(b),
            Operator::Subtract => a.checked_sub(b),
            Operator::Multiply => a.checked_mul(b),
            Operator::Divide if a.wrapping_rem(b) != 0 => return finite(a as f64 / b as f64, operator),
            Operator::Divide => a.checked_div(b),
        };
        return whole
            .map(Number::Int)
            .ok_or_else(|| format!("{a} {symbol} {b} does not fit in 64 bits"));
    }
    let (a, b) = (a.as_f64(), b.as_f64());
    let value = match operator {
        Operator::Add => a + b,
        Operator::Subtract => a - b,
        Operator::Multiply => a * b,
        Operator::Divide => a / b,
    };
    finite(value, operator)
}

fn finite(value: f64, operator: Operator) -> Result<Number, String> {
    if value.is_finite() {
        Ok(Number::Float(value))
    } else {
        Err(format!("the result of {operator:?} is not finite").to_lowercase())
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    start: Option<usize>,
    whole: &'a Span,
    depth: usize,
}

impl Parser<'_> {
    fn span(&self, from: usize, to: usize) -> Span {
        match self.start {
            Some(start) => start + from..start + to,
            None => self.whole.clone(),
        }
    }

    fn error(&self, message: String, from: usize, to: usize) -> EvalError {
        EvalError {
            code: codes::EXPRESSION,
            message,
            span: self.span(from, to),
        }
    }

    fn unexpected(&self, expected: &str) -> EvalError {
        match self.text[self.at..].chars().next() {
            Some(c) => self.error(
                format!("expected {expected}, found `{}`", c.escape_debug()),
                self.at,
                self.at + c.len_utf8(),
            ),
            None => self.error(format!("expected {expected}, found the end"), self.at, self.at),
        }
    }

    fn skip_space(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\n']).len();
    }

    fn peek(&mut self) -> Option<char> {
        self.skip_space();
        self.text[self.at..].chars().next()
    }

    fn take(&mut self, c: char) -> bool {
        let taken = self.peek() == Some(c);
        if taken {
            self.at += c.len_utf8();
        }
        taken
    }

    fn join(&self, operator: Operator, a: Term, b: Term) -> Term {
        let span = a.span.start..b.span.end;
        Term {
            kind: Kind::Binary(operator, Box::new(a), Box::new(b)),
            span,
        }
    }

    /// `product (('+' | '-') product)*`
    fn sum(&mut self) -> Result<Term, EvalError> {
        let mut left = self.product()?;
        loop {
            let operator = match self.peek() {
                Some('+') => Operator::Add,
                Some('-') => Operator::Subtract,
                _ => return Ok(left),
            };
            self.at += 1;
            let right = self.product()?;
            left = self.join(operator, left, right);
        }
    }

    /// `factor (('*' | '/') factor)*`
    fn product(&mut self) -> Result<Term, EvalError> {
        let mut left = self.factor()?;
        loop {
            let operator = match self.peek() {
                Some('*') => Operator::Multiply,
                Some('/') => Operator::Divide,
                _ => return Ok(left),
            };
            self.at += 1;
            let right = self.factor()?;
            left = self.join(operator, left, right);
        }
    }

    /// `'-' factor | '(' sum ')' | 'sqrt' '(' sum ')' | number | name`
    fn factor(&mut self) -> Result<Term, EvalError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.error("the expression is nested too deeply".to_string(), 0, self.text.len()));
        }
        let first = self.peek();
        let from = self.at;
        let kind = match first {
            Some('-') => {
                self.at += 1;
                Kind::Negate(Box::new(self.factor()?))
            }
            Some('(') => {
                self.at += 1;
                let inner = self.sum()?;
                if !self.take(')') {
                    return Err(self.unexpected("`)`"));
                }
                inner.kind
            }
            Some(c) if c.is_ascii_digit() || c == '.' => Kind::Number(self.number()?),
            Some(c) if c.is_ascii_alphabetic() || c == '_' => self.name()?,
            _ => return Err(self.unexpected("a number, a name, `sqrt` or `(`")),
        };
        self.depth -= 1;
        Ok(Term {
            kind,
            span: self.span(from, self.at),
        })
    }

    fn number(&mut self) -> Result<Number, EvalError> {
        let from = self.at;
        let bytes = self.text.as_bytes();
        while let Some(&byte) = bytes.get(self.at) {
            let exponent_sign =
                matches!(byte, b'+' | b'-') && matches!(bytes[self.at - 1], b'e' | b'E') && self.at > from;
            if !(byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_') || exponent_sign) {
                break;
            }
            self.at += 1;
        }
        let digits = &self.text[from..self.at];
        let number = if digits.bytes().all(|b| b.is_ascii_digit()) {
            digits.parse().ok().map(Number::Int)
        } else {
            digits
                .parse()
                .ok()
                .filter(|value: &f64| value.is_finite())
                .map(Number::Float)
        };
        number.ok_or_else(|| self.error(format!("`{digits}` is not a number of 64 bits"), from, self.at))
    }

    fn name(&mut self) -> Result<Kind, EvalError> {
        let from = self.at;
        let rest = &self.text[from..];
        let len = rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .unwrap_or(rest.len());
        self.at += len;
        let name = &rest[..len];
        if self.peek() != Some('(') {
            self.at = from + len;
            return Ok(Kind::Name(name.to_string()));
        }
        if name != "sqrt" {
            return Err(self.error(
                format!("unknown function `{name}`; the only one is `sqrt`"),
                from,
                from + len,
            ));
        }
        self.at += 1;
        let inner = self.sum()?;
        if !self.take(')') {
            return Err(self.unexpected("`)`"));
        }
        Ok(Kind::Sqrt(Box::new(inner)))
    }
}

impl Decode for Expr {
    fn decode(node: &Node, sink: &mut Sink) -> Option<Self> {
        let number = match &node.value {
            Value::Int(value) => match i64::try_from(*value) {
                Ok(value) => Number::Int(value),
                Err(_) => {
                    let message = format!("{value} does not fit in 64 bits");
                    sink.error(codes::ARITHMETIC, message, &node.span, "too large");
                    return None;
                }
            },
            Value::Float(value) => Number::Float(*value),
            Value::Str(text) => {
                return Expr::parse(text, node.text_start, &node.span)
                    .map_err(|e| sink.error(e.code, e.message, &e.span, "in this expression"))
                    .ok();
            }
            _ => {
                wrong_type(node, "a number or an expression", sink);
                return None;
            }
        };
        let span = node.span.clone();
        let kind = Kind::Number(number);
        Some(Expr {
            root: Term {
                kind,
                span: span.clone(),
            },
            span,
        })
    }
}

impl JsonSchema for Expr {
    fn inline_schema() -> bool {
        false
    }

    fn schema_name() -> Cow<'static, str> {
        "Expression".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A number, or arithmetic on numbers and constants: + - * / ( ) sqrt.",
            "anyOf": [
                { "type": "number" },
                { "type": "string", "pattern": "^[A-Za-z0-9_+*/(). -]+$" }
            ]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Names;

    impl Lookup for Names {
        fn lookup(&mut self, name: &str, span: &Span) -> Result<Option<Number>, EvalError> {
            match name {
                "d" => Ok(Some(Number::Int(64))),
                "eps" => Ok(Some(Number::Float(0.5))),
                _ => Err(EvalError {
                    code: codes::UNKNOWN_CONSTANT,
                    message: name.to_string(),
                    span: span.clone(),
                }),
            }
        }
    }

    fn value(text: &str) -> Result<Number, (&'static str, Span)> {
        Expr::parse(text, Some(0), &(0..text.len()))
            .and_then(|expr| expr.eval(&mut Names))
            .map(|number| number.expect("every name has a value"))
            .map_err(|e| (e.code, e.span))
    }

    #[test]
    fn arithmetic_is_exact_on_whole_numbers() {
        for (text, expected) in [
            ("1 + 2 * 3", Number::Int(7)),
            ("(1 + 2) * 3", Number::Int(9)),
            ("10 - 3 - 2", Number::Int(5)),
            ("-d / 8", Number::Int(-8)),
            ("7 / 2", Number::Float(3.5)),
            ("1 / sqrt(d)", Number::Float(0.125)),
            ("sqrt(d)", Number::Float(8.0)),
            ("1.0e-5", Number::Float(1.0e-5)),
            ("2e+3 * eps", Number::Float(1000.0)),
            ("9007199254740993 + 0", Number::Int(9_007_199_254_740_993)),
        ] {
            assert_eq!(value(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn mistakes_are_found_where_they_are() {
        for (text, code, span) in [
            ("d * head", codes::UNKNOWN_CONSTANT, 4..8),
            ("1 / (d - 64)", codes::ARITHMETIC, 0..12),
            ("9223372036854775807 + 1", codes::ARITHMETIC, 0..23),
            ("-(0 - 9223372036854775807 - 1)", codes::ARITHMETIC, 0..30),
            ("(0 - 9223372036854775807 - 1) / -1", codes::ARITHMETIC, 0..34),
            ("sqrt(-1)", codes::ARITHMETIC, 0..8),
            ("1e300 * 1e300", codes::ARITHMETIC, 0..13),
            ("1 +", codes::EXPRESSION, 3..3),
            ("(1", codes::EXPRESSION, 2..2),
            ("1 2", codes::EXPRESSION, 2..3),
            ("log(2)", codes::EXPRESSION, 0..3),
            ("99999999999999999999", codes::EXPRESSION, 0..20),
            ("0x10", codes::EXPRESSION, 0..4),
            ("", codes::EXPRESSION, 0..0),
        ] {
            assert_eq!(value(text), Err((code, span)), "{text}");
        }
    }

    #[test]
    fn depth_and_length_are_bounded() {
        for text in [
            "(".repeat(100_000),
            "-".repeat(100_000),
            "1+".repeat(100_000),
            "sqrt(".repeat(10_000),
        ] {
            assert!(value(&text).is_err());
        }
    }
}
