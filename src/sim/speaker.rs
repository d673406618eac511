//! The peer of a conversation: it says what the test says, perhaps through a layer.

use super::peer::{Ending, Peer};
use super::run::Sim;
use crate::layers::Layer;

/// How bytes are cut before they go to the wire.
#[derive(Clone, Copy)]
pub(super) enum Parts {
    Whole,
    Bytes,
    /// Two parts: before this byte of all that is sent, and from it on.
    At(usize),
}

/// A peer, and the layer that it speaks through.
pub(super) struct Speaker {
    pub(super) peer: Peer,
    through: Option<Through>,
}

struct Through {
    layer: Box<dyn Layer>,
    parts: Parts,
    /// The peer sends at most this many bytes on the wire.
    most: usize,
    /// How many it has sent.
    sent: usize,
    /// The layer was called once.
    has_begun: bool,
    /// How many bytes from the wire were given to the layer, and those of them that it did not consume.
    seen: usize,
    input: Vec<u8>,
    /// The plain bytes that the layer made.
    received: Vec<u8>,
    /// Plain bytes that it says when the layer is open, and whether its output ends after them.
    unsaid: Vec<u8>,
    ends: bool,
    /// The layer has written its end.
    has_ended: bool,
}

impl Speaker {
    pub(super) fn new(peer: Peer, layer: Option<Box<dyn Layer>>) -> Speaker {
        let through = layer.map(|layer| Through {
            layer,
            parts: Parts::Whole,
            most: usize::MAX,
            sent: 0,
            has_begun: false,
            seen: 0,
            input: Vec::new(),
            received: Vec::new(),
            unsaid: Vec::new(),
            ends: false,
            has_ended: false,
        });
        Speaker { peer, through }
    }

    /// Has no effect without a layer.
    pub(super) fn set_parts(&mut self, parts: Parts) {
        if let Some(through) = &mut self.through {
            through.parts = parts;
        }
    }

    /// Has no effect without a layer.
    pub(super) fn set_most(&mut self, most: usize) {
        if let Some(through) = &mut self.through {
            through.most = most;
        }
    }

    pub(super) fn send(&mut self, sim: &Sim, bytes: &[u8]) {
        match &mut self.through {
            None => self.peer.send(bytes),
            Some(through) => {
                through.unsaid.extend(bytes);
                self.pump(sim);
            }
        }
    }

    pub(super) fn half_close(&mut self, sim: &Sim) {
        match &mut self.through {
            None => self.peer.half_close(),
            Some(through) => {
                through.ends = true;
                self.pump(sim);
            }
        }
    }

    pub(super) fn received(&self) -> Vec<u8> {
        match &self.through {
            None => self.peer.received(),
            Some(through) => through.received.clone(),
        }
    }

    /// Bytes of the wire that it sent through a layer.
    pub(super) fn sent(&self) -> usize {
        self.through.as_ref().map_or(0, |through| through.sent)
    }

    pub(super) fn is_silent(&self) -> bool {
        let through = self.through.as_ref();
        through.is_some_and(|through| through.sent >= through.most)
    }

    /// No handshake is under way.
    pub(super) fn is_open(&self) -> bool {
        let through = self.through.as_ref();
        through.is_none_or(|through| through.layer.is_open())
    }

    /// What arrived goes through the layer, and its answers go out. True if there were any.
    pub(super) fn pump(&mut self, sim: &Sim) -> bool {
        let Some(through) = &mut self.through else {
            return false;
        };
        let sent = through.sent;
        while through.pass(sim, &self.peer) {}
        through.sent > sent
    }

    /// Calls `run`, and passes on what arrived and what is to be said, until nothing is left to send.
    pub(super) fn run(&mut self, sim: &Sim, run: impl Fn(&Sim)) {
        self.pump(sim);
        run(sim);
        while self.pump(sim) {
            run(sim);
        }
    }

    /// Checks that the output ended with a FIN, and before it with the layer's own end if it has one.
    #[track_caller]
    pub(super) fn check_end(&mut self, sim: &Sim) {
        assert_eq!(
            self.peer.ending(),
            Some(Ending::Fin),
            "how the output ended"
        );
        self.pump(sim);
        if let Some(through) = &mut self.through {
            if !through.layer.has_ended() {
                let end = through.layer.on_eof();
                assert!(end.is_ok(), "how the output ended: {end:?}");
            }
        }
    }
}

impl Through {
    /// What arrived and what is unsaid. True if there was something to say.
    fn pass(&mut self, sim: &Sim, peer: &Peer) -> bool {
        let mut wire = Vec::new();
        self.read(peer, &mut wire);
        // Nothing follows the end.
        if self.has_ended {
            return false;
        }
        let ends = self.ends && self.layer.is_open();
        if self.layer.is_open() {
            if !self.unsaid.is_empty() {
                let said = self.layer.write(&self.unsaid, &mut wire);
                said.expect("a layer takes what a peer says");
                self.unsaid.clear();
            }
            if ends {
                self.layer.end(&mut wire).expect("a layer can end");
                self.has_ended = true;
            }
        }
        wire.truncate(self.most - self.sent);
        self.send(sim, peer, &wire);
        if ends && self.sent < self.most {
            peer.half_close();
        }
        !wire.is_empty()
    }

    /// The first call of a layer is without input.
    fn read(&mut self, peer: &Peer, wire: &mut Vec<u8>) {
        let arrived = peer.received();
        if self.has_begun && arrived.len() == self.seen {
            return;
        }
        self.has_begun = true;
        self.input.extend(&arrived[self.seen..]);
        self.seen = arrived.len();
        while !self.layer.has_ended() {
            let read = self.layer.read(&self.input, &mut self.received, wire);
            let read =
                read.unwrap_or_else(|error| panic!("what the peer was sent is wrong: {error}"));
            self.input.drain(..read);
            if read == 0 || self.input.is_empty() {
                break;
            }
        }
    }

    /// Between two parts everything that can happen does.
    fn send(&mut self, sim: &Sim, peer: &Peer, mut wire: &[u8]) {
        while !wire.is_empty() {
            let count = match self.parts {
                Parts::Bytes => 1,
                Parts::At(place) if place > self.sent => wire.len().min(place - self.sent),
                _ => wire.len(),
            };
            peer.send(&wire[..count]);
            self.sent += count;
            wire = &wire[count..];
            if !wire.is_empty() {
                sim.run_now();
            }
        }
    }
}
