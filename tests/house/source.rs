//! One source file as tokens: comments and strings cannot be mistaken for code.

use std::collections::BTreeSet;

/// A word, a number, a literal, `::`, or one other character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    pub text: &'a str,
    /// The line it begins on, counted from 1.
    pub line: usize,
}

impl Token<'_> {
    /// True if this is a keyword or a name.
    pub fn is_word(&self) -> bool {
        let first = self.text.chars().next();
        first.is_some_and(|first| first.is_alphabetic() || first == '_') && !self.is_literal()
    }

    /// True for the literals that begin with a letter: `r"…"`, `b'…'`.
    fn is_literal(&self) -> bool {
        self.text.contains(['"', '\''])
    }
}

/// The tokens of a file, without comments.
pub fn tokens(text: &str) -> Vec<Token<'_>> {
    let (mut found, mut rest, mut line) = (Vec::new(), text, 1);
    while let Some(first) = rest.chars().next() {
        let length = length(rest, first);
        let (token, after) = rest.split_at(length);
        if !first.is_whitespace() && !token.starts_with("//") && !token.starts_with("/*") {
            found.push(Token { text: token, line });
        }
        line += token.matches('\n').count();
        rest = after;
    }
    found
}

/// How many bytes the token, comment or space takes that `rest` begins with.
fn length(rest: &str, first: char) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return block_comment(rest);
    }
    if first == '"' || first == '\'' {
        return quoted(rest, first);
    }
    if rest.starts_with("::") {
        return 2;
    }
    if !(first.is_alphanumeric() || first == '_') {
        return first.len_utf8();
    }
    word(rest)
}

fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    loop {
        if rest[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
        } else {
            at += rest[at..].chars().next().map_or(0, char::len_utf8);
        }
        if depth == 0 || at == rest.len() {
            return at;
        }
    }
}

/// A string, a character, or the mark of a lifetime alone.
fn quoted(rest: &str, quote: char) -> usize {
    let is_lifetime = || {
        let mut after = rest.chars().skip(1);
        after.next() != Some('\\') && after.next() != Some('\'')
    };
    if quote == '\'' && is_lifetime() {
        return 1;
    }
    let mut escaped = false;
    for (at, next) in rest.char_indices().skip(1) {
        if next == quote && !escaped {
            return at + 1;
        }
        escaped = next == '\\' && !escaped;
    }
    rest.len()
}

/// A word or a number, or a literal that a letter introduces.
fn word(rest: &str) -> usize {
    let is_end = |next: char| !(next.is_alphanumeric() || next == '_');
    let end = rest.find(is_end).unwrap_or(rest.len());
    let after = &rest[end..];
    if rest[..end].ends_with('r') && end <= 2 {
        let hashes = after.len() - after.trim_start_matches('#').len();
        if after[hashes..].starts_with('"') {
            let close = format!("\"{}", "#".repeat(hashes));
            let body = end + hashes + 1;
            let found = rest[body..].find(&close);
            return found.map_or(rest.len(), |at| body + at + close.len());
        }
    }
    let prefix = ["b", "c"].contains(&&rest[..end]);
    match after.chars().next() {
        Some(quote @ ('"' | '\'')) if prefix => end + quoted(after, quote),
        _ => end,
    }
}

/// Where the group ends that the bracket at `open` begins: the index of its closing bracket.
pub fn close(tokens: &[Token<'_>], open: usize) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        depth += nesting(token);
        if depth == 0 {
            return at;
        }
    }
    tokens.len()
}

fn nesting(token: &Token<'_>) -> i32 {
    match token.text {
        "(" | "[" | "{" => 1,
        ")" | "]" | "}" => -1,
        _ => 0,
    }
}

