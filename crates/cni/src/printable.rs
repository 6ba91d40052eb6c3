//! Text, made fit for a terminal or a log.

use std::borrow::Cow;

/// The text with everything escaped that could control a terminal, or make a line look like
/// another: control characters, line and paragraph separators, and marks that change the direction
/// of writing. A line feed becomes `\n`, an escape character `\u{1b}`.
///
/// Containers, servers and other programs choose names and messages, so each text that this process
/// shows must go through here. It need not be done where the text is made: the error document, the
/// warnings on stderr and the daemon's log do it for all of theirs.
///
/// The number that Rust appends to an error of the system, ` (os error 13)`, is left out: it tells a
/// reader nothing that the words before it do not.
pub fn printable(text: &str) -> Cow<'_, str> {
    match without_numbers(text) {
        Cow::Borrowed(text) => escaped(text),
        Cow::Owned(text) => Cow::Owned(escaped(&text).into_owned()),
    }
}

fn without_numbers(text: &str) -> Cow<'_, str> {
    const BEFORE: &str = " (os error ";
    let mut parts = text.split(BEFORE);
    let mut kept = Cow::Borrowed(parts.next().unwrap_or_default());
    for part in parts {
        let kept = kept.to_mut();
        let rest = part.trim_start_matches(|digit: char| digit.is_ascii_digit());
        match rest.strip_prefix(')') {
            Some(rest) if rest.len() + 1 < part.len() => kept.push_str(rest),
            _ => {
                kept.push_str(BEFORE);
                kept.push_str(part);
            }
        }
    }
    kept
}

fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unprintable) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match is_unprintable(character) {
            true => escaped.extend(character.escape_default()),
            false => escaped.push(character),
        }
    }
    Cow::Owned(escaped)
}

fn is_unprintable(character: char) -> bool {
    // Unicode's Bidi_Control characters (UAX #9), and its two separators.
    character.is_control()
        || matches!(
            character,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_controls_a_terminal_or_forges_a_line_is_escaped() {
        for (text, shown) in [
            ("\u{1b}[2J", r"\u{1b}[2J"),
            ("a\nb\r\tc", r"a\nb\r\tc"),
            ("\0\u{7}\u{8}\u{7f}", r"\u{0}\u{7}\u{8}\u{7f}"),
            ("\u{85}\u{9b}31m\u{9f}", r"\u{85}\u{9b}31m\u{9f}"),
            ("\u{202e}0hte\u{202c}", r"\u{202e}0hte\u{202c}"),
            (
                "\u{2066}\u{2069}\u{200f}\u{61c}",
                r"\u{2066}\u{2069}\u{200f}\u{61c}",
            ),
            ("\u{2028}\u{2029}", r"\u{2028}\u{2029}"),
        ] {
            assert_eq!(printable(text), shown);
        }
    }

    #[test]
    fn the_numbers_of_system_errors_are_left_out() {
        let denied = std::io::Error::from_raw_os_error(13);
        let text = format!("cannot open /a: {denied}; cannot open /b: {denied}\n");
        assert_eq!(
            printable(&text),
            r"cannot open /a: Permission denied; cannot open /b: Permission denied\n"
        );
        for text in ["a (os error )", "a (os error 1x)", "a (os error 1"] {
            assert_eq!(printable(text), text);
        }
    }

    #[test]
    fn ordinary_text_of_any_language_stays() {
        for text in ["", "eth0 is up", "Büro", "网络", "naïve – “quoted”", r"a\b"] {
            assert!(matches!(printable(text), Cow::Borrowed(same) if same == text));
        }
    }
}
