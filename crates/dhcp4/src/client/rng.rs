//! Pseudo-random numbers for transaction ids and jitter.

use std::time::Duration;

/// SplitMix64 (Steele, Lea, Flood 2014). It has eight octets of state and spreads the messages of
/// thousands of clients well. It is not cryptographic, and a transaction id is not a secret.
#[derive(Clone, Debug)]
pub(super) struct Rng(u64);

impl Rng {
    pub(super) fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    pub(super) fn next_u32(&mut self) -> u32 {
        (self.next_u64() >> 32) as u32
    }

    /// Draws a duration between `middle - spread` and `middle + spread`. A spread wider than
    /// `middle` is cut to it.
    pub(super) fn around(&mut self, middle: Duration, spread: Duration) -> Duration {
        let spread = spread.min(middle);
        middle - spread + self.up_to(spread * 2)
    }

    fn up_to(&mut self, limit: Duration) -> Duration {
        let nanos = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        // Scaled by multiplication, because a remainder would favour small values.
        let scaled = (u128::from(self.next_u64()) * u128::from(nanos)) >> 64;
        Duration::from_nanos(scaled as u64)
    }

    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_sequence() {
        let (mut a, mut b) = (Rng::new(7), Rng::new(7));
        assert_eq!(
            [(); 8].map(|()| a.next_u32()),
            [(); 8].map(|()| b.next_u32())
        );
        assert_ne!(Rng::new(7).next_u32(), Rng::new(8).next_u32());
    }

    #[test]
    fn the_sequence_is_that_of_splitmix64() {
        let mut rng = Rng::new(1_234_567);
        let drawn = [(); 5].map(|()| rng.next_u64());
        let published = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
            4_593_380_528_125_082_431,
            16_408_922_859_458_223_821,
        ];
        assert_eq!(drawn, published);
    }

    #[test]
    fn jitter_covers_its_spread_and_never_exceeds_it() {
        let mut rng = Rng::new(1);
        let (middle, spread) = (Duration::from_secs(4), Duration::from_secs(1));
        let drawn: Vec<_> = (0..1000).map(|_| rng.around(middle, spread)).collect();
        assert!(
            drawn
                .iter()
                .all(|d| (middle - spread..=middle + spread).contains(d))
        );
        assert!(drawn.iter().any(|d| *d < middle - spread / 2));
        assert!(drawn.iter().any(|d| *d > middle + spread / 2));
    }

    #[test]
    fn a_spread_wider_than_its_middle_is_cut_to_it() {
        let mut rng = Rng::new(2);
        let middle = Duration::from_millis(10);
        assert!((0..1000).all(|_| rng.around(middle, Duration::from_secs(9)) <= middle * 2));
    }
}
