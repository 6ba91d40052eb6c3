//! Names of hosts and domains: made valid on the way out, checked on the way in.

/// The longest label (RFC 1035 section 2.3.4).
const MAX_LABEL: usize = 63;
/// The longest domain name in text, without its final dot (RFC 1035 section 2.3.4).
const MAX_NAME: usize = 253;

/// A host name (RFC 952, RFC 1123) as near to `name` as can be: one label of letters, digits and
/// inner hyphens, at most 63 long. `None` when nothing of it is left.
///
/// Dots become hyphens like everything else that is not allowed: a server takes what follows a dot
/// for a domain, and some (dnsmasq) then refuse the name.
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
        .take(MAX_LABEL)
        .collect();
    let label = label.trim_end_matches('-');
    (!label.is_empty()).then(|| label.to_owned())
}

/// The body of option 81 (RFC 4702) for a name: complete where it has a dot, otherwise one for the
/// server to complete. The server is asked to enter the address in DNS. `None` if it is no domain
/// name.
///
/// A client that sends this one must not send option 12 as well (RFC 4702 section 3.1).
pub fn fqdn(name: &str) -> Option<Vec<u8>> {
    /// S, "the server shall update A", and E, "in the encoding of RFC 1035" (RFC 4702 section 2.1).
    const FLAGS: u8 = 0b0101;
    /// RCODE1 and RCODE2, which mean nothing in a client's message (section 2.2).
    const RCODES: [u8; 2] = [0, 0];
    let plain = domain_name(name)?;
    let mut body = vec![FLAGS];
    body.extend(RCODES);
    for label in plain.split('.') {
        body.push(label.len() as u8); // 63 at most
        body.extend(label.bytes());
    }
    // Section 2.3.1: a partial name has no root at its end.
    if name.contains('.') {
        body.push(0);
    }
    Some(body)
}

/// A domain name from the network, without its final dot; `None` unless every label is made of
/// letters, digits, hyphens and underscores. Names go into files and other programs' input, so
/// nothing else gets past here.
pub(crate) fn domain_name(name: &str) -> Option<String> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let valid = name.len() <= MAX_NAME && name.split('.').all(is_label);
    valid.then(|| name.to_owned())
}

fn is_label(label: &str) -> bool {
    (1..=MAX_LABEL).contains(&label.len())
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
    fn names_of_pods_and_containers_become_one_label() {
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
    fn nothing_valid_leaves_nothing() {
        for name in ["", "-", "...", "日本"] {
            assert_eq!(hostname(name), None, "{name}");
        }
    }

    #[test]
    fn a_name_in_option_81_is_complete_if_it_has_a_dot() {
        assert_eq!(fqdn("web").as_deref(), Some(&b"\x05\0\0\x03web"[..]));
        assert_eq!(fqdn("web.").as_deref(), Some(&b"\x05\0\0\x03web\0"[..]));
        assert_eq!(
            fqdn("web.lan.example").as_deref(),
            Some(&b"\x05\0\0\x03web\x03lan\x07example\0"[..])
        );
        assert_eq!(fqdn("no name"), None);
    }

    #[test]
    fn domain_names_are_taken_or_left_whole() {
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
