//! The exercise of chapter 01: a first program of one's own.

use super::{Check, look_at};
use crate::peer::Peer;
use crate::program::Program;
use crate::receipt::Failure;

pub const CHECK: Check = Check {
    chapter: 1,
    title: "each line comes back reversed, its newline last",
    hint: "Begin with s01. What one read gives is one line here, because the client waits for each answer. Take the newline \
           away, reverse the bytes, put the newline back.",
    run: |subject| look_at(subject.start(), look),
};

fn look(program: &mut Program) -> Result<String, Failure> {
    let mut peer = Peer::connect(program.port)?;
    let mut seen = Vec::new();
    for line in ["doorkeeper", "a", "", "waiting room"] {
        peer.say(&format!("{line}\n"))?;
        let heard = peer
            .hear()
            .map_err(|failure| failure.after(format!("`{line}` was sent")))?;
        let reversed: String = line.chars().rev().collect();
        if heard != reversed {
            return Err(format!("`{line}` came back as `{heard}`, not as `{reversed}`").into());
        }
        seen.push(format!("`{heard}`"));
    }
    Ok(format!("what came back: {}", seen.join(", ")))
}
