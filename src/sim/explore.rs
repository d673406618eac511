//! Many runs of one test: with every combination of choices, or with choices at random. A failure is
//! shortened as far as possible, and printed.

use super::quiet;
use super::run::Sim;
use crate::sys::sim::{CHOICES, Choice, Decisions, Made, RECURRING, asked_run, test_name};
use std::ops::Range;

/// A decision that differs from the plainest: its kind, its number in the kind, and what was chosen.
type Deviation = (usize, usize, usize);
type Deviations = Vec<Deviation>;

/// How many deviations the runs of each round have at most.
const ROUNDS: [usize; 3] = [1, 2, usize::MAX];
/// The most runs that shortening a failure takes.
const SHRINK_RUNS: usize = 2000;

/// How far [`explore`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Explored {
    /// How many runs there were.
    pub runs: usize,
    /// True if these were all possible runs.
    pub all: bool,
}

/// Which choices a run asks for, and the letter that says so in `DOORKEEPER_SIM`.
#[derive(Clone, Copy)]
struct Asked {
    letter: char,
    /// Of each kind, how many deviations a run has at most.
    most: [usize; CHOICES],
}

/// What [`explore`] goes through. A signal and an event without a cause can come at every step, also
/// after itself, so without a bound there is no end of them. An error of accept can cost the peer its
/// connection, so a test asks for it ([`Sim::set_rate`]).
fn explored() -> Asked {
    let mut most = [usize::MAX; CHOICES];
    for choice in [Choice::Interrupt, Choice::SpuriousEvent, Choice::StaleEvent] {
        most[choice as usize] = RECURRING;
    }
    most[Choice::AcceptError as usize] = 0;
    Asked { letter: 'e', most }
}

fn everything() -> Asked {
    Asked {
        letter: 's',
        most: [usize::MAX; CHOICES],
    }
}

/// Runs a test with every combination of the network's choices, depth first, in at most `limit` runs:
/// first those that differ from a plain network in one choice, then in two, and then all others. Most faults
/// need no more than two, at any place, and depth first alone would spend the runs on the last choices of
/// the first one.
///
/// A run has at most two signals, two events without a cause, two events for closed sockets, and two errors of
/// accept(2) if the test asks for these ([`Sim::set_rate`]). [`Sim::set_most`] changes these numbers. A later
/// part makes the runs of the earlier ones again; they are not counted.
///
/// The test must do the same when the network does the same: it takes its time and its randomness from
/// the simulation ([`Sim::now`], [`Sim::choose`]).
///
/// # Panics
/// If a run fails. The failure is repeated with fewer and smaller deviations while it still fails, and
/// then printed: the choices, the story of the run, the panic, and the line that runs exactly this run again.
#[track_caller]
pub fn explore(limit: usize, test: impl Fn(&Sim)) -> Explored {
    explore_asked(explored(), limit, &ROUNDS, test)
}

/// Only over the choices that the test makes itself.
#[track_caller]
pub(super) fn explore_tests(test: impl Fn(&Sim)) -> Explored {
    let mut most = [0; CHOICES];
    most[Choice::Test as usize] = usize::MAX;
    // Without a limit the order does not matter.
    explore_asked(Asked { letter: 't', most }, usize::MAX, &ROUNDS[2..], test)
}

/// Depth first, once for each of these numbers of deviations that a run has at most. What an earlier
/// round had is not counted again.
#[track_caller]
fn explore_asked(asked: Asked, limit: usize, rounds: &[usize], test: impl Fn(&Sim)) -> Explored {
    if let Some(runs) = run_again(asked, &test) {
        return Explored { runs, all: false };
    }
    let (mut runs, mut known) = (0, None);
    for &most in rounds {
        let (mut path, mut next) = (Vec::<Node>::new(), Some((Deviations::new(), 0)));
        let mut is_cut = false;
        while let Some((deviations, from)) = next {
            if known.is_none_or(|known| deviations.len() > known) {
                if runs == limit {
                    return Explored { runs, all: false };
                }
                runs += 1;
            }
            let run = Run::given(asked, &deviations, &test);
            if run.failure.is_some() {
                report(asked, run, &test, &format!("run {runs}"));
            }
            match deviations.len() < most {
                true => path.push(Node::new(deviations, run.made, from)),
                false => is_cut |= from < run.made.len(),
            }
            next = following(&mut path);
        }
        if !is_cut {
            return Explored { runs, all: true };
        }
        known = Some(most);
    }
    unreachable!("the last round has any number of deviations");
}

