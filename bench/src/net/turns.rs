//! Two ways beside each other, in short turns: a slow moment of the machine hits both, and the ratio of two neighbours
//! in time says what the ways are worth to each other where their figures by themselves wander by a third.

use anyhow::{Result, ensure};

use crate::measure::median;

/// The median of `ours / theirs` over `turns` neighbouring pairs; who goes first changes with each, so that a drift of the
/// machine (a warming cache, a neighbour that wakes) favours nobody.
pub fn ratio(
    turns: usize,
    mut ours: impl FnMut() -> Result<f64>,
    mut theirs: impl FnMut() -> Result<f64>,
) -> Result<f64> {
    ensure!(turns > 0, "no turn, no ratio");
    let mut ratios = Vec::with_capacity(turns);
    for turn in 0..turns {
        let (mine, reference) = if turn % 2 == 0 {
            let reference = theirs()?;
            (ours()?, reference)
        } else {
            let mine = ours()?;
            (mine, theirs()?)
        };
        ratios.push(mine / reference);
    }
    Ok(median(ratios))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn a_drift_favours_nobody_and_one_bad_turn_counts_for_little() {
        let clock = RefCell::new(0.0);
        let tick = |cost: f64| {
            let mut now = clock.borrow_mut();
            *now += 1.0;
            let bad = if *now > 6.5 && *now < 7.5 { 50.0 } else { 1.0 };
            Ok(cost * (1.0 + *now / 100.0) * bad)
        };
        let told = ratio(10, || tick(2.0), || tick(1.0)).unwrap();
        assert!((told - 2.0).abs() < 0.03, "{told}");
        assert!(ratio(0, || Ok(1.0), || Ok(1.0)).is_err());
    }
}
