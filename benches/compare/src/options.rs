//! The options of the comparison.

use crate::suites::{self, Scenario, Suite};
use crate::{Result, peers};
use lexopt::{Arg, Parser, ValueExt};
use std::ops::RangeInclusive;

pub const HELP: &str = "\
Measure doorkeeper beside the libraries and servers that a user would choose
instead.

Usage: ./benches/run [OPTION]...

Options:
  --rounds N         rounds of every scenario on every server [7]
  --closer N         further rounds of the scenarios with a figure to reach, on
                     the servers that the figure is about [14]
  --seconds N        how long each run is counted, at most 60 [1]
  --only NAME        one scenario, or one suite (echo, relay, kv, http); may be
                     given several times
  --servers A,B      only these servers and the yardstick of their suite
  --no-weights       leave out size, build time, instructions, system calls
  --replace          with --only: put the new samples of these scenarios in the
                     place of the old ones in docs/performance/results.json,
                     and write the page anew
  --again            measure nothing: write the tables and charts anew, from
                     docs/performance/results.json, or with --scale from
                     scale.json
  --keep             leave docs/performance.md as it is; print the tables. A
                     run with --only, --servers, --no-weights or --rounds 0
                     measures a part, and implies --keep unless --replace is
                     given
  --scale            instead of the comparison: 1,000 to 1,000,000 connections
                     in the simulation, into docs/performance/scale.json, the
                     page and a chart; takes two minutes. It goes with --again
                     and --keep alone
  -h, --help         this text

With --rounds 0, only the closer rounds are run.
The comparison needs taskset, cc, valgrind and strace, and for some of the servers Debian's
libevent-dev, libuv1-dev, haproxy, nginx, libnginx-mod-stream, redis-server,
redis-tools and apache2-utils. A server that cannot be built or started is named
as missing.
Exit status: 0 done; 1 it could not be done, or a run failed, or, with CI in the
environment, a server is missing.
";

/// The rounds, the closer rounds, and the seconds of a run.
const USUAL: (usize, usize, u32) = (7, 14, 1);

/// How many rounds are run of what, and what is written.
#[derive(Debug)]
pub struct Options {
    pub rounds: usize,
    pub closer: usize,
    pub seconds: u32,
    only: Vec<String>,
    servers: Vec<String>,
    pub weights: bool,
    pub replace: bool,
    pub again: bool,
    pub keep: bool,
    pub scale: bool,
}

impl Options {
    pub fn wants_suite(&self, suite: &Suite) -> bool {
        let named = |server: &&str| self.servers.iter().any(|name| name == server);
        let server = self.servers.is_empty() || peers::names(suite).iter().any(named);
        server
            && suite
                .scenarios
                .iter()
                .any(|scenario| self.wants(suite, scenario))
    }

    pub fn wants(&self, suite: &Suite, scenario: &Scenario) -> bool {
        let named = |only: &String| only == suite.name || only == scenario.name;
        self.only.is_empty() || self.only.iter().any(named)
    }

    pub fn wants_server(&self, suite: &Suite, server: &str) -> bool {
        let named = self.servers.iter().any(|name| name == server);
        // Without the full rounds, only the servers of the closer rounds are run.
        let rounds = self.rounds > 0 || suite.closer.contains(&server);
        rounds && (self.servers.is_empty() || named) || server == suite.yardstick
    }

    fn is_part(&self) -> bool {
        !(self.weights && self.only.is_empty() && self.servers.is_empty() && self.rounds > 0)
    }

    fn check(&self) -> Result<()> {
        let is_usual = (self.rounds, self.closer, self.seconds) == USUAL;
        if self.scale && (self.is_part() || self.replace || !is_usual) {
            return Err("--scale is another measurement: it goes with --again and --keep".into());
        }
        let whole = self.servers.is_empty() && self.rounds > 0;
        if self.again && (self.is_part() || self.replace || !is_usual) {
            return Err("--again measures nothing: it goes with --keep alone".into());
        }
        if self.replace && (self.only.is_empty() || !whole) {
            return Err(
                "--replace is for whole scenarios: it needs --only, and neither --servers nor --rounds 0".into(),
            );
        }
        if self.rounds + self.closer == 0 {
            return Err("--rounds 0 and --closer 0 leave nothing to measure".into());
        }
        Ok(())
    }
}