/// A run on the way from the plain one to the present one.
struct Node {
    deviations: Deviations,
    made: Vec<Made>,
    /// The choice that its next child makes otherwise, and how.
    index: usize,
    other: usize,
}

impl Node {
    fn new(deviations: Deviations, made: Vec<Made>, index: usize) -> Node {
        Node {
            deviations,
            made,
            index,
            other: 1,
        }
    }

    /// Its next child: one more choice after its last deviation is made otherwise.
    fn child(&mut self) -> Option<(Deviations, usize)> {
        let mut made = self.made.get(self.index)?;
        if self.other == made.options {
            (self.index, self.other) = (self.index + 1, 1);
            made = self.made.get(self.index)?;
        }
        let mut deviations = self.deviations.clone();
        deviations.push((made.choice as usize, made.number, self.other));
        self.other += 1;
        Some((deviations, self.index + 1))
    }
}

/// The next run, and from which choice on its own children differ.
fn following(path: &mut Vec<Node>) -> Option<(Deviations, usize)> {
    while let Some(node) = path.last_mut() {
        let child = node.child();
        if child.is_some() {
            return child;
        }
        path.pop();
    }
    None
}

/// Runs a test once for each seed, on a network that decides at random.
///
/// # Panics
/// As for [`explore`].
#[track_caller]
pub fn seeds(seeds: Range<u64>, test: impl Fn(&Sim)) {
    let asked = everything();
    if run_again(asked, &test).is_some() {
        return;
    }
    for seed in seeds {
        let run = Run::new(Decisions::random(seed), false, &test);
        if run.failure.is_some() {
            report(asked, run, &test, &format!("seed {seed}"));
        }
    }
}

/// One run of a test, and what came of it.
struct Run {
    made: Vec<Made>,
    failure: Option<String>,
    story: Vec<String>,
}

impl Run {
    fn new(decisions: Decisions, told: bool, test: &impl Fn(&Sim)) -> Run {
        let sim = Sim::with(decisions);
        if told {
            sim.world.borrow_mut().story = Some(Vec::new());
        }
        let failure = quiet::message_of(|| test(&sim));
        let mut world = sim.world.borrow_mut();
        Run {
            made: std::mem::take(&mut world.chooser.made),
            failure,
            story: world.story.take().unwrap_or_default(),
        }
    }

    fn given(asked: Asked, deviations: &[Deviation], test: &impl Fn(&Sim)) -> Run {
        Run::new(given(asked, deviations), false, test)
    }

    fn deviations(&self) -> Deviations {
        let deviating = self.made.iter().filter(|made| made.chosen > 0);
        deviating
            .map(|made| (made.choice as usize, made.number, made.chosen))
            .collect()
    }
}

fn given(asked: Asked, deviations: &[Deviation]) -> Decisions {
    Decisions::Given {
        deviations: deviations
            .iter()
            .map(|&(kind, number, chosen)| ((kind, number), chosen))
            .collect(),
        most: asked.most,
    }
}

