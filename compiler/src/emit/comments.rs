//! Line comments in generated code: tokens carry markers, which are replaced by text after formatting.

use proc_macro2::{Literal, TokenStream};
use quote::quote;

/// The comments of one file, by number.
#[derive(Default)]
pub(super) struct Comments {
    blocks: Vec<Vec<String>>,
}

impl Comments {
    /// A statement that becomes these lines of comment. An empty line becomes a blank line.
    pub fn add(&mut self, lines: Vec<String>) -> TokenStream {
        let number = Literal::usize_unsuffixed(self.blocks.len());
        self.blocks.push(lines);
        quote! { __comment!(#number); }
    }

    /// Replaces the markers in formatted code.
    ///
    /// # Panics
    /// If a marker is not alone on its line: the formatter has changed.
    pub fn apply(&self, code: &str) -> String {
        let mut out = String::with_capacity(code.len() * 2);
        for line in code.lines() {
            let trimmed = line.trim_start();
            let number = trimmed.strip_prefix("__comment!(").and_then(|r| r.strip_suffix(");"));
            match number {
                Some(number) => {
                    let indent = &line[..line.len() - trimmed.len()];
                    let number: usize = number.parse().expect("markers are numbered");
                    for text in &self.blocks[number] {
                        if text.is_empty() {
                            // The first statement of a body is not set apart from its brace.
                            if !out.ends_with("{\n") {
                                out.push('\n');
                            }
                        } else {
                            out.push_str(&format!("{indent}// {text}\n"));
                        }
                    }
                }
                None => {
                    assert!(!line.contains("__comment!"), "a comment marker shares its line: {line}");
                    out.push_str(line);
                    out.push('\n');
                }
            }
        }
        out
    }
}
