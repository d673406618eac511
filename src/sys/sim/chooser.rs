//! The one place where the network's freedom is decided.
//!
//! Everything that the network may decide is a number below a bound, and 0 is the plainest: bytes
//! arrive whole and at once, calls take all they can, nothing is reported without a cause.

use std::collections::BTreeMap;
use std::fmt;

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

/// One decision that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Made {
    pub(crate) choice: Choice,
    /// How many there were to choose from.
    pub(crate) options: usize,
    pub(crate) chosen: usize,
    /// Its number among those of its kind.
    pub(crate) number: usize,
}

/// Prints what it deviates by, in words.
impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (chosen, options) = (self.chosen, self.options);
        let fewer = options - chosen;
        match self.choice {
            Choice::Next => write!(f, "{} others wait while another one moves", chosen),
            Choice::Split => write!(f, "only {fewer} of {options} bytes arrive now"),
            Choice::ShortRead => write!(f, "a read returns {fewer} of {options} bytes"),
            Choice::ShortWrite => write!(f, "a write takes {fewer} of {options} bytes"),
            Choice::Overtake => {
                let all = options - 1;
                write!(f, "the reset overtakes {chosen} of {all} bytes")
            }
            Choice::Order => write!(f, "events come in another order"),
            Choice::SpuriousEvent => write!(f, "an event comes without a cause"),
            Choice::StaleEvent => write!(f, "an event comes for a closed socket"),
            Choice::Interrupt => write!(f, "a signal interrupts (EINTR)"),
            Choice::AcceptError => write!(f, "accept fails"),
            Choice::Listener => write!(f, "another listener of the port is taken"),
            Choice::Test => write!(f, "the test chooses {chosen} of {options}"),
        }
    }
}

/// Of a fault that can come again after itself, how many a run of an exploration has, if the test does
/// not say.
pub(crate) const RECURRING: usize = 2;

/// How many kinds of choices there are.
pub(crate) const CHOICES: usize = 12;

/// Where decisions come from.
#[derive(Clone, Debug)]
pub(crate) enum Decisions {
    /// Always 0, and what is sent arrives within the call that sends it, as on loopback.
    Plain,
    /// At random: each kind of choice has its rate, in 1/256.
    Random { state: u64, rates: [u8; CHOICES] },
    /// These: the kind of a decision and its number among those of its kind, and what is chosen. All
    /// others are 0. Of each kind there are at most `most`, unless [`set_most`](Chooser::set_most) says
    /// otherwise.
    Given {
        deviations: BTreeMap<(usize, usize), usize>,
        most: [usize; CHOICES],
    },
}

impl Decisions {
    /// At random, with rates at which most runs see a few of each.
    pub(crate) fn random(seed: u64) -> Decisions {
        let mut rates = [0; CHOICES];
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
    /// All that was decided between two or more.
    pub(crate) made: Vec<Made>,
    counts: [usize; CHOICES],
    /// How many of each kind were not the plainest, and how many may be: after these it is not asked for
    /// any more.
    deviated: [usize; CHOICES],
    most: [usize; CHOICES],
}

impl Chooser {
    pub(crate) fn new(decisions: Decisions) -> Chooser {
        let most = match &decisions {
            Decisions::Given { most, .. } => *most,
            _ => [usize::MAX; CHOICES],
        };
        Chooser {
            decisions,
            made: Vec::new(),
            counts: [0; CHOICES],
            deviated: [0; CHOICES],
            most,
        }
    }

    pub(crate) fn set_rate(&mut self, choice: Choice, rate: u8) {
        match &mut self.decisions {
            Decisions::Plain => {}
            Decisions::Random { rates, .. } => rates[choice as usize] = rate,
            Decisions::Given { .. } => {
                let most = &mut self.most[choice as usize];
                *most = match (rate, *most) {
                    (0, _) => 0,
                    (_, 0) => RECURRING,
                    (_, most) => most,
                };
            }
        }
    }

    pub(crate) fn set_most(&mut self, choice: Choice, most: usize) {
        self.most[choice as usize] = most;
    }

    /// True if segments arrive within the call that sends them.
    pub(crate) fn is_plain(&self) -> bool {
        matches!(self.decisions, Decisions::Plain)
    }

    /// A number below `options`, as one decision.
    pub(crate) fn choose(&mut self, choice: Choice, options: usize) -> Made {
        let mut made = Made {
            choice,
            options,
            chosen: 0,
            number: self.counts[choice as usize],
        };
        let deviated = &mut self.deviated[choice as usize];
        if options < 2 || *deviated >= self.most[choice as usize] {
            return made;
        }
        match &mut self.decisions {
            Decisions::Plain => return made,
            Decisions::Random { state, rates } => {
                if next(state) % 256 < u64::from(rates[choice as usize]) {
                    made.chosen = (next(state) % options as u64) as usize;
                }
            }
            Decisions::Given { deviations, .. } => {
                let given = deviations.get(&(choice as usize, made.number));
                made.chosen = given.map_or(0, |&chosen| chosen.min(options - 1));
            }
        }
        *deviated += usize::from(made.chosen > 0);
        self.made.push(made);
        self.counts[choice as usize] += 1;
        made
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
