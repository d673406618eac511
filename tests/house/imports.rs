//! Which file of a crate needs which other, worked out from the paths in their code.

use crate::graph::Graph;
use crate::source::{Token, close, tokens, without_tests};
use std::collections::{BTreeMap, BTreeSet};

/// A path in the code. Inside the crate it begins with `crate`: `self` and `super` are resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path<'a> {
    pub names: Vec<&'a str>,
    /// The path ends in `*`.
    pub glob: bool,
}

impl Path<'_> {
    pub fn text(&self) -> String {
        self.names.join("::")
    }
}

/// A file of the crate.
pub struct File<'a> {
    /// The module it is, as names below `crate`.
    module: Vec<&'a str>,
    pub tokens: Vec<Token<'a>>,
    /// Every path in the code. `mod name;` is none: it says that a file exists.
    pub paths: Vec<Path<'a>>,
    /// The names that `use` brings into the module.
    bindings: BTreeMap<&'a str, Path<'a>>,
}

/// All files of a crate, each under its name without ending: `reactor/mod`, `time`.
pub struct Library<'a> {
    pub files: BTreeMap<&'a str, File<'a>>,
    modules: BTreeMap<Vec<&'a str>, &'a str>,
}

/// The files that can be a crate's root. A root names everything and takes part in no circle.
pub const ROOTS: [&str; 2] = ["lib", "main"];

impl<'a> Library<'a> {
    /// One of the texts is the crate's root.
    pub fn new(texts: &'a BTreeMap<String, String>) -> Library<'a> {
        let modules: BTreeMap<Vec<&str>, &str> = texts
            .keys()
            .map(|name| (module(name), name.as_str()))
            .collect();
        let file = |(name, text): (&'a String, &'a String)| {
            let file = File::read(module(name), without_tests(tokens(text)), &modules);
            (name.as_str(), file)
        };
        let files = texts.iter().map(file).collect();
        Library { files, modules }
    }

    /// The file that has what the path names; `None` for another crate's.
    pub fn file_of(&self, path: &Path<'a>) -> Option<&'a str> {
        self.follow(path, 0)
    }

    fn follow(&self, path: &Path<'a>, depth: usize) -> Option<&'a str> {
        let (&"crate", names) = path.names.split_first()? else {
            return None;
        };
        let (mut module, mut file) = (Vec::new(), self.modules.get(&[][..]).copied());
        for (at, &name) in names.iter().enumerate() {
            module.push(name);
            if let Some(&deeper) = self.modules.get(&module) {
                file = Some(deeper);
                continue;
            }
            // No module: an item of the module so far, or one that it has from elsewhere.
            let binding = file.and_then(|file| self.files[file].bindings.get(name));
            return match binding {
                Some(other) if depth < 8 => {
                    let names = other.names.iter().chain(&names[at + 1..]).copied();
                    let glob = false;
                    let names = names.collect();
                    self.follow(&Path { names, glob }, depth + 1)
                }
                _ => file,
            };
        }
        file
    }

    /// The arrows from each file to those that it needs, without the roots.
    pub fn graph(&self) -> Graph<'a> {
        let needs = |(&name, file): (&&'a str, &File<'a>)| {
            let needed = file.paths.iter();
            let needed = needed.filter_map(|path| self.file_of(&file.bound(path)));
            let needed = needed.filter(|&other| other != name && !ROOTS.contains(&other));
            (name, needed.collect::<BTreeSet<&str>>())
        };
        let files = self.files.iter();
        files
            .filter(|(name, _)| !ROOTS.contains(name))
            .map(needs)
            .collect()
    }
}

/// The graph of rooms: a room is a folder of the crate, or a file beside the root.
pub fn rooms<'a>(files: &Graph<'a>) -> Graph<'a> {
    let mut rooms = Graph::new();
    for (&file, needed) in files {
        let arrows = needed.iter().map(|&other| room(other));
        let arrows = arrows.filter(|&other| other != room(file));
        rooms.entry(room(file)).or_default().extend(arrows);
    }
    rooms
}

