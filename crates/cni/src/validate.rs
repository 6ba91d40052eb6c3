//! Names, by the rules of the specification and of the kernel. Each function returns what is wrong,
//! to be put after the name of the variable or field.

/// Container IDs and network names: `^[A-Za-z0-9][A-Za-z0-9_.-]*$` (spec §1 and §2).
pub(crate) fn identifier(text: &str) -> Result<(), String> {
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
            "{text:?} holds {bad:?}; allowed are letters, digits, '_', '.' and '-'"
        )),
        None => Ok(()),
    }
}

/// Interface names (spec §2 CNI_IFNAME, and the kernel's `dev_valid_name`).
pub(crate) fn interface_name(name: &str) -> Result<(), String> {
    /// IFNAMSIZ without its terminating NUL.
    const MAX_LEN: usize = 15;
    if name.is_empty() {
        return Err("is empty".to_owned());
    }
    if name.len() > MAX_LEN {
        return Err(format!("{name:?} is longer than {MAX_LEN} bytes"));
    }
    if name == "." || name == ".." {
        return Err(format!("{name:?} is no name for an interface"));
    }
    for byte in name.bytes() {
        let bad = match byte {
            b'/' => "'/'",
            b':' => "':'",
            0 => "a NUL",
            // The kernel would number the interface: "eth%d" becomes eth0, which is not the name
            // asked for.
            b'%' => "'%'",
            // The kernel's isspace() is Latin-1: it takes 0xa0 (in "à", for one) for a no-break
            // space.
            b' ' | b'\t'..=b'\r' | 0xa0 => "white space",
            _ => continue,
        };
        return Err(format!("{name:?} holds {bad}"));
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
