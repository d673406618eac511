//! The text of `--help`.

use super::{Description, Part};

/// Columns of a line.
const WIDTH: usize = 80;

/// A longer term has a line of its own.
const TERM_MAX: usize = 20;

impl Description {
    pub(crate) fn help(&self) -> String {
        let mut text = format!("{}\n\n", self.about);
        for (at, form) in self.usage.iter().enumerate() {
            let label = if at == 0 { "Usage:" } else { "      " };
            text += format!("{label} {} {form}", self.title()).trim_end();
            text.push('\n');
        }
        for part in self.before {
            text += &part.help();
        }
        let options: Vec<_> = self.options().map(|one| (one.term(), one.text)).collect();
        text += &list("Options", &options);
        for part in self.after {
            text += &part.help();
        }
        text.push('\n');
        text += &wrap(&format!("Exit status: {}", self.exit_status), 0, 0);
        text
    }
}

impl Part {
    fn help(&self) -> String {
        match self {
            Part::Text(text) => format!("\n{}", wrap(text, 0, 0)),
            Part::List(title, entries) => {
                let entries: Vec<_> = entries
                    .iter()
                    .map(|&(term, text)| (term.to_string(), text))
                    .collect();
                list(title, &entries)
            }
        }
    }
}

fn list(title: &str, entries: &[(String, &str)]) -> String {
    let widths = entries.iter().map(|(term, _)| term.chars().count());
    let widest = widths.filter(|&width| width <= TERM_MAX).max();
    let column = widest.unwrap_or(TERM_MAX) + 4;
    let mut text = format!("\n{title}:\n");
    for (term, meaning) in entries {
        if term.chars().count() <= TERM_MAX {
            text += &format!("  {term:width$}", width = column - 2);
            text += &wrap(meaning, column, column);
        } else {
            text += &format!("  {term}\n");
            text += &wrap(meaning, 0, column);
        }
    }
    text
}

/// Breaks a text into lines, each indented, and the first after `at` columns that are written.
fn wrap(text: &str, at: usize, indent: usize) -> String {
    let (mut lines, mut column) = (String::new(), at);
    for word in text.split_whitespace() {
        let width = word.chars().count();
        if column > indent && column + 1 + width > WIDTH {
            lines.push('\n');
            column = 0;
        }
        if column < indent {
            lines += &" ".repeat(indent - column);
            column = indent;
        } else if column > indent {
            lines.push(' ');
            column += 1;
        }
        lines += word;
        column += width;
    }
    lines.push('\n');
    lines
}

#[cfg(test)]
mod tests {
    use super::{WIDTH, wrap};

    #[test]
    fn lines_are_full_and_no_longer() {
        let word = "x".repeat(39);
        let two = format!("{word} {word}");
        assert_eq!(wrap(&format!("{two} y"), 0, 0), format!("{two}\ny\n"));
        assert_eq!(
            wrap(&format!("{word} {word}"), 4, 4),
            format!("{word}\n    {word}\n")
        );
        assert_eq!(wrap("a b", 0, 3), "   a b\n");
        assert_eq!(wrap(&"x".repeat(WIDTH + 1), 0, 0).lines().count(), 1);
    }
}
