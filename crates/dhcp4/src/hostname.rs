//! Names of hosts and domains: made valid before they are sent, checked when they are received.

/// The longest label, in octets (RFC 1035 section 2.3.4).
const MAX_LABEL_LEN: usize = 63;
/// The longest domain name as text without its final dot, in octets (RFC 1035 section 2.3.4).
const MAX_NAME_LEN: usize = 253;

/// Turns `name` into a valid host name (RFC 952, RFC 1123): one label of letters, digits and inner
/// hyphens, at most 63 octets long. `None` if no valid character is left.
///
/// A dot becomes a hyphen, as does any other character that is not allowed. Servers take the part
/// after a dot for a domain, and some (dnsmasq) then refuse the name.
///
/// ```
/// assert_eq!(dhcp4::hostname("web_1.prod").as_deref(), Some("web-1-prod"));
/// assert_eq!(dhcp4::hostname("__").as_deref(), None);
/// ```
pub fn hostname(name: &str) -> Option<String> {
    let label: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .skip_while(|&c| c == '-')
        .take(MAX_LABEL_LEN)
        .collect();
    let label = label.trim_end_matches('-');
    (!label.is_empty()).then(|| label.to_owned())
}

/// Makes the body of option 81 (RFC 4702), which asks the server to register the name in DNS. A
/// name with a dot is complete; the server completes any other. `None` if `name` is not a valid
/// domain name.
///
/// A client that sends option 81 must not send option 12 (RFC 4702 section 3.1).
pub fn fqdn(name: &str) -> Option<Vec<u8>> {
    /// S asks the server to update the A record; E says that the name is encoded as in RFC 1035
    /// (RFC 4702 section 2.1).
    const FLAGS: u8 = 0b0101;
    /// RCODE1 and RCODE2, which a client sets to zero (section 2.2).
    const RCODES: [u8; 2] = [0, 0];
    let plain = domain_name(name)?;
    let mut body = vec![FLAGS];
    body.extend(RCODES);
    for label in plain.split('.') {
        body.push(label.len() as u8); // 63 at most
        body.extend(label.bytes());
    }
    // Section 2.3.1: a partial name does not end in the root label.
    if name.contains('.') {
        body.push(0);
    }
    Some(body)
}

/// Checks a domain name and removes its final dot. `None` unless every label consists of letters,
/// digits, hyphens and underscores: names end up in files and in other programs' input.
pub(crate) fn domain_name(name: &str) -> Option<String> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let valid = name.len() <= MAX_NAME_LEN && name.split('.').all(is_label);
    valid.then(|| name.to_owned())
}

fn is_label(label: &str) -> bool {
    (1..=MAX_LABEL_LEN).contains(&label.len())
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label
            .bytes()
            .all(|octet| octet.is_ascii_alphanumeric() || octet == b'-' || octet == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_becomes_a_single_valid_label() {
        for (name, expected) in [
            ("web-0", "web-0"),
            ("my_container", "my-container"),
            ("a.b.c", "a-b-c"),
            ("-x-", "x"),
            ("Größe", "Gr--e"),
        ] {
            assert_eq!(hostname(name).as_deref(), Some(expected), "{name}");
        }
    }

    #[test]
    fn a_long_name_is_cut_without_leaving_a_hyphen_at_its_end() {
        let name = format!("{}-tail", "a".repeat(62));
        assert_eq!(hostname(&name), Some("a".repeat(62)));
        assert_eq!(
            hostname(&"b".repeat(300)).map(|label| label.len()),
            Some(63)
        );
    }

    #[test]
    fn a_name_without_a_valid_character_gives_no_host_name() {
        for name in ["", "-", "...", "日本"] {
            assert_eq!(hostname(name), None, "{name}");
        }
    }

    #[test]
    fn option_81_marks_a_name_with_a_dot_as_complete() {
        assert_eq!(fqdn("web").as_deref(), Some(&b"\x05\0\0\x03web"[..]));
        assert_eq!(fqdn("web.").as_deref(), Some(&b"\x05\0\0\x03web\0"[..]));
        assert_eq!(
            fqdn("web.lan.example").as_deref(),
            Some(&b"\x05\0\0\x03web\x03lan\x07example\0"[..])
        );
        assert_eq!(fqdn("no name"), None);
    }

    #[test]
    fn a_domain_name_with_any_invalid_part_is_refused() {
        for good in [
            "example.com",
            "example.com.",
            "a",
            "_tcp.x",
            "1.2.3.4",
            "xn--bcher-kva.example",
        ] {
            assert_eq!(
                domain_name(good).as_deref(),
                Some(good.trim_end_matches('.')),
                "{good}"
            );
        }
        let long_label = "a".repeat(64);
        let long_name = ["abcdefghi"; 26].join(".");
        for bad in [
            "",
            ".",
            "a..b",
            ".a",
            "a b",
            "a;b",
            "$(x)",
            "a\nb",
            "-a",
            "a-",
            "ä.de",
            &long_label,
            &long_name,
        ] {
            assert_eq!(domain_name(bad), None, "{bad:?}");
        }
    }
}
