//! The man page, in the macros of man(7).

use super::super::version::VERSION;
use super::{Description, Part};

impl Description {
    /// `others` are the pages to see also.
    pub(crate) fn man(&self, others: &[&Description]) -> String {
        let page = self.page();
        let about = self.about.trim_end_matches('.');
        let mut text = format!(
            ".TH {} 1 \"\" \"doorkeeper {VERSION}\"\n.SH NAME\n{} \\- {}\n.SH SYNOPSIS\n",
            page.to_uppercase(),
            escape(&page),
            escape(about)
        );
        for (at, form) in self.usage.iter().enumerate() {
            let line_break = if at > 0 { ".br\n" } else { "" };
            text += &format!("{line_break}.B {}\n{}\n", self.title(), escape(form));
        }
        section(&mut text, "DESCRIPTION", self.before);
        text += ".SH OPTIONS\n";
        for option in self.options() {
            text += &entry(&option.term(), option.text);
        }
        section(&mut text, "NOTES", self.after);
        text += &format!(".SH EXIT STATUS\n{}\n", escape(self.exit_status));
        let others = others.iter().filter(|other| other.command != self.command);
        let others: Vec<String> = others
            .map(|other| format!(".BR {} (1)", escape(&other.page())))
            .collect();
        text += &format!(".SH SEE ALSO\n{}\n", others.join(",\n"));
        text
    }
}

fn section(text: &mut String, title: &str, parts: &[Part]) {
    if parts.is_empty() {
        return;
    }
    *text += &format!(".SH {title}\n");
    for (at, part) in parts.iter().enumerate() {
        match part {
            Part::Text(words) if at > 0 => *text += &format!(".PP\n{}\n", escape(words)),
            Part::Text(words) => *text += &format!("{}\n", escape(words)),
            Part::List(title, entries) => {
                *text += &format!(".SS {title}\n");
                for (term, words) in *entries {
                    *text += &entry(term, words);
                }
            }
        }
    }
}

fn entry(term: &str, words: &str) -> String {
    format!(".TP\n.B {}\n{}\n", escape(term), escape(words))
}

/// A text as roff shows it: a backslash would begin an escape, a dash would be a hyphen, and a point
/// at the begin of a line would be a macro.
fn escape(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    if text.starts_with(['.', '\'']) {
        format!("\\&{text}")
    } else {
        text
    }
}