/// The graph of the files of one room.
pub fn within<'a>(files: &Graph<'a>, wanted: &str) -> Graph<'a> {
    let inside = |file: &&str| room(file) == wanted;
    let files = files.iter().filter(|(file, _)| inside(file));
    files
        .map(|(&file, needed)| (file, needed.iter().copied().filter(inside).collect()))
        .collect()
}

pub fn room(file: &str) -> &str {
    file.split('/').next().unwrap()
}

/// The module that a file is: `reactor/mod` and `reactor` are both `crate::reactor`.
fn module(file: &str) -> Vec<&str> {
    if ROOTS.contains(&file) {
        return Vec::new();
    }
    let names = file.strip_suffix("/mod").unwrap_or(file);
    names.split('/').collect()
}

impl<'a> File<'a> {
    /// The same path in full, if its first name is one that a `use` of this file binds.
    pub fn bound(&self, path: &Path<'a>) -> Path<'a> {
        let Some(binding) = self.bindings.get(path.names[0]) else {
            return path.clone();
        };
        let names = binding.names.iter().chain(&path.names[1..]);
        Path {
            names: names.copied().collect(),
            glob: path.glob,
        }
    }

    /// The names that `pub use` and `pub mod` give to others.
    pub fn public_names(&self) -> BTreeSet<&'a str> {
        let texts: Vec<&str> = self.tokens.iter().map(|token| token.text).collect();
        let mut found = BTreeSet::new();
        for (at, words) in texts.windows(3).enumerate() {
            match words {
                ["pub", "mod", name] => _ = found.insert(*name),
                ["pub", "use", _] => {
                    let mut names = Vec::new();
                    use_tree(&self.tokens, at + 2, &mut Vec::new(), &mut names);
                    found.extend(names.into_iter().map(|(name, _)| name));
                }
                _ => {}
            }
        }
        found
    }

    fn read(
        module: Vec<&'a str>,
        tokens: Vec<Token<'a>>,
        modules: &BTreeMap<Vec<&'a str>, &'a str>,
    ) -> File<'a> {
        let mut file = File {
            module,
            tokens: Vec::new(),
            paths: Vec::new(),
            bindings: BTreeMap::new(),
        };
        let mut inline = Vec::new();
        let mut at = 0;
        while at < tokens.len() {
            let here = Here {
                file: &file.module,
                inline: &inline,
                modules,
            };
            at = match tokens[at].text {
                "use" => {
                    let mut names = Vec::new();
                    let end = use_tree(&tokens, at + 1, &mut Vec::new(), &mut names);
                    for (name, path) in names {
                        let path = here.resolve(path);
                        file.paths.push(path.clone());
                        file.bindings.insert(name, path);
                    }
                    end
                }
                "mod" => {
                    let name = tokens[at + 1].text;
                    if tokens[at + 2].text == "{" {
                        inline.push((name, close(&tokens, at + 2)));
                    }
                    at + 3
                }
                // `pub(in crate::a)` says who may see, and needs nothing.
                "pub" if tokens.get(at + 1).is_some_and(|next| next.text == "(") => {
                    close(&tokens, at + 1) + 1
                }
                _ => {
                    let (names, end) = inline_path(&tokens, at);
                    if names.len() > 1 {
                        file.paths.push(here.resolve(Path { names, glob: false }));
                    }
                    end
                }
            };
            inline.retain(|&(_, end)| at <= end);
        }
        file.tokens = tokens;
        file
    }
}

/// Where in the crate a path stands.
struct Here<'s, 'a> {
    file: &'s [&'a str],
    /// The modules within the file around this place, and where they end.
    inline: &'s [(&'a str, usize)],
    modules: &'s BTreeMap<Vec<&'a str>, &'a str>,
}

impl<'a> Here<'_, 'a> {
    fn resolve(&self, path: Path<'a>) -> Path<'a> {
        let inline = self.inline.iter().map(|&(name, _)| name);
        let mut module: Vec<&str> = self.file.iter().copied().chain(inline).collect();
        let mut names = &path.names[..];
        let child: Vec<&str> = module.iter().chain(names.first()).copied().collect();
        match names.first() {
            Some(&("self" | "super")) => {}
            _ if self.modules.contains_key(&child) => {}
            _ => return path,
        }
        while let Some((&first @ ("self" | "super"), rest)) = names.split_first() {
            if first == "super" {
                module.pop();
            }
            names = rest;
        }
        let all = std::iter::once("crate").chain(module);
        Path {
            names: all.chain(names.iter().copied()).collect(),
            glob: path.glob,
        }
    }
}

