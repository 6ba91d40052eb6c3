//! Validation of names. An error says what is wrong as a predicate ("is empty"), which the caller
//! puts after the name of the variable or field.

/// Validates a container ID or a network's name: `^[A-Za-z0-9][A-Za-z0-9_.-]*$` (spec §1 and §2).
pub(super) fn identifier(text: &str) -> Result<(), String> {
    let Some(first) = text.chars().next() else {
        return Err("is empty".to_owned());
    };
    if !first.is_ascii_alphanumeric() {
        return Err(format!(
            "{text:?} starts with {first:?}, not with a letter or digit"
        ));
    }
    match text
        .chars()
        .find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')))
    {
        Some(bad) => Err(format!(
            "{text:?} contains {bad:?}; allowed are letters, digits, '_', '.' and '-'"
        )),
        None => Ok(()),
    }
}

/// Validates an interface's name by the rules of the specification (§2, CNI_IFNAME) and of the
/// kernel (`dev_valid_name`).
pub(super) fn interface_name(name: &str) -> Result<(), String> {
    /// IFNAMSIZ without its terminating NUL.
    const MAX_LEN: usize = 15;
    if name.is_empty() {
        return Err("is empty".to_owned());
    }
    if name.len() > MAX_LEN {
        return Err(format!("{name:?} is longer than {MAX_LEN} bytes"));
    }
    // In /proc/sys/net, "all" and "default" stand for no interface.
    if [".", "..", "all", "default"].contains(&name) {
        return Err(format!(
            "{name:?} is not allowed as the name of an interface"
        ));
    }
    for byte in name.bytes() {
        let bad = match byte {
            b'/' => "'/'",
            b':' => "':'",
            0 => "a NUL",
            // The kernel fills in a number: "eth%d" becomes eth0, which is not the name that the
            // runtime asked for.
            b'%' => "'%'",
            // The kernel's isspace() assumes Latin-1, in which 0xa0 is a no-break space. In UTF-8
            // it is the second byte of "à", among others.
            b' ' | b'\t'..=b'\r' | 0xa0 => "white space",
            _ => continue,
        };
        return Err(format!("{name:?} contains {bad}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_follow_the_specification() {
        for good in ["a", "0", "c33749c7f8446b4b", "pod_1.x-y", "A..--__"] {
            assert_eq!(identifier(good), Ok(()), "{good:?}");
        }
        for bad in ["", ".", "-a", "_a", "a/b", "a b", "a\n", "á", "a;b"] {
            assert!(identifier(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn interface_names_follow_the_specification_and_the_kernel() {
        for good in [
            "eth0",
            "a",
            "net1.100",
            "...",
            "fifteen-letters",
            "@home",
            "ü",
        ] {
            assert_eq!(interface_name(good), Ok(()), "{good:?}");
        }
        for bad in [
            "",
            ".",
            "..",
            "all",
            "default",
            "sixteen-letters-",
            "a/b",
            "a:b",
            "a b",
            "a\tb",
            "a\u{b}b",
            "eth%d",
            "à",
            "üüüüüüüü",
        ] {
            assert!(interface_name(bad).is_err(), "{bad:?}");
        }
    }
}
