//! The one place where the network's freedom is decided.
//!
//! Everything that the network may decide is a number below a bound, and 0 is the plainest: bytes
//! arrive whole and at once, calls take all they can, nothing is reported without a cause.

/// What is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Choice {
    /// Who moves next: a segment, a peer or a reactor.
    Next,
    /// How many bytes fewer than possible arrive together.
    Split,
    /// How many bytes fewer than possible a read returns.
    ShortRead,
    /// How many bytes fewer than possible a write takes.
    ShortWrite,
    /// How many bytes in flight a reset overtakes.
    Overtake,
    /// Which event of a batch comes first.
    Order,
    /// An event for a socket on which nothing happened.
    SpuriousEvent,
    /// An event for a socket that is closed.
    StaleEvent,
    /// A wait that a signal ends (EINTR).
    Interrupt,
    /// An error of accept(2).
    AcceptError,
    /// Which listener of a shared port (SO_REUSEPORT) gets a connection.
    Listener,
    /// A decision of the test itself.
    Test,
}

/// Where decisions come from.
#[derive(Clone, Debug)]
pub(crate) enum Decisions {
    /// Always 0, and what is sent arrives within the call that sends it, as on loopback.
    Plain,
    /// At random: each kind of choice has its rate, in 1/256.
    Random { state: u64, rates: [u8; 12] },
}

impl Decisions {
    /// At random, with rates at which most runs see a few of each.
    pub(crate) fn random(seed: u64) -> Decisions {
        let mut rates = [0; 12];
        for (choice, rate) in [
            (Choice::Next, 128),
            (Choice::Split, 96),
            (Choice::ShortRead, 32),
            (Choice::ShortWrite, 32),
            (Choice::Overtake, 128),
            (Choice::Order, 64),
            (Choice::SpuriousEvent, 8),
            (Choice::StaleEvent, 8),
            (Choice::Interrupt, 8),
            (Choice::Listener, 255),
            (Choice::Test, 255),
        ] {
            rates[choice as usize] = rate;
        }
        let state = seed;
        Decisions::Random { state, rates }
    }
}

#[derive(Debug)]
pub(crate) struct Chooser {
    decisions: Decisions,
}

impl Chooser {
    pub(crate) fn new(decisions: Decisions) -> Chooser {
        Chooser { decisions }
    }

    pub(crate) fn set_rate(&mut self, choice: Choice, rate: u8) {
        if let Decisions::Random { rates, .. } = &mut self.decisions {
            rates[choice as usize] = rate;
        }
    }

    /// True if segments arrive within the call that sends them.
    pub(crate) fn is_plain(&self) -> bool {
        matches!(self.decisions, Decisions::Plain)
    }

    /// A number below `options`.
    pub(crate) fn choose(&mut self, choice: Choice, options: usize) -> usize {
        match &mut self.decisions {
            Decisions::Random { state, rates } if options > 1 => {
                let rate = u64::from(rates[choice as usize]);
                if next(state) % 256 < rate {
                    (next(state) % options as u64) as usize
                } else {
                    0
                }
            }
            _ => 0,
        }
    }
}

/// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
