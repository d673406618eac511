//! Two small commands, in every form that is made from their descriptions.

use super::super::version::VERSION;
use super::{Description, HELP, Opt, Part, Value, completions};

const PROGRAM: Description = Description {
    command: "",
    about: "A program.",
    usage: &["COMMAND"],
    before: &[Part::List("Commands", &[("brew", "make tea")])],
    options: &[&[HELP]],
    after: &[],
    exit_status: "0 done.",
    operands: &["brew", "wash"],
};

const BREW: Description = Description {
    command: "brew",
    about: "Make tea, the server's \"best\" [green].",
    usage: &["[OPTION]... POT", "--dry-run"],
    before: &[
        Part::Text("It boils water first."),
        Part::Text(".5 l is enough."),
        Part::List(
            "Kinds",
            &[("green", "80 \u{b0}C"), ("black", "100 \u{b0}C")],
        ),
    ],
    options: &[
        &[
            Opt::long(
                "kind",
                Value::OneOf(&["green", "darkest"]),
                "the tea; green by default",
            ),
            Opt::long(
                "time",
                Value::Any("DURATION"),
                "how long: at least a minute, and longer if the water is not as hot as it should be",
            ),
            Opt::long(
                "a-term-too-long-for-it",
                Value::File("FILE"),
                "the leaf's list",
            ),
        ],
        &[
            Opt::long("sugar", Value::OptionalWord("brown"), "sweeten [it]"),
            Opt::short('2', "two pots"),
            HELP,
        ],
    ],
    after: &[Part::Text("A \\ is no tea.")],
    exit_status: "0 done, 1 cold.",
    operands: &[],
};

#[test]
fn a_help_text_has_a_column_for_the_terms() {
    assert_eq!(BREW.help(), include_str!("tests/help.txt"));
}

#[test]
fn a_man_page_has_all_parts_and_names_the_other_pages() {
    for (command, page) in [
        (&PROGRAM, include_str!("tests/program.1")),
        (&BREW, include_str!("tests/brew.1")),
    ] {
        let page = page.replace("VERSION", VERSION);
        assert_eq!(command.man(&[&PROGRAM, &BREW]), page);
    }
}

/// Whether the shells understand them is tested with the shells.
#[test]
fn completions_have_every_name_value_and_meaning() {
    let commands = [&BREW];
    for (script, wanted) in [
        (
            completions::bash(&PROGRAM, &commands),
            include_str!("tests/bash.txt"),
        ),
        (
            completions::zsh(&PROGRAM, &commands),
            include_str!("tests/zsh.txt"),
        ),
        (
            completions::fish(&PROGRAM, &commands),
            include_str!("tests/fish.txt"),
        ),
    ] {
        assert_eq!(script, wanted);
    }
}
