//! Times the tasks whose instructions `budgets` counts, which need no kernel: for changes to parsing,
//! conversion or the DHCP client.

#[path = "budgets/tasks.rs"]
#[allow(dead_code, reason = "budgets runs them under valgrind")]
mod tasks;

use divan::Bencher;

use tasks::Task;

fn main() {
    divan::main();
}

#[divan::bench(args = tasks::ALL)]
fn task(bencher: Bencher<'_, '_>, task: &Task) {
    bencher.bench_local(task.prepare());
}
