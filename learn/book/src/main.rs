//! `book differences` writes the page of differences; `book update` puts code and outputs into the chapters as they are now.

use book::{Block, blocks, code, console, differences, folder, pages, rewrite, translation};
use std::fs;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let word = std::env::args().nth(1).unwrap_or_default();
    let done = match word.as_str() {
        "differences" => differences::text().and_then(|text| write(&differences::page(), &text)),
        "update" => update(),
        _ => Err("Usage: book differences | book update".to_string()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn write(file: &Path, text: &str) -> Result<(), String> {
    fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()))
}

fn update() -> Result<(), String> {
    let folder = folder();
    let fresh = |block: &Block| {
        let new = code(block, &folder).or_else(|| console(block));
        new.unwrap_or_else(|| Ok(block.lines.clone()))
    };
    for file in pages(&folder) {
        let text = fs::read_to_string(&file).map_err(|error| error.to_string())?;
        let text = rewrite(&text, fresh)?;
        write(&file, &text)?;
        translate(&file, &text)?;
    }
    Ok(())
}

/// Puts the blocks of a page into its translation, which has them in the same order.
fn translate(original: &Path, text: &str) -> Result<(), String> {
    let file = translation(original);
    let translation = fs::read_to_string(&file).map_err(|error| error.to_string())?;
    let mut originals = blocks(text).into_iter();
    let missing = || format!("{} has a block too many", file.display());
    let next = |_: &Block| Ok(originals.next().ok_or_else(missing)?.lines);
    write(&file, &rewrite(&translation, next)?)
}
