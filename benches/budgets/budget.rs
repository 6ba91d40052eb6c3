//! The file of budgets, and its comparison with what was measured.

use std::fmt;

use lab::Result;
use lab::anyhow::Context;

/// What may grow until somebody asks why, in percent.
const TOLERANCE: u64 = 3;

/// How much of something there is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Budget {
    amount: u64,
    what: String,
}

impl Budget {
    pub(crate) fn new(amount: u64, what: String) -> Budget {
        Budget { amount, what }
    }
}

/// A line for each budget: the amount, then what it is of.
pub(crate) fn read(text: &str) -> Result<Vec<Budget>> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let budget = |line: &str| {
        let (amount, what) = line.trim().split_once(' ')?;
        Some(Budget::new(amount.parse().ok()?, what.to_owned()))
    };
    lines
        .map(|line| budget(line).with_context(|| format!("not a budget: {line:?}")))
        .collect()
}

pub(crate) fn write(budgets: &[Budget]) -> String {
    let mut text =
        "# Written by LEASEHOLD_WRITE_BUDGETS=1 cargo bench --bench budgets\n".to_owned();
    for Budget { amount, what } in budgets {
        text += &format!("{amount:>9} {what}\n");
    }
    text
}

/// What became of a budget.
pub(crate) struct Verdict {
    what: String,
    budget: Option<u64>,
    amount: Option<u64>,
}

/// Compares each budget with what was measured, by what it is of.
pub(crate) fn compare(budgets: &[Budget], measured: &[Budget]) -> Vec<Verdict> {
    let amount_in = |list: &[Budget], what: &str| {
        let found = list.iter().find(|budget| budget.what == what);
        found.map(|budget| budget.amount)
    };
    let gone = budgets
        .iter()
        .filter(|budget| amount_in(measured, &budget.what).is_none());
    measured
        .iter()
        .chain(gone)
        .map(|Budget { what, .. }| Verdict {
            what: what.clone(),
            budget: amount_in(budgets, what),
            amount: amount_in(measured, what),
        })
        .collect()
}

impl Verdict {
    /// Whether there is a budget for what was measured, and it is kept.
    pub(crate) fn is_kept(&self) -> bool {
        match (self.budget, self.amount) {
            (Some(budget), Some(amount)) => amount * 100 <= budget * (100 + TOLERANCE),
            _ => false,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |amount: Option<u64>| amount.map_or("-".to_owned(), |it| it.to_string());
        let (budget, amount) = (number(self.budget), number(self.amount));
        write!(f, "{budget:>9} -> {amount:>9}  {}", self.what)?;
        match (self.budget, self.amount) {
            (Some(_), Some(_)) if self.is_kept() => Ok(()),
            (Some(budget), Some(amount)) => {
                let growth = (amount - budget) as f64 * 100.0 / budget as f64;
                write!(
                    f,
                    "  TOO MUCH: {growth:.1} % more, and {TOLERANCE} % are allowed"
                )
            }
            (None, _) => write!(f, "  NO BUDGET"),
            (_, None) => write!(f, "  NOT MEASURED"),
        }
    }
}
