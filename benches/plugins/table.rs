//! The table that is printed: a line for each step, with the times of all who did it.

use std::time::Duration;

/// The times of one side, a list for each of the steps that make up a round.
pub(crate) type Samples<const N: usize> = [Vec<Duration>; N];

/// Who did the steps, besides us.
#[derive(Clone, Copy)]
pub(crate) struct Table {
    /// Whether there are other plugins.
    pub(crate) has_others: bool,
}

impl Table {
    pub(crate) fn print_head(self) {
        print!("{:<28}  {:>27}", "median (min to max), in ms", "ours");
        if self.has_others {
            print!("  {:>27}  faster", "others");
        }
        println!("  {:>21}  ours/floor  rounds", "floor");
    }

    /// A line for each step: each side's times, how many times faster the first is, and the least
    /// that the step can take, which is known of some.
    pub(crate) fn print<const N: usize>(
        self,
        labels: [&str; N],
        sides: &[Samples<N>],
        floor: &Samples<N>,
    ) {
        for (step, label) in labels.iter().enumerate() {
            let stats: Vec<Stats> = sides
                .iter()
                .filter_map(|side| Stats::of(&side[step]))
                .collect();
            print!("{label:<28}");
            for Stats { median, min, max } in &stats {
                print!("  {:>27}", format!("{median:.2} ({min:.2} to {max:.2})"));
            }
            let ours = stats.first();
            match stats.as_slice() {
                [ours, others] => print!("  {:>5.1}×", others.median / ours.median),
                [_] if self.has_others => print!("  {:27}  {:6}", "", ""),
                [] if self.has_others => print!("  {:27}  {:27}  {:6}", "", "", ""),
                [] => print!("  {:27}", ""),
                _ => {}
            }
            let floor = Stats::of(&floor[step]);
            let of_floor = floor.as_ref().map_or_else(String::new, |it| {
                format!("{:.2} (min {:.2})", it.median, it.min)
            });
            let times = match (ours, &floor) {
                (Some(ours), Some(floor)) => format!("{:.1}×", ours.median / floor.median),
                _ => String::new(),
            };
            print!("  {of_floor:>21}  {times:>10}");
            let rounds = sides.first().map_or(0, |side| side[step].len());
            println!(
                "  {:>6}",
                if rounds > 0 {
                    rounds.to_string()
                } else {
                    String::new()
                }
            );
        }
    }
}

/// In milliseconds.
struct Stats {
    median: f64,
    min: f64,
    max: f64,
}

impl Stats {
    /// Of at least one sample.
    fn of(samples: &[Duration]) -> Option<Stats> {
        let mut sorted: Vec<f64> = samples
            .iter()
            .map(|time| time.as_secs_f64() * 1000.0)
            .collect();
        sorted.sort_by(f64::total_cmp);
        Some(Stats {
            median: sorted.get(sorted.len() / 2).copied()?,
            min: *sorted.first()?,
            max: *sorted.last()?,
        })
    }
}