/// Reads the tree of a `use` from `at` on, with the names before it, into pairs of the name it
/// binds and its path. Returns where it ends.
fn use_tree<'a>(
    tokens: &[Token<'a>],
    mut at: usize,
    before: &mut Vec<&'a str>,
    found: &mut Vec<(&'a str, Path<'a>)>,
) -> usize {
    let outer = before.len();
    let mut add = |bound: &'a str, names: &[&'a str], glob| {
        let names = match names {
            // `use a::{self}` is `a`; a lone `self` stays.
            [rest @ .., "self"] if !rest.is_empty() => rest.to_vec(),
            names => names.to_vec(),
        };
        let bound = Some(bound).filter(|&name| name != "self");
        let bound = bound.unwrap_or(names[names.len() - 1]);
        found.push((bound, Path { names, glob }));
    };
    while let Some(token) = tokens.get(at) {
        match token.text {
            "::" => {}
            "*" => {
                add("*", before, true);
                at += 1;
                break;
            }
            "{" => {
                let end = close(tokens, at);
                at += 1;
                while at < end {
                    at = use_tree(tokens, at, before, found);
                    at += usize::from(tokens[at].text == ",");
                }
                at = end + 1;
                break;
            }
            "as" => {
                add(tokens[at + 1].text, before, false);
                at += 2;
                break;
            }
            name if token.is_word() => {
                before.push(name);
                let next = tokens.get(at + 1).map_or("", |next| next.text);
                if next != "::" && next != "as" {
                    add(name, before, false);
                    at += 1;
                    break;
                }
            }
            _ => {
                at += 1;
                break;
            }
        }
        at += 1;
    }
    before.truncate(outer);
    at
}