/// Fewer deviations, then smaller ones, while the test still fails.
fn shrink(asked: Asked, run: Run, test: &impl Fn(&Sim)) -> (Deviations, usize) {
    let (mut best, mut runs) = (run.deviations(), 0);
    let mut fails = |tried: &Deviations| {
        runs += 1;
        let run = Run::given(asked, tried, test);
        (runs <= SHRINK_RUNS && run.failure.is_some()).then(|| run.deviations())
    };
    let mut size = best.len();
    while size > 0 {
        let (mut from, mut shorter) = (0, false);
        while from < best.len() {
            let mut tried = best.clone();
            tried.drain(from..(from + size).min(best.len()));
            match fails(&tried) {
                Some(found) if found.len() < best.len() => (best, shorter) = (found, true),
                _ => from += size,
            }
        }
        // After a change smaller parts may go that could not before.
        size = if shorter {
            size.min(best.len())
        } else {
            size / 2
        };
    }
    for index in 0..best.len() {
        let mut low = 1;
        while best.get(index).is_some_and(|&(_, _, chosen)| low < chosen) {
            let mut tried = best.clone();
            let middle = (low + best[index].2) / 2;
            tried[index].2 = middle;
            match fails(&tried) {
                Some(found) if found.get(index) == Some(&tried[index]) => best = found,
                _ => low = middle + 1,
            }
        }
    }
    (best, runs.min(SHRINK_RUNS))
}

/// Shortens a failure, tells it and fails.
#[track_caller]
fn report(asked: Asked, run: Run, test: &impl Fn(&Sim), place: &str) -> ! {
    let first = run.failure.clone();
    let (deviations, runs) = shrink(asked, run, test);
    let run = Run::new(given(asked, &deviations), true, test);
    let choices: Vec<String> = run
        .made
        .iter()
        .filter(|made| made.chosen > 0)
        .map(|made| format!("\n  {made}"))
        .collect();
    let Some(failure) = run.failure.or(first) else {
        unreachable!("only a failure is reported");
    };
    panic!(
        "the simulation found a failure in {place}, and made it as short as it gets in {runs} more \
         runs.\n\nchoices that differ from a plain network:{}\n\nthe story:\n  {}\n\nthe failure:\n\
         {failure}\n\nto run exactly this again: DOORKEEPER_SIM={} cargo test {}\n",
        if choices.is_empty() {
            "\n  none".to_string()
        } else {
            choices.concat()
        },
        run.story.join("\n  "),
        to_text(asked, &deviations),
        test_name(),
    );
}

/// The one run that the environment asks for, with its story.
fn run_again(asked: Asked, test: &impl Fn(&Sim)) -> Option<usize> {
    let text = asked_run()?;
    let Some(deviations) = from_text(asked, &text) else {
        panic!("DOORKEEPER_SIM={text} is not a run of this test");
    };
    let run = Run::new(given(asked, &deviations), true, test);
    println!("{}", run.story.join("\n"));
    if let Some(failure) = run.failure {
        panic!("{failure}");
    }
    Some(1)
}

/// As in `s:1.12=1,0.40=3`.
fn to_text(asked: Asked, deviations: &[Deviation]) -> String {
    let pairs: Vec<String> = deviations
        .iter()
        .map(|(kind, number, chosen)| format!("{kind}.{number}={chosen}"))
        .collect();
    format!("{}:{}", asked.letter, pairs.join(","))
}

