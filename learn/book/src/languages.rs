//! A chapter and its translation say the same: headings, blocks, code in the text, links and numbers are compared.

use crate::blocks;

/// The parts of a chapter that do not depend on the language.
#[derive(Debug, PartialEq)]
pub struct Skeleton {
    /// The sections, in their order.
    sections: Vec<Section>,
    /// The fenced blocks, whole.
    blocks: Vec<(String, Vec<String>)>,
    /// The texts between single backquotes, each once, sorted: one language repeats a name where the other says "it".
    code: Vec<String>,
}

/// A heading and the text under it. Within a section another language may have another order, so the words are sorted; but each
/// is there as often as it is said.
#[derive(Debug, PartialEq)]
struct Section {
    /// How deep the heading is.
    depth: usize,
    /// The targets of links. Links to other chapters stay within the language.
    links: Vec<String>,
    /// The manual pages that are named, as in "tcp(7)".
    manuals: Vec<String>,
    /// The numbers of the text without those of manual pages.
    numbers: Vec<String>,
}

/// The skeleton of a text.
pub fn skeleton(text: &str) -> Skeleton {
    let prose = prose(text);
    let (_, mut code) = code_and_rest(&prose.join("\n"));
    code.sort();
    code.dedup();
    let sections = prose.chunk_by(|_, next| !next.starts_with('#'));
    Skeleton {
        sections: sections.map(section).collect(),
        blocks: blocks(text)
            .into_iter()
            .map(|block| (block.info, block.lines))
            .collect(),
        code,
    }
}

fn section(lines: &[&str]) -> Section {
    let sorted = |mut words: Vec<String>| {
        words.sort();
        words
    };
    let (plain, _) = code_and_rest(&lines.join("\n"));
    let (manuals, rest) = manuals_and_rest(&without_links(&plain));
    Section {
        depth: lines[0].chars().take_while(|c| *c == '#').count(),
        links: sorted(links(&plain)),
        manuals: sorted(manuals),
        numbers: sorted(numbers(&rest)),
    }
}

/// The lines outside fenced blocks.
fn prose(text: &str) -> Vec<&str> {
    let mut inside = false;
    let outside = |line: &&str| {
        let fence = line.starts_with("```");
        inside ^= fence;
        !inside && !fence
    };
    text.lines().filter(outside).collect()
}

/// Splits at single backquotes: the text without code, and the code.
fn code_and_rest(text: &str) -> (String, Vec<String>) {
    let parts: Vec<&str> = text.split('`').collect();
    let every_other = |first| parts.iter().skip(first).step_by(2);
    let code = every_other(1).map(|part| part.to_string()).collect();
    (every_other(0).copied().collect(), code)
}

fn links(text: &str) -> Vec<String> {
    let starts = text.split("](").skip(1);
    let ends = starts.filter_map(|rest| rest.split_once(')'));
    ends.map(|(link, _)| link.trim_start_matches("../").to_string())
        .collect()
}

fn without_links(text: &str) -> String {
    let mut parts = text.split("](");
    let mut plain = parts.next().unwrap_or_default().to_string();
    for part in parts {
        plain += part.split_once(')').map_or(part, |(_, rest)| rest);
    }
    plain
}

/// The manual pages, and the text without the numbers of their sections: these are few, and would hide a wrong number.
fn manuals_and_rest(text: &str) -> (Vec<String>, String) {
    let mut manuals = Vec::new();
    let mut parts = text.split('(');
    let mut rest = parts.next().unwrap_or_default().to_string();
    for part in parts {
        let section = part.split_once(')').filter(|(digit, _)| {
            digit.len() == 1 && digit.starts_with(|c: char| c.is_ascii_digit())
        });
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let name = rest.rsplit(|c| !is_name(c)).next().unwrap_or_default();
        match section {
            Some((digit, after)) if !name.is_empty() => {
                manuals.push(format!("{name}({digit})"));
                rest += after;
            }
            _ => rest = rest + "(" + part,
        }
    }
    (manuals, rest)
}

/// Numbers in digits. "20,000" and "20000" are one number, and so is "3.10.7".
fn numbers(text: &str) -> Vec<String> {
    let text = text.replace(',', "");
    let words = text.split(|c: char| !c.is_ascii_digit() && c != '.');
    words
        .map(|word| word.trim_matches('.'))
        .filter(|word| !word.is_empty())
        .map(String::from)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::skeleton;

    const ENGLISH: &str = "\
# 07 Drain

Of 20,000 bytes `read` gives 4096: tcp(7), [RFC 9293](https://rfc), 3.10.7.

## Again

It gives 4096 again, and again 4096.

```sh
check 07
```
";

    #[test]
    fn a_faithful_translation_has_the_same_skeleton() {
        let korean = ENGLISH
            .replace("Drain", "비우기")
            .replace(
                "Of 20,000 bytes `read` gives 4096",
                "`read`는 20000바이트 가운데 4096바이트를 준다",
            )
            .replace("It gives", "`read`는 다시");
        assert_eq!(skeleton(ENGLISH), skeleton(&korean));
    }

    #[test]
    fn what_is_lost_or_changed_shows() {
        let changes = [
            ("# 07", "## 07"),
            ("20,000", "2,000"),
            ("20,000", "7"),
            ("tcp(7)", "tcp(2)"),
            ("3.10.7", "3.7.10"),
            ("`read`", "read"),
            ("`read`", "`recv`"),
            ("https://rfc", "https://other"),
            ("check 07", "check 08"),
            ("```sh", "```console"),
            (", and again 4096", ""),
            (
                "7.\n\n## Again\n\nIt gives 4096",
                "7. 4096\n\n## Again\n\nIt gives",
            ),
        ];
        for (old, new) in changes {
            let changed = ENGLISH.replacen(old, new, 1);
            assert_ne!(skeleton(ENGLISH), skeleton(&changed), "{old} became {new}");
        }
    }
}