/// The path that begins at `at`, and the index after it. What follows a `.` or a `::` begins none.
fn inline_path<'a>(tokens: &[Token<'a>], at: usize) -> (Vec<&'a str>, usize) {
    let before = at.checked_sub(1).map_or("", |before| tokens[before].text);
    if !tokens[at].is_word() || before == "::" {
        return (Vec::new(), at + 1);
    }
    let (mut names, mut end) = (vec![tokens[at].text], at + 1);
    while let [colons, name, ..] = &tokens[end..] {
        if colons.text != "::" || !name.is_word() {
            break;
        }
        names.push(name.text);
        end += 2;
    }
    (names, end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::circles;

    fn texts(files: &[(&str, &str)]) -> BTreeMap<String, String> {
        let files = files.iter();
        files
            .map(|&(name, text)| (name.to_string(), text.to_string()))
            .collect()
    }

    /// The files that `from` needs, where the others are the modules a, b, b::c and b::d, and the
    /// root has `Item` from b::c.
    fn needs(from: &str, code: &str) -> Vec<String> {
        let mut files = texts(&[
            ("lib", "mod a; mod b; mod e; pub use b::Item; pub use log;"),
            ("a", ""),
            ("b/mod", "mod c; mod d; pub use self::c::{Item, X as Y};"),
            ("b/c", ""),
            ("b/d", ""),
            ("e", ""),
        ]);
        files.insert(from.to_string(), code.to_string());
        let graph = Library::new(&files).graph();
        graph[from].iter().map(|name| name.to_string()).collect()
    }

    #[test]
    fn every_form_of_import_is_found() {
        for (code, wanted) in [
            ("use crate::a;", &["a"][..]),
            ("use crate::a::T;", &["a"]),
            ("pub(crate) use crate::a::T as U;", &["a"]),
            ("use crate::a::*;", &["a"]),
            ("use crate::{a, b::c};", &["a", "b/c"]),
            (
                "use crate::{a::{self, T}, b::{c::{U, V}, d}};",
                &["a", "b/c", "b/d"],
            ),
            ("use super::a::T;", &["a"]),
            ("use super::{b::{self}, a};", &["a", "b/mod"]),
            ("use ::std::io; use std::{fmt, net};", &[]),
            ("fn f() { use crate::a::g; g() }", &["a"]),
            ("fn f() { crate::a::g(); }", &["a"]),
            ("fn f(x: &super::b::d::T) -> crate::a::T {}", &["a", "b/d"]),
            ("impl crate::a::T for X {}", &["a"]),
            ("x!(crate::a::T, $crate::b::d::U);", &["a", "b/d"]),
        ] {
            assert_eq!(needs("e", code), wanted, "{code}");
        }
    }

    #[test]
    fn in_a_folder_super_self_and_children_are_found() {
        assert_eq!(needs("b/d", "use super::c::T;"), ["b/c"]);
        assert_eq!(needs("b/d", "use super::T;"), ["b/mod"]);
        assert_eq!(needs("b/d", "use super::super::a;"), ["a"]);
        assert_eq!(needs("b/mod", "mod d; pub use d::T;"), ["b/d"]);
        assert_eq!(needs("b/mod", "mod d;"), [""; 0]);
        assert_eq!(
            needs("b/mod", "pub(super) mod c; use self::{d::T, c};"),
            ["b/c", "b/d"]
        );
        assert_eq!(
            needs("b/mod", "fn f() { d::g() } use c::T;"),
            ["b/c", "b/d"]
        );
    }

    #[test]
    fn a_name_that_a_root_or_a_folder_passes_on_is_where_it_comes_from() {
        assert_eq!(needs("e", "use crate::Item;"), ["b/c"]);
        assert_eq!(needs("e", "use crate::{Item as I};"), ["b/c"]);
        assert_eq!(needs("e", "use super::b::Y;"), ["b/c"]);
        assert_eq!(needs("b/d", "use super::Item;"), ["b/c"]);
        assert_eq!(needs("e", "use crate::log::info;"), [""; 0]);
    }

    #[test]
    fn a_path_that_begins_with_an_imported_name_is_followed() {
        let code = "use crate::b as x; fn f() { x::d::g() }";
        assert_eq!(needs("e", code), ["b/d", "b/mod"]);
        assert_eq!(
            needs("a", "use super::b::{self as x}; type T = x::Item;"),
            ["b/c", "b/mod"]
        );
    }

    #[test]
    fn a_module_within_a_file_shifts_super() {
        assert_eq!(needs("e", "mod x { use super::super::a; }"), ["a"]);
        assert_eq!(needs("e", "mod x { use super::T; } use super::a;"), ["a"]);
        assert_eq!(
            needs(
                "e",
                "mod x { mod y { } use super::T; fn f() { super::super::a::g() } }"
            ),
            ["a"]
        );
    }

    #[test]
    fn what_needs_nothing_is_not_found() {
        for code in [
            "pub(in crate::a) fn f() {}",
            "// use crate::a;",
            "/// [`crate::a`]\nfn f() {}",
            "fn f() { \"crate::a\" }",
            "#[cfg(test)] mod tests { use crate::a; }",
            "use crate::e::T;",
            "use super::e; fn f() { self::g() }",
        ] {
            assert_eq!(needs("e", code), [""; 0], "{code}");
        }
    }

    #[test]
    fn circles_between_rooms_and_within_one_are_told_apart() {
        let files = texts(&[
            ("lib", "mod a; mod b; mod e; pub use b::Reactor;"),
            ("a", "use crate::Reactor;"),
            ("b/mod", "mod c; mod d; pub use c::Reactor;"),
            ("b/c", "use super::d::T; use crate::e::U;"),
            ("b/d", "use super::c::Reactor;"),
            ("e", "use super::{a};"),
        ]);
        let graph = Library::new(&files).graph();
        let between: Vec<_> = circles(&rooms(&graph))
            .into_iter()
            .map(Vec::from_iter)
            .collect();
        assert_eq!(between, [["a", "b", "e"]]);
        let inside: Vec<_> = circles(&within(&graph, "b"))
            .into_iter()
            .map(Vec::from_iter)
            .collect();
        assert_eq!(inside, [["b/c", "b/d"]]);
    }
}
