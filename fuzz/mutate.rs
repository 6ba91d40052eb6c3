// Inputs like those of a corpus, for the tests that replay it on stable Rust: a fuzzer finds more,
// and is not run on every change.

/// How many mutations of each input are served.
const MUTATIONS: u64 = 1_000;

/// Serves the input, and inputs with a few of its octets changed: always the same ones.
///
/// # Panics
/// If `serve` does. The input is printed before.
pub(crate) fn serve_and_mutate(input: &[u8], serve: fn(&[u8])) {
    serve(input);
    for seed in 0..MUTATIONS {
        let mutated = mutate(input, &mut Random(seed));
        let outcome = std::panic::catch_unwind(|| serve(&mutated));
        assert!(outcome.is_ok(), "{}", mutated.escape_ascii());
    }
}

fn mutate(input: &[u8], random: &mut Random) -> Vec<u8> {
    const WORDS: [&[u8]; 10] = [
        b"-1",
        b"0",
        b"1e400",
        b"null",
        b"true",
        b"[]",
        b"{}",
        b"\"\\u0000\"",
        b"\xff",
        b"4294967296",
    ];
    let mut octets = input.to_vec();
    for _ in 0..=random.below(3) {
        let at = random.below(octets.len() + 1);
        let end = (at + random.below(9)).min(octets.len());
        let piece = octets[at..end].to_vec();
        match random.below(5) {
            0 => drop(octets.drain(at..end)),
            1 => drop(octets.splice(at..at, piece)),
            2 => drop(octets.splice(at..end, WORDS[random.below(WORDS.len())].iter().copied())),
            3 => octets.insert(at, random.below(256) as u8),
            _ => octets
                .iter_mut()
                .skip(at)
                .take(1)
                .for_each(|octet| *octet ^= 1 << random.below(8)),
        }
    }
    octets
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((word ^ (word >> 31)) % limit.max(1) as u64) as usize
    }
}