fn from_text(asked: Asked, text: &str) -> Option<Deviations> {
    let pairs = text.strip_prefix(asked.letter)?.strip_prefix(':')?;
    let pairs = pairs.split(',').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, chosen) = pair.split_once('=')?;
            let (kind, number) = name.split_once('.')?;
            Some((
                kind.parse().ok()?,
                number.parse().ok()?,
                chosen.parse().ok()?,
            ))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a test with these numbers of options chose in each run. The third number is asked for only
    /// if the first is 2.
    fn runs(
        limit: usize,
        explore: impl Fn(usize, &dyn Fn(&Sim)) -> Explored,
    ) -> (Explored, Vec<[usize; 3]>) {
        let seen = std::cell::RefCell::new(Vec::new());
        let test = |sim: &Sim| {
            let (first, second) = (sim.choose(3), sim.choose(2));
            let third = if first == 2 { sim.choose(2) } else { 0 };
            seen.borrow_mut().push([first, second, third]);
        };
        let explored = explore(limit, &test);
        (explored, seen.into_inner())
    }

    #[test]
    fn every_combination_is_run_once_depth_first_and_counted() {
        let all = |limit, test: &dyn Fn(&Sim)| explore_asked(explored(), limit, &ROUNDS[2..], test);
        let order = [
            [0, 0, 0],
            [1, 0, 0],
            [1, 1, 0],
            [2, 0, 0],
            [2, 1, 0],
            [2, 1, 1],
            [2, 0, 1],
            [0, 1, 0],
        ];
        let whole = Explored { runs: 8, all: true };
        assert_eq!(runs(8, all), (whole, order.to_vec()));
        let part = Explored {
            runs: 7,
            all: false,
        };
        assert_eq!(runs(7, all), (part, order[..7].to_vec()));
    }

    /// The runs with few deviations are the first, and are counted once, though they are made again.
    #[test]
    fn what_deviates_little_is_run_first() {
        let (explored, seen) = runs(100, |limit, test| explore(limit, test));
        assert_eq!(explored, Explored { runs: 8, all: true });
        let many = |run: &[usize; 3]| run.iter().filter(|&&chosen| chosen > 0).count() > 2;
        assert_eq!(seen.iter().position(many), Some(4 + 7 + 5));
        assert!(!explore_few(7).all && explore_few(8).all);
    }

    fn explore_few(limit: usize) -> Explored {
        runs(limit, |limit, test| explore(limit, test)).0
    }

    /// A test that fails at the third interrupted call of a reactor.
    fn signals(most: usize) -> Option<String> {
        let test = move |sim: &Sim| {
            sim.set_most(Choice::Interrupt, most);
            let mut world = sim.world.borrow_mut();
            let signals = (0..6).map(|_| world.choose(Choice::Interrupt, 2));
            assert!(signals.sum::<usize>() < 3, "three signals");
        };
        quiet::message_of(|| {
            explore(1000, test);
        })
    }

    #[test]
    fn a_fault_comes_as_often_as_the_test_asks_for() {
        assert_eq!(signals(2), None);
        assert!(signals(3).unwrap().contains("three signals"));
        let count = |most| {
            let test = move |sim: &Sim| {
                sim.set_most(Choice::SpuriousEvent, most);
                let mut world = sim.world.borrow_mut();
                (0..6).for_each(|_| _ = world.choose(Choice::SpuriousEvent, 2));
            };
            explore(1000, test)
        };
        // Binomial coefficients of six.
        let sums = [(0, 1), (1, 7), (2, 22), (3, 42), (6, 64)];
        for (most, runs) in sums {
            assert_eq!(count(most), Explored { runs, all: true });
        }
    }

    #[test]
    fn a_failure_is_shrunk_to_what_it_needs() {
        // It fails if the third of ten numbers is at least 5.
        let test = |sim: &Sim| {
            let numbers: Vec<usize> = (0..10).map(|_| sim.choose(100)).collect();
            assert!(numbers[2] < 5, "too large");
        };
        let message = quiet::message_of(|| seeds(0..50, test)).unwrap();
        assert!(
            message.contains("the test chooses 5 of 100\n\nthe story"),
            "{message}"
        );
        assert!(message.contains("too large"), "{message}");
        assert!(
            message.contains(
                "DOORKEEPER_SIM=s:11.2=5 cargo test sim::explore::tests::a_failure_is_shrunk"
            ),
            "{message}"
        );
    }

    #[test]
    fn a_run_survives_its_text() {
        for deviations in [vec![], vec![(1, 3, 1)], vec![(0, 0, 7), (11, 12, 1)]] {
            let text = to_text(everything(), &deviations);
            assert_eq!(from_text(everything(), &text), Some(deviations));
            assert_eq!(from_text(explored(), &text), None);
        }
    }
}