/// The tokens without the items that are built for tests only.
pub fn without_tests(tokens: Vec<Token<'_>>) -> Vec<Token<'_>> {
    let (mut kept, mut at) = (Vec::new(), 0);
    while at < tokens.len() {
        if is_for_tests(&tokens[at..]) {
            at = item_end(&tokens, at);
        } else {
            kept.push(tokens[at]);
            at += 1;
        }
    }
    kept
}

/// True at `#[cfg(test)]`, `#[cfg(doctest)]` and `#[cfg(all(test, …))]`.
fn is_for_tests(tokens: &[Token<'_>]) -> bool {
    let begins = |wanted: &[&str]| {
        let texts = tokens.iter().map(|token| token.text);
        texts.take(wanted.len()).eq(wanted.iter().copied())
    };
    begins(&["#", "[", "cfg", "(", "test", ")"])
        || begins(&["#", "[", "cfg", "(", "doctest", ")"])
        || begins(&["#", "[", "cfg", "(", "all", "(", "test", ","])
}

/// The index after the item whose first attribute stands at `at`.
fn item_end(tokens: &[Token<'_>], mut at: usize) -> usize {
    while tokens.get(at).is_some_and(|token| token.text == "#") {
        at = close(tokens, at + 1) + 1;
    }
    let end = (body_end(tokens, at) + 1).min(tokens.len());
    // `use a::{b, c};` and `const A: T = T {};` go on after the brace.
    end + usize::from(tokens.get(end).is_some_and(|token| token.text == ";"))
}

/// The index of the token that ends the item at `at`: a `;`, or the `}` of its body.
fn body_end(tokens: &[Token<'_>], mut at: usize) -> usize {
    while let Some(token) = tokens.get(at) {
        match token.text {
            ";" => return at,
            "{" => return close(tokens, at),
            "}" => return at - 1,
            "(" | "[" => at = close(tokens, at),
            _ => {}
        }
        at += 1;
    }
    at
}

/// A function with a body.
#[derive(Debug, PartialEq, Eq)]
pub struct Function<'a> {
    pub name: &'a str,
    /// Lines from the one with `fn` to the one that ends the body.
    pub lines: usize,
}

/// Every function that has a body, whatever stands before `fn`. A type such as `fn(u8)` is none.
pub fn functions<'a>(tokens: &[Token<'a>]) -> Vec<Function<'a>> {
    let mut found = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let name = tokens.get(at + 1).filter(|name| name.is_word());
        let (true, Some(name)) = (token.text == "fn", name) else {
            continue;
        };
        let end = tokens.get(body_end(tokens, at));
        if let Some(end) = end.filter(|end| end.text == "}") {
            found.push(Function {
                name: name.text,
                lines: end.line - token.line + 1,
            });
        }
    }
    found
}

/// How many lines hold code: neither blank nor comment alone.
pub fn code_lines(tokens: &[Token<'_>]) -> usize {
    let lines = tokens.iter().flat_map(|token| {
        let more = token.text.matches('\n').count();
        token.line..=token.line + more
    });
    lines.collect::<BTreeSet<usize>>().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<&str> {
        let tokens = without_tests(tokens(text));
        tokens.iter().map(|token| token.text).collect()
    }

    #[test]
    fn comments_are_no_code_and_strings_are_one_token() {
        assert_eq!(texts("a // b\n/* c /* d */ e */ f"), ["a", "f"]);
        assert_eq!(texts(r#"a("use b;", 'c', b'd')"#).len(), 8);
        assert_eq!(texts(r##"r#"fn "x" {"# b"{" r"\" '\'' '"' z"##).len(), 6);
        assert_eq!(
            texts("&'a str, '\\n'"),
            ["&", "'", "a", "str", ",", "'\\n'"]
        );
        assert_eq!(texts("a::b:c"), ["a", "::", "b", ":", "c"]);
    }

    #[test]
    fn what_is_built_for_tests_only_is_left_out() {
        assert_eq!(texts("#[cfg(test)] use a::{b, c}; d"), ["d"]);
        assert_eq!(
            texts("#[cfg(test)]\n#[x(y)]\nmod t { fn f() { } } d"),
            ["d"]
        );
        assert_eq!(texts("#[cfg(test)] const A: [u8; 2] = [1; 2]; d"), ["d"]);
        assert_eq!(texts("#[cfg(all(test, unix))] mod tests; d"), ["d"]);
        assert!(texts("#[cfg(not(test))] mod real;").contains(&"real"));
        assert!(texts("#[cfg(unix)] mod real;").contains(&"real"));
    }

    #[test]
    fn every_form_of_function_is_measured() {
        for before in [
            "",
            "pub ",
            "pub(super) ",
            "pub(in crate::a) async ",
            "const unsafe ",
            "pub(crate) extern \"C\" ",
            "#[inline]\nunsafe extern ",
        ] {
            let text = format!("{before}fn name<\n T,\n>(a: [u8; 2])\nwhere\n T: X,\n{{\n a;\n}}");
            let wanted = Function {
                name: "name",
                lines: 8,
            };
            assert_eq!(functions(&tokens(&text)), [wanted], "{before}");
        }
    }

    #[test]
    fn functions_in_functions_and_in_impls_are_measured_and_types_are_not() {
        let text = "impl A { fn a(f: fn(u8)) { fn b() {}\n }\n}\ntrait T { fn c(); fn d() {} }";
        let found: Vec<_> = functions(&tokens(text))
            .into_iter()
            .map(|function| (function.name, function.lines))
            .collect();
        assert_eq!(found, [("a", 2), ("b", 1), ("d", 1)]);
    }

    #[test]
    fn lines_of_code_are_counted_without_blanks_and_comments() {
        let text = "/// doc\nfn a() {\n\n    // why\n    b(\"one\n    two\");\n}\n";
        assert_eq!(code_lines(&tokens(text)), 4);
    }
}
