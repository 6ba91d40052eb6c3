//! How long an ADD takes while every processor is busy.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use lab::{Node, Result};

use crate::side::Side;
use crate::times::{milliseconds, percentile};

/// Attaches a container `rounds` times while a thread for each processor does nothing but compute,
/// and prints the median and the 99th percentile.
pub(crate) fn measure(side: &Side, host: &Node, container: &Node, rounds: usize) -> Result {
    let processors = thread::available_parallelism()?.get();
    let is_over = AtomicBool::new(false);
    let visits = thread::scope(|scope| {
        for _ in 0..processors {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    spin_loop();
                }
            });
        }
        let visits: Result<Vec<_>> = (0..rounds).map(|_| side.visit(host, container)).collect();
        is_over.store(true, Ordering::Relaxed);
        visits
    })?;
    let [p50, p99] = [50, 99].map(|percent| percentile(visits.clone(), percent));
    println!(
        "while {processors} processors are busy: ADD takes {:.2} ms (p50) and {:.2} ms (p99), ratio {:.2}",
        milliseconds(p50),
        milliseconds(p99),
        p99.div_duration_f64(p50)
    );
    Ok(())
}
