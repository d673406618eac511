//! Figures of several rounds: what they have in common.

/// A figure in each of the rounds, with the number of the round.
pub type Rounds = Vec<(u64, f64)>;

/// A figure divided by another one, round by round. A round in which one of them is missing is left out.
pub fn ratio(figure: &Rounds, other: &Rounds) -> Rounds {
    let ratio = |&(round, value): &(u64, f64)| {
        let (_, other) = other.iter().find(|(other, _)| *other == round)?;
        (*other > 0.0).then(|| (round, value / other))
    };
    figure.iter().filter_map(ratio).collect()
}

/// The value below which this part of the rounds lies, interpolated between the two nearest rounds.
pub fn quantile(rounds: &Rounds, part: f64) -> Option<f64> {
    let mut values: Vec<f64> = rounds.iter().map(|&(_, value)| value).collect();
    values.sort_by(f64::total_cmp);
    let at = part * values.len().checked_sub(1)? as f64;
    let (below, above) = (values[at.floor() as usize], values[at.ceil() as usize]);
    Some(below + (above - below) * at.fract())
}

pub fn median(rounds: &Rounds) -> Option<f64> {
    quantile(rounds, 0.5)
}

/// The values between which the middle half of the rounds lies. Fewer than four rounds have none.
pub fn middle_half(rounds: &Rounds) -> Option<(f64, f64)> {
    if rounds.len() < 4 {
        return None;
    }
    quantile(rounds, 0.25).zip(quantile(rounds, 0.75))
}

/// Puts the items into a random order (Fisher-Yates, splitmix64), the same one for the same seed.
pub fn shuffle<T>(items: &mut [T], seed: u64) {
    let mut state = seed;
    let mut random = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    };
    for last in (1..items.len()).rev() {
        items.swap(last, (random() % (last as u64 + 1)) as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(values: &[f64]) -> Rounds {
        (0..).zip(values.iter().copied()).collect()
    }

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&rounds(&[9.0, 1.0, 5.0])), Some(5.0));
        assert_eq!(median(&rounds(&[1.0, 9.0, 5.0, 3.0])), Some(4.0));
        assert_eq!(median(&rounds(&[2.0])), Some(2.0));
        assert_eq!(median(&rounds(&[])), None);
    }

    #[test]
    fn the_middle_half_leaves_out_a_quarter_on_each_side() {
        assert_eq!(
            middle_half(&rounds(&[7.0, 1.0, 3.0, 2.0, 6.0, 4.0, 5.0])),
            Some((2.5, 5.5))
        );
        assert_eq!(
            middle_half(&rounds(&[1.0, 2.0, 3.0, 4.0, 5.0])),
            Some((2.0, 4.0))
        );
        assert_eq!(middle_half(&rounds(&[1.0, 2.0, 3.0])), None);
    }

    #[test]
    fn ratios_are_of_the_same_round() {
        let figure = vec![(0, 10.0), (1, 30.0), (3, 8.0), (4, 1.0)];
        let other = vec![(1, 10.0), (0, 10.0), (2, 1.0), (3, 2.0), (4, 0.0)];
        assert_eq!(ratio(&figure, &other), [(0, 1.0), (1, 3.0), (3, 4.0)]);
    }

    #[test]
    fn a_shuffle_reaches_every_order() {
        let orders: std::collections::BTreeSet<[u8; 3]> = (0..100)
            .map(|seed| {
                let mut items = [1, 2, 3];
                shuffle(&mut items, seed);
                items
            })
            .collect();
        assert_eq!(orders.len(), 6);
    }
}