/// `None` if help is asked for.
pub fn parse(mut parser: Parser) -> Result<Option<Options>> {
    let (rounds, closer, seconds) = USUAL;
    let mut options = Options {
        rounds,
        closer,
        seconds,
        only: vec![],
        servers: vec![],
        weights: true,
        replace: false,
        again: false,
        keep: false,
        scale: false,
    };
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Long("rounds") => {
                options.rounds = number(&mut parser, "--rounds", 0..=1000)? as usize
            }
            Arg::Long("closer") => {
                options.closer = number(&mut parser, "--closer", 0..=1000)? as usize
            }
            Arg::Long("seconds") => options.seconds = number(&mut parser, "--seconds", 1..=60)?,
            Arg::Long("only") => {
                let name = parser.value()?.string()?;
                let scenarios = suites::scenarios().map(|scenario| scenario.name);
                known(
                    "--only",
                    &name,
                    suites::ALL.iter().map(|suite| suite.name).chain(scenarios),
                )?;
                options.only.push(name);
            }
            Arg::Long("servers") => {
                for name in parser.value()?.string()?.split(',') {
                    known("--servers", name, suites::ALL.iter().flat_map(peers::names))?;
                    options.servers.push(name.to_string());
                }
            }
            Arg::Long("no-weights") => options.weights = false,
            Arg::Long("replace") => options.replace = true,
            Arg::Long("again") => options.again = true,
            Arg::Long("keep") => options.keep = true,
            Arg::Long("scale") => options.scale = true,
            Arg::Short('h') | Arg::Long("help") => return Ok(None),
            other => return Err(other.unexpected().into()),
        }
    }
    options.check()?;
    // A part must not take the place of the whole.
    options.keep |= options.is_part() && !options.replace;
    Ok(Some(options))
}

fn number(parser: &mut Parser, option: &str, bounds: RangeInclusive<u32>) -> Result<u32> {
    let word = parser.value()?.string()?;
    let parsed = word.parse().ok().filter(|number| bounds.contains(number));
    parsed.ok_or_else(|| {
        let (least, most) = (bounds.start(), bounds.end());
        format!("{option} {word}: must be a whole number from {least} to {most}").into()
    })
}

fn known<'a>(option: &str, name: &str, all: impl Iterator<Item = &'a str>) -> Result<()> {
    let mut all: Vec<&str> = all.collect();
    if all.contains(&name) {
        return Ok(());
    }
    all.dedup();
    Err(format!("{option} {name}: must be one of {}", all.join(", ")).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &str) -> Result<Options> {
        Ok(parse(Parser::from_args(words.split_whitespace()))?.expect("no help"))
    }

    #[test]
    fn a_part_leaves_the_page_alone() {
        assert!(!parsed("").unwrap().keep);
        for part in [
            "--only echo",
            "--servers tokio",
            "--no-weights",
            "--rounds 0",
        ] {
            assert!(parsed(part).unwrap().keep, "{part}");
        }
        assert!(!parsed("--only relay --replace").unwrap().keep);
    }

    #[test]
    fn contradictions_are_refused() {
        for words in [
            "--again --only echo",
            "--again --replace",
            "--scale --only echo",
            "--scale --seconds 2",
            "--again --rounds 3",
            "--again --closer 3",
            "--replace",
            "--replace --only relay --servers nginx",
            "--replace --only relay --rounds 0",
            "--rounds 0 --closer 0",
            "--only nothing",
            "--servers nobody",
            "--seconds 0",
            "--seconds 61",
            "--loud",
        ] {
            assert!(parsed(words).is_err(), "{words}");
        }
    }

    #[test]
    fn the_scale_can_be_drawn_again_and_only_printed() {
        for words in ["--scale", "--scale --again", "--scale --again --keep"] {
            let options = parsed(words).unwrap();
            assert!(options.scale, "{words}");
            assert_eq!(options.again, words.contains("again"), "{words}");
            assert_eq!(options.keep, words.contains("keep"), "{words}");
        }
    }

    #[test]
    fn a_suite_stands_for_its_scenarios() {
        let options = parsed("--only relay").unwrap();
        for suite in &suites::ALL {
            assert_eq!(options.wants_suite(suite), suite.name == "relay");
        }
        let relay = suites::ALL
            .iter()
            .find(|suite| suite.name == "relay")
            .unwrap();
        assert!(
            relay
                .scenarios
                .iter()
                .all(|scenario| options.wants(relay, scenario))
        );
    }

    #[test]
    fn a_server_brings_its_yardstick_and_no_other_suite() {
        let options = parsed("--servers tokio").unwrap();
        let wanted: Vec<&Suite> = suites::ALL
            .iter()
            .filter(|suite| options.wants_suite(suite))
            .collect();
        assert_eq!(wanted.len(), 1);
        let servers = peers::names(wanted[0]);
        let servers: Vec<&str> = servers
            .into_iter()
            .filter(|name| options.wants_server(wanted[0], name))
            .collect();
        assert_eq!(servers, ["epoll", "tokio"]);
    }

    #[test]
    fn without_full_rounds_only_the_closer_servers_are_built() {
        let options = parsed("--rounds 0").unwrap();
        for suite in &suites::ALL {
            for name in peers::names(suite) {
                assert_eq!(
                    options.wants_server(suite, name),
                    suite.closer.contains(&name),
                    "{name}"
                );
            }
        }
    }
}
