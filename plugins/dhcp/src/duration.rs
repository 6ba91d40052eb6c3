//! Durations in Go's form (`2s`, `1m30s`, `1.5h`), which the daemon's flags share with the Go
//! daemon's.

use std::time::Duration;

/// Units of Go's `time.ParseDuration`, in nanoseconds.
const UNITS: [(&str, f64); 8] = [
    ("ns", 1.0),
    ("us", 1e3),
    ("µs", 1e3),
    ("μs", 1e3),
    ("ms", 1e6),
    ("s", 1e9),
    ("m", 60e9),
    ("h", 3600e9),
];

/// Parses a non-negative Go duration: one or more decimal numbers, each with its unit, or a bare
/// `0`.
///
/// # Errors
/// What is wrong with `text`. No flag has a use for a negative duration.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest.is_empty() {
        return Err("empty duration; write for example 10s or 1m30s".into());
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let letters = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let number: f64 = number
            .parse()
            .map_err(|_| format!("{text:?} is not a duration such as 10s or 1m30s"))?;
        let (_, nanoseconds) = UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .ok_or_else(|| {
                format!("duration {text:?} has no unit (ns, us, ms, s, m, h) after {number}")
            })?;
        total += number * nanoseconds;
        rest = tail;
    }
    Duration::try_from_secs_f64(total / 1e9).map_err(|_| format!("duration {text:?} is too long"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_durations_are_understood() {
        for (text, milliseconds) in [
            ("0", 0),
            ("10s", 10_000),
            ("1m30s", 90_000),
            ("1.5h", 5_400_000),
            ("300ms", 300),
            ("+2s", 2_000),
            (".5s", 500),
        ] {
            assert_eq!(
                parse(text),
                Ok(Duration::from_millis(milliseconds)),
                "{text}"
            );
        }
    }

    #[test]
    fn an_error_about_any_other_text_says_that_it_is_a_duration() {
        for text in [
            "",
            "+",
            "10",
            "s",
            "10 s",
            "-2s",
            "1d",
            "1..5s",
            "∞",
            "99999999999999999999h",
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains("duration"), "{error}");
        }
    }
}
