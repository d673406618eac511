//! Random scripts.

/// One call at the waist, or a few that belong together. Numbers name listeners and streams modulo
/// how many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Listen {
        backlog: u32,
    },
    SetBacklog {
        listener: usize,
        backlog: u32,
    },
    AcceptQueue {
        listener: usize,
    },
    CloseListener {
        listener: usize,
    },
    WatchListener {
        listener: usize,
    },
    /// From an address that is bound before, or one that connect chooses.
    Connect {
        listener: usize,
        bound: bool,
    },
    Accept {
        listener: usize,
    },
    Watch {
        stream: usize,
        writable: bool,
    },
    Read {
        stream: usize,
        length: usize,
    },
    Write {
        stream: usize,
        length: usize,
    },
    /// Writes until the peer's buffer and the own one are full.
    Fill {
        stream: usize,
    },
    /// Reads until nothing more comes.
    Drain {
        stream: usize,
    },
    Shutdown {
        stream: usize,
    },
    ResetOnClose {
        stream: usize,
    },
    Close {
        stream: usize,
    },
    TakeError {
        stream: usize,
    },
    PeerAddr {
        stream: usize,
    },
    Wait,
    /// Lets 1.1 s pass, in which a client that is not answered sends its next SYN.
    Pass,
}

/// SplitMix64.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}

/// A script: a listener and a few connections, and then anything.
pub(super) fn script(seed: u64) -> Vec<Op> {
    let mut random = Random(seed);
    let mut ops = vec![Op::Listen {
        backlog: random.below(4) as u32,
    }];
    if random.below(4) > 0 {
        ops.push(Op::WatchListener { listener: 0 });
    }
    for _ in 0..1 + random.below(3) {
        let (listener, bound) = (0, random.below(8) == 0);
        ops.push(Op::Connect { listener, bound });
        if random.below(2) == 0 {
            let (stream, writable) = (random.below(8), random.below(3) > 0);
            ops.push(Op::Watch { stream, writable });
        }
        if random.below(4) > 0 {
            ops.push(Op::Accept { listener: 0 });
        }
    }
    for _ in 0..8 + random.below(24) {
        ops.push(any(&mut random));
    }
    ops.push(Op::Wait);
    ops
}

fn any(random: &mut Random) -> Op {
    let (stream, listener) = (random.below(8), random.below(3));
    match random.below(60) {
        0 => Op::Listen {
            backlog: random.below(4) as u32,
        },
        1 => Op::SetBacklog {
            listener,
            backlog: random.below(4) as u32,
        },
        2..4 => Op::AcceptQueue { listener },
        4 => Op::CloseListener { listener },
        5 => Op::WatchListener { listener },
        6..10 => Op::Connect {
            listener,
            bound: random.below(6) == 0,
        },
        10..14 => Op::Accept { listener },
        14..19 => Op::Watch {
            stream,
            writable: random.below(3) > 0,
        },
        19..26 => Op::Read {
            stream,
            length: 1 + random.below(40),
        },
        26..34 => Op::Write {
            stream,
            length: 1 + random.below(30),
        },
        34 => Op::Fill { stream },
        35..38 => Op::Drain { stream },
        38..41 => Op::Shutdown { stream },
        41..43 => Op::ResetOnClose { stream },
        43..46 => Op::Close { stream },
        46..48 => Op::TakeError { stream },
        48..50 => Op::PeerAddr { stream },
        50 if random.below(8) == 0 => Op::Pass,
        _ => Op::Wait,
    }
}
