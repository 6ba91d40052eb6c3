//! The names of options in ISC's `dhcp-options(5)`, and their codes.

/// Finds the code of an option by its name or by its code in decimal: `routers` or `3`.
///
/// ```
/// use dhcp4::names;
/// assert_eq!(names::code("dhcp-client-identifier"), Some(61));
/// assert_eq!(names::code("61"), Some(61));
/// ```
pub fn code(name: &str) -> Option<u8> {
    match NAMES.iter().find(|(_, known)| *known == name) {
        Some((code, _)) => Some(*code),
        // Checked first because `u8::from_str` also accepts "+3". 0 and 255 are padding and the end
        // mark (RFC 2132 section 3), not options.
        None if name.bytes().all(|digit| digit.is_ascii_digit()) => {
            name.parse().ok().filter(|code| !matches!(code, 0 | 255))
        }
        None => None,
    }
}

/// Codes and names in the order of the codes. An option that `dhcp-options(5)` does not list has
/// the name from its RFC, in the same style. A code may have several names.
const NAMES: &[(u8, &str)] = &[
    (1, "subnet-mask"),
    (2, "time-offset"),
    (3, "routers"),
    (4, "time-servers"),
    (5, "ien116-name-servers"),
    (6, "domain-name-servers"),
    (7, "log-servers"),
    (8, "cookie-servers"),
    (9, "lpr-servers"),
    (10, "impress-servers"),
    (11, "resource-location-servers"),
    (12, "host-name"),
    (13, "boot-size"),
    (14, "merit-dump"),
    (15, "domain-name"),
    (16, "swap-server"),
    (17, "root-path"),
    (18, "extensions-path"),
    (19, "ip-forwarding"),
    (20, "non-local-source-routing"),
    (21, "policy-filter"),
    (22, "max-dgram-reassembly"),
    (23, "default-ip-ttl"),
    (24, "path-mtu-aging-timeout"),
    (25, "path-mtu-plateau-table"),
    (26, "interface-mtu"),
    (27, "all-subnets-local"),
    (28, "broadcast-address"),
    (29, "perform-mask-discovery"),
    (30, "mask-supplier"),
    (31, "router-discovery"),
    (32, "router-solicitation-address"),
    (33, "static-routes"),
    (34, "trailer-encapsulation"),
    (35, "arp-cache-timeout"),
    (36, "ieee802-3-encapsulation"),
    (37, "default-tcp-ttl"),
    (38, "tcp-keepalive-interval"),
    (39, "tcp-keepalive-garbage"),
    (40, "nis-domain"),
    (41, "nis-servers"),
    (42, "ntp-servers"),
    (43, "vendor-encapsulated-options"),
    (44, "netbios-name-servers"),
    (45, "netbios-dd-server"),
    (46, "netbios-node-type"),
    (47, "netbios-scope"),
    (48, "font-servers"),
    (49, "x-display-manager"),
    (50, "dhcp-requested-address"),
    (51, "dhcp-lease-time"),
    (52, "dhcp-option-overload"),
    (53, "dhcp-message-type"),
    (54, "dhcp-server-identifier"),
    (55, "dhcp-parameter-request-list"),
    (56, "dhcp-message"),
    (57, "dhcp-max-message-size"),
    (58, "dhcp-renewal-time"),
    (59, "dhcp-rebinding-time"),
    (60, "vendor-class-identifier"),
    (61, "dhcp-client-identifier"),
    (62, "nwip-domain"),
    (63, "nwip-suboptions"),
    (64, "nisplus-domain"),
    (65, "nisplus-servers"),
    (66, "tftp-server-name"),
    (67, "bootfile-name"),
    (68, "mobile-ip-home-agent"),
    (69, "smtp-server"),
    (70, "pop-server"),
    (71, "nntp-server"),
    (72, "www-server"),
    (73, "finger-server"),
    (74, "irc-server"),
    (75, "streettalk-server"),
    (76, "streettalk-directory-assistance-server"),
    (77, "user-class"),
    (78, "slp-directory-agent"),
    (79, "slp-service-scope"),
    (80, "rapid-commit"),
    (81, "fqdn"),
    (82, "relay-agent-information"),
    (85, "nds-servers"),
    (86, "nds-tree-name"),
    (87, "nds-context"),
    (88, "bcms-controller-names"),
    (89, "bcms-controller-address"),
    (90, "authentication"),
    (91, "client-last-transaction-time"),
    (92, "associated-ip"),
    (93, "pxe-system-type"),
    (94, "pxe-interface-id"),
    (97, "pxe-client-id"),
    (98, "uap-servers"),
    (99, "geoconf-civic"),
    (100, "pcode"),
    (101, "tcode"),
    (108, "v6-only-preferred"),
    (112, "netinfo-server-address"),
    (113, "netinfo-server-tag"),
    (114, "default-url"),
    (114, "v4-captive-portal"),
    (116, "auto-config"),
    (117, "name-service-search"),
    (118, "subnet-selection"),
    (119, "domain-search"),
    (120, "sip-servers"),
    (121, "classless-static-routes"),
    (121, "rfc3442-classless-static-routes"),
    (122, "cablelabs-client-configuration"),
    (123, "geoconf"),
    (124, "vivco"),
    (125, "vivso"),
    (136, "pana-agent"),
    (137, "v4-lost"),
    (138, "capwap-ac-v4"),
    (139, "mos-address"),
    (140, "mos-fqdn"),
    (141, "sip-ua-cs-domains"),
    (142, "andsf-address"),
    (143, "sztp-redirect"),
    (144, "geoloc"),
    (145, "forcerenew-nonce-capable"),
    (146, "rdnss-selection"),
    (147, "v4-dots-ri"),
    (148, "v4-dots-address"),
    (150, "tftp-server-address"),
    (151, "status-code"),
    (152, "base-time"),
    (153, "start-time-of-state"),
    (154, "query-start-time"),
    (155, "query-end-time"),
    (156, "dhcp-state"),
    (157, "data-source"),
    (158, "v4-pcp-server"),
    (159, "v4-portparams"),
    (161, "mud-url"),
    (162, "v4-dnr"),
    (208, "pxelinux-magic"),
    (209, "loader-configfile"),
    (210, "loader-pathprefix"),
    (211, "loader-reboottime"),
    (212, "option-6rd"),
    (213, "v4-access-domain"),
    (220, "subnet-allocation"),
    (221, "virtual-subnet-selection"),
    (249, "ms-classless-static-routes"),
    (252, "wpad"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_leads_to_its_code() {
        for (known, name) in NAMES {
            assert_eq!(code(name), Some(*known), "{name}");
        }
        assert!(NAMES.is_sorted_by_key(|(code, _)| *code));
    }

    #[test]
    fn a_code_in_decimal_is_accepted_unless_it_is_no_option() {
        assert_eq!(code("121"), Some(121));
        assert_eq!(code("224"), Some(224));
        for text in ["0", "255", "256", "-1", "+3", " 3", "", "router"] {
            assert_eq!(code(text), None, "{text:?}");
        }
    }

    #[test]
    fn every_option_that_the_codec_knows_has_a_name() {
        // The codec itself cannot be asked here, because only `wire` may use it. These are the
        // codes that it does not report as unknown.
        let known = (1..=77).chain([
            80, 81, 82, 88, 89, 91, 92, 93, 94, 97, 100, 101, 114, 116, 118, 119, 121,
        ]);
        for code in known.chain(150..=157) {
            assert!(NAMES.iter().any(|(named, _)| *named == code), "{code}");
        }
    }
}
