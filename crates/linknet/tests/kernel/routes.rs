//! Routes.

use std::net::IpAddr;

use ipnet::IpNet;
use linknet::{Netlink, NewAddress, Protocol, Route, RouteKind, Rule, Scope};

use crate::{Space, Test};

crate::tests![
    an_added_route_is_listed_with_all_its_properties,
    an_unreachable_gateway_is_refused_unless_it_is_declared_on_link,
    an_address_of_32_bits_reaches_its_gateway_through_a_host_route,
    a_default_route_needs_no_gateway,
    an_ipv4_route_can_have_an_ipv6_gateway,
    adding_a_route_twice_fails_because_it_exists_even_with_another_gateway,
    a_prepended_route_comes_before_those_with_the_same_metric,
    replacing_a_route_changes_its_gateway,
    deleting_a_route_twice_fails_because_it_is_absent,
    deleting_a_route_on_the_link_leaves_one_through_a_gateway,
    routes_that_differ_in_their_metric_coexist,
    bits_of_a_destination_beyond_its_prefix_do_not_count,
    a_route_over_several_hops_is_listed_once_per_hop,
    the_gateways_of_next_hop_objects_are_listed,
    destinations_that_the_host_refuses_to_reach_are_listed_apart,
    a_route_that_refuses_packets_is_added_and_deleted,
    only_the_routes_through_the_given_link_are_listed,
    only_the_routes_in_the_given_table_are_listed,
    a_list_that_is_too_long_ends_early_and_the_socket_goes_on,
    the_kernel_leaves_other_routes_out_of_a_list,
    as_many_objects_as_the_limit_allows_are_listed,
    only_the_routes_with_the_given_protocol_are_listed,
    route_get_returns_the_route_that_a_packet_takes,
    packets_from_a_rules_source_are_routed_by_its_table,
    adding_or_deleting_a_rule_twice_fails,
    a_rule_about_a_link_whose_name_is_not_utf_8_is_listed,
];

/// A protocol number that nothing else here uses.
const OURS: Protocol = Protocol(76);

fn net(text: &str) -> IpNet {
    text.parse().expect("a prefix")
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// A namespace with a link that has 10.99.0.5/24 and fd00::5/64, and the link's index.
fn space() -> Result<(Space, u32), libtest_mimic::Failed> {
    let space = Space::new()?;
    let index = space.plug("eth0")?.index;
    space
        .netlink
        .add_address(index, &NewAddress::new(net("10.99.0.5/24")))?;
    space.netlink.add_address(
        index,
        &NewAddress {
            nodad: true,
            ..NewAddress::new(net("fd00::5/64"))
        },
    )?;
    Ok((space, index))
}

fn an_added_route_is_listed_with_all_its_properties() -> Test {
    let (space, index) = space()?;
    let route = |dst: &str| Route {
        metric: 50,
        ..Route::new(net(dst), index)
    };
    let routes = [
        route("10.1.0.0/16"),
        route("0.0.0.0/0").via(ip("10.99.0.1")),
        Route {
            protocol: Protocol::DHCP,
            ..route("10.2.0.0/16").via(ip("10.99.0.1"))
        },
        Route {
            table: 100,
            ..route("10.3.0.0/16")
        },
        Route {
            table: 100_000,
            ..route("0.0.0.0/0").via(ip("10.99.0.1"))
        },
        Route {
            scope: Scope(254),
            ..route("10.4.0.0/16")
        },
        Route {
            scope: Scope(200),
            ..route("10.5.0.0/16").via(ip("10.99.0.1"))
        },
        Route {
            mtu: Some(1400),
            advmss: Some(1300),
            ..route("10.6.0.0/16").via(ip("10.99.0.1"))
        },
        Route {
            source: Some(ip("10.99.0.5")),
            ..route("10.7.0.1/32")
        },
        Route {
            onlink: true,
            ..route("10.8.0.0/16").via(ip("172.16.0.1"))
        },
        route("fd01::/64"),
        route("::/0").via(ip("fd00::1")),
        Route {
            protocol: Protocol(4),
            mtu: Some(1400),
            ..route("fd02::/64").via(ip("fd00::1"))
        },
        Route {
            table: 100,
            ..route("fd03::/64")
        },
        Route {
            source: Some(ip("fd00::5")),
            ..route("fd04::1/128")
        },
        Route {
            onlink: true,
            ..route("fd05::/64").via(ip("fd99::1"))
        },
    ];
    for route in &routes {
        space.netlink.add_route(route)?;
    }
    let listed = space.netlink.routes(None)?;
    for route in &routes {
        assert!(
            listed.contains(route),
            "{route:?}\nis not among\n{listed:#?}"
        );
    }
    Ok(())
}

fn an_unreachable_gateway_is_refused_unless_it_is_declared_on_link() -> Test {
    let (space, index) = space()?;
    for (dst, gateway) in [("10.1.0.0/16", "172.16.0.1"), ("fd01::/64", "fd99::1")] {
        let route = Route::new(net(dst), index).via(ip(gateway));
        let error = space.netlink.add_route(&route).expect_err("out of reach");
        assert!(!error.is_exists(), "{error}");
        assert!(
            error.kernel_text().is_some() || dst.contains(':'),
            "for IPv4 the kernel explains itself: {error}"
        );
        assert!(error.to_string().contains(gateway), "{error}");
        space.netlink.add_route(&Route {
            onlink: true,
            ..route
        })?;
    }
    Ok(())
}

fn an_address_of_32_bits_reaches_its_gateway_through_a_host_route() -> Test {
    let space = Space::new()?;
    let index = space.plug("eth0")?.index;
    space
        .netlink
        .add_address(index, &NewAddress::new(net("192.0.2.5/32")))?;
    space
        .netlink
        .add_route(&Route::new(net("192.0.2.1/32"), index))?;
    let default = Route::new(net("0.0.0.0/0"), index).via(ip("192.0.2.1"));
    space.netlink.add_route(&default)?;
    assert!(space.netlink.routes(Some(index))?.contains(&default));
    Ok(())
}

fn a_default_route_needs_no_gateway() -> Test {
    let (space, index) = space()?;
    for dst in ["0.0.0.0/0", "::/0"] {
        let route = Route {
            metric: 9,
            ..Route::new(net(dst), index)
        };
        space.netlink.add_route(&route)?;
        assert!(space.netlink.routes(Some(index))?.contains(&route), "{dst}");
    }
    Ok(())
}

fn an_ipv4_route_can_have_an_ipv6_gateway() -> Test {
    let (space, index) = space()?;
    let route = Route::new(net("10.1.0.0/16"), index).via(ip("fd00::1"));
    space.netlink.add_route(&route)?;
    assert!(space.netlink.routes(Some(index))?.contains(&route));
    Ok(())
}

fn adding_a_route_twice_fails_because_it_exists_even_with_another_gateway() -> Test {
    let (space, index) = space()?;
    let route = Route::new(net("0.0.0.0/0"), index).via(ip("10.99.0.1"));
    space.netlink.add_route(&route)?;
    for gateway in ["10.99.0.1", "10.99.0.2"] {
        let error = space
            .netlink
            .add_route(&route.clone().via(ip(gateway)))
            .expect_err("there already");
        assert!(error.is_exists(), "{error}");
    }
    let listed = space.netlink.routes(Some(index))?;
    assert!(listed.iter().any(|there| there.is_same(&route)));
    assert!(
        !listed
            .iter()
            .any(|there| there.is_same(&route.clone().via(ip("10.99.0.2"))))
    );
    Ok(())
}

fn a_prepended_route_comes_before_those_with_the_same_metric() -> Test {
    let (space, index) = space()?;
    for (dst, gateways) in [
        ("0.0.0.0/0", ["10.99.0.1", "10.99.0.2"]),
        ("::/0", ["fd00::1", "fd00::2"]),
    ] {
        let [older, newer] = gateways.map(|gateway| Route::new(net(dst), index).via(ip(gateway)));
        space.netlink.add_route(&older)?;
        space.netlink.prepend_route(&newer)?;
        for route in [&older, &newer] {
            let error = space.netlink.prepend_route(route).expect_err("the same");
            assert!(error.is_exists(), "{error}");
        }
        let listed = space.netlink.routes(Some(index))?;
        let place = |route: &Route| listed.iter().position(|listed| listed.is_same(route));
        assert!(
            place(&older).is_some() && place(&newer).is_some(),
            "{listed:#?}"
        );
        assert!(
            dst.contains(':') || place(&newer) < place(&older),
            "{listed:#?}"
        );
    }
    Ok(())
}

fn replacing_a_route_changes_its_gateway() -> Test {
    let (space, index) = space()?;
    for (dst, old, new) in [
        ("0.0.0.0/0", "10.99.0.1", "10.99.0.2"),
        ("::/0", "fd00::1", "fd00::2"),
    ] {
        let old = Route {
            metric: 7,
            ..Route::new(net(dst), index).via(ip(old))
        };
        let new = old.clone().via(ip(new));
        space.netlink.replace_route(&old)?;
        space.netlink.replace_route(&new)?;
        let listed = space.netlink.routes(Some(index))?;
        assert!(
            listed.contains(&new) && !listed.contains(&old),
            "{listed:#?}"
        );
    }
    Ok(())
}

fn deleting_a_route_twice_fails_because_it_is_absent() -> Test {
    let (space, index) = space()?;
    for (dst, gateway) in [("0.0.0.0/0", "10.99.0.1"), ("::/0", "fd00::1")] {
        let route = Route {
            table: 100,
            metric: 7,
            ..Route::new(net(dst), index).via(ip(gateway))
        };
        space.netlink.add_route(&route)?;
        space.netlink.delete_route(&route)?;
        assert!(!space.netlink.routes(None)?.contains(&route));
        let error = space.netlink.delete_route(&route).expect_err("gone");
        assert!(error.is_absent(), "{error}");
    }
    Ok(())
}

fn deleting_a_route_on_the_link_leaves_one_through_a_gateway() -> Test {
    let (space, index) = space()?;
    let on_link = Route::new(net("10.1.0.0/16"), index);
    let through = on_link.clone().via(ip("10.99.0.1"));
    space.netlink.add_route(&on_link)?;
    space.netlink.prepend_route(&through)?;
    space.netlink.delete_route(&on_link)?;
    let listed = space.netlink.routes(Some(index))?;
    assert!(
        listed.contains(&through) && !listed.contains(&on_link),
        "{listed:#?}"
    );
    assert!(through.competes_with(&on_link) && !through.is_same(&on_link));
    Ok(())
}

fn routes_that_differ_in_their_metric_coexist() -> Test {
    let (space, index) = space()?;
    let route = |metric| Route {
        metric,
        ..Route::new(net("10.1.0.0/16"), index)
    };
    space.netlink.add_route(&route(10))?;
    space.netlink.add_route(&route(20))?;
    space.netlink.delete_route(&route(20))?;
    let listed = space.netlink.routes(Some(index))?;
    assert!(listed.contains(&route(10)) && !listed.contains(&route(20)));
    assert!(!route(10).is_same(&route(20)));
    let v6 = |metric| Route {
        metric,
        ..Route::new(net("fd01::/64"), index)
    };
    assert!(v6(0).is_same(&v6(1024)));
    Ok(())
}

fn bits_of_a_destination_beyond_its_prefix_do_not_count() -> Test {
    let (space, index) = space()?;
    let route = Route {
        dst: net("10.1.2.3/16"),
        ..Route::new(net("10.1.0.0/16"), index)
    };
    space.netlink.add_route(&route)?;
    assert!(
        space
            .netlink
            .routes(Some(index))?
            .iter()
            .any(|there| there.is_same(&route))
    );
    Ok(())
}

fn a_route_over_several_hops_is_listed_once_per_hop() -> Test {
    let (space, index) = space()?;
    space.ip("route add default nexthop via 10.99.0.1 dev eth0 nexthop via 10.99.0.2 dev eth0")?;
    space.ip("route add fd01::/64 nexthop via fd00::1 dev eth0 nexthop via fd00::2 dev eth0")?;
    let listed = space.netlink.routes(Some(index))?;
    for (dst, gateways) in [
        ("0.0.0.0/0", ["10.99.0.1", "10.99.0.2"]),
        ("fd01::/64", ["fd00::1", "fd00::2"]),
    ] {
        for gateway in gateways {
            let route = Route::new(net(dst), index).via(ip(gateway));
            assert!(
                listed.iter().any(|there| there.is_same(&route)),
                "{route:?}\n{listed:#?}"
            );
        }
    }
    Ok(())
}

fn the_gateways_of_next_hop_objects_are_listed() -> Test {
    let (space, _) = space()?;
    assert_eq!(space.netlink.nexthop_gateways()?, [] as [IpAddr; 0]);
    space.ip("nexthop add id 1 via 10.99.0.1 dev eth0")?;
    space.ip("nexthop add id 2 via fd00::1 dev eth0")?;
    space.ip("nexthop add id 3 dev eth0")?;
    space.ip("link set lo up")?;
    space.ip("nexthop add id 4 blackhole")?;
    space.ip("nexthop add id 10 group 1/3")?;
    assert_eq!(
        space.netlink.nexthop_gateways()?,
        [ip("10.99.0.1"), ip("fd00::1")]
    );
    Ok(())
}

fn destinations_that_the_host_refuses_to_reach_are_listed_apart() -> Test {
    let (space, index) = space()?;
    let before = space.netlink.routes_and_refused()?;
    assert_eq!(before.0, space.netlink.routes(None)?);
    for (kind, dst) in [
        ("blackhole", "10.99.0.128/26"),
        ("unreachable", "10.99.0.90/32"),
        ("prohibit", "10.1.0.0/16"),
        ("blackhole", "fd00::80/121"),
    ] {
        space.ip(&format!("route add {kind} {dst} table 77 metric 5"))?;
        let (unicast, refused) = space.netlink.routes_and_refused()?;
        let is_it = |route: &Route| (route.dst, route.table, route.metric) == (net(dst), 77, 5);
        assert!(refused.iter().any(is_it), "{kind} {dst}: {refused:?}");
        assert_eq!(unicast, before.0);
    }
    let route = Route::new(net("10.1.0.0/16"), index);
    space.netlink.add_route(&route)?;
    assert!(space.netlink.routes_and_refused()?.0.contains(&route));
    Ok(())
}

fn a_route_that_refuses_packets_is_added_and_deleted() -> Test {
    let (space, index) = space()?;
    for (kind, dst, word) in [
        (RouteKind::Blackhole, "10.1.0.0/16", "blackhole"),
        (RouteKind::Unreachable, "10.99.0.90/32", "unreachable"),
        (RouteKind::Prohibit, "10.2.0.0/16", "prohibit"),
        (RouteKind::Blackhole, "fd00::80/121", "blackhole"),
        (RouteKind::Prohibit, "fd01::/64", "prohibit"),
    ] {
        let route = Route {
            metric: 5,
            protocol: OURS,
            ..Route::refusing(net(dst), kind)
        };
        let listed = || -> linknet::Result<Vec<Route>> {
            let (_, mut refused) = space.netlink.routes_and_refused()?;
            refused.retain(|it| it.protocol == OURS);
            Ok(refused)
        };
        space.netlink.add_route(&route)?;
        let found = listed()?;
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].kind == kind && found[0].competes_with(&route));
        // iproute2 finds one of this type.
        space.ip(&format!("route del {word} {dst} metric 5"))?;
        assert_eq!(listed()?, []);
        space.netlink.add_route(&route)?;
        let error = space.netlink.add_route(&route).expect_err("it exists");
        assert!(error.is_exists(), "{error}");
        assert!(error.to_string().contains(&format!("add route {word} ")));
        // A route that sends packets there is another one.
        let unicast = Route {
            metric: 6,
            ..Route::new(route.dst, index)
        };
        space.netlink.add_route(&unicast)?;
        space.netlink.delete_route(&found[0])?;
        assert_eq!(listed()?, []);
        assert!(
            space
                .netlink
                .routes(None)?
                .iter()
                .any(|it| it.is_same(&unicast))
        );
        let error = space
            .netlink
            .delete_route(&found[0])
            .expect_err("it is gone");
        assert!(error.is_absent(), "{error}");
    }
    Ok(())
}

fn only_the_routes_through_the_given_link_are_listed() -> Test {
    let (space, index) = space()?;
    let other = space.plug("eth1")?.index;
    space
        .netlink
        .add_route(&Route::new(net("10.1.0.0/16"), other))?;
    assert!(
        space
            .netlink
            .routes(Some(index))?
            .iter()
            .all(|route| route.index == index)
    );
    let both = space.netlink.routes(None)?;
    assert!(
        [index, other]
            .iter()
            .all(|index| both.iter().any(|route| route.index == *index))
    );
    let error = space
        .netlink
        .routes(Some(999_999))
        .expect_err("no such link");
    assert!(error.is_absent(), "{error}");
    Ok(())
}

fn only_the_routes_in_the_given_table_are_listed() -> Test {
    let (space, index) = space()?;
    let routes = ["10.1.0.1/32", "fd01::1/128"].map(|dst| Route::new(net(dst), index));
    for (route, table) in routes.iter().zip([100, 1000]) {
        space.netlink.add_route(route)?;
        space.netlink.add_route(&Route {
            table,
            ..route.clone()
        })?;
    }
    // Each table exists for one family only, or for none.
    for (table, expected) in [
        (100, vec![routes[0].dst]),
        (1000, vec![routes[1].dst]),
        (7, vec![]),
    ] {
        let found = space.netlink.routes_in_table(table)?;
        assert_eq!(
            found.iter().map(|it| it.dst).collect::<Vec<_>>(),
            expected,
            "{table}"
        );
    }
    let main = space.netlink.routes_in_table(Route::MAIN)?;
    let has = |wanted: &Route| main.iter().any(|it| it.dst == wanted.dst);
    assert!(routes.iter().all(has) && main.iter().all(|it| it.table == Route::MAIN));
    Ok(())
}

/// More routes than the kernel lists in a few datagrams.
fn add_many_routes(space: &Space, index: u32) -> Test {
    for host in 0..5000u32 {
        let dst = IpAddr::V4((0x0ac8_0000 + host).into());
        space
            .netlink
            .add_route(&Route::new(IpNet::from(dst), index))?;
    }
    Ok(())
}

fn a_list_that_is_too_long_ends_early_and_the_socket_goes_on() -> Test {
    let (space, index) = space()?;
    add_many_routes(&space, index)?;
    let limited = Netlink::open_in(&space.netns)?.limited(100);
    let ours = Route {
        protocol: OURS,
        ..Route::new(net("10.1.0.0/16"), index)
    };
    for _ in 0..2 {
        let error = limited.routes(Some(index)).expect_err("too many");
        assert!(error.is_too_many(), "{error}");
        let expected = "list routes: there are more than 100 of them (E2BIG";
        assert!(error.to_string().starts_with(expected), "{error}");
        limited.add_route(&ours)?;
        assert!(limited.link_by_index(index)?.is_some());
        assert_eq!(limited.addresses(index)?, space.netlink.addresses(index)?);
        assert_eq!(limited.routes_with_protocol(OURS)?.len(), 1);
        limited.delete_route(&ours)?;
    }
    Ok(())
}

fn the_kernel_leaves_other_routes_out_of_a_list() -> Test {
    let (space, other) = space()?;
    add_many_routes(&space, other)?;
    let index = space.plug("eth1")?.index;
    let ours = Route {
        protocol: OURS,
        table: 100,
        ..Route::new(net("10.1.0.0/16"), index)
    };
    space.netlink.add_route(&ours)?;
    // It counts what the kernel lists.
    let limited = Netlink::open_in(&space.netns)?.limited(100);
    assert!(limited.routes(None).is_err_and(|error| error.is_too_many()));
    assert!(limited.routes(Some(index))?.contains(&ours));
    assert_eq!(limited.routes_in_table(100)?, std::slice::from_ref(&ours));
    assert_eq!(limited.routes_with_protocol(OURS)?, [ours]);
    Ok(())
}

fn as_many_objects_as_the_limit_allows_are_listed() -> Test {
    let (space, index) = space()?;
    let addresses = space.netlink.addresses(index)?;
    let limited = |max| Netlink::open_in(&space.netns).map(|it| it.limited(max));
    let there = addresses.len();
    assert_eq!(limited(there)?.addresses(index)?, addresses);
    let error = limited(there - 1)?.addresses(index).expect_err("too many");
    assert!(error.is_too_many(), "{error}");
    // The kernel's own: three for IPv4, two for IPv6.
    assert_eq!(limited(3)?.rules()?, space.netlink.rules()?);
    let error = limited(2)?.rules().expect_err("too many");
    assert!(error.is_too_many(), "{error}");
    Ok(())
}

fn only_the_routes_with_the_given_protocol_are_listed() -> Test {
    let (space, index) = space()?;
    for dst in ["10.1.0.1/32", "fd01::1/128"] {
        let ours = Route {
            protocol: OURS,
            metric: 7,
            ..Route::new(net(dst), index)
        };
        space.netlink.add_route(&ours)?;
        space.netlink.add_route(&Route {
            protocol: Protocol(4),
            metric: 8,
            ..ours
        })?;
    }
    let found = space.netlink.routes_with_protocol(OURS)?;
    assert_eq!(
        found.iter().map(|route| route.metric).collect::<Vec<_>>(),
        [7, 7]
    );
    assert!(
        space
            .netlink
            .routes_with_protocol(Protocol::DHCP)?
            .is_empty()
    );
    Ok(())
}

fn route_get_returns_the_route_that_a_packet_takes() -> Test {
    let (space, index) = space()?;
    let netlink = &space.netlink;
    for to in ["192.0.2.7", "2001:db8::7"] {
        assert_eq!(netlink.route_get(ip(to))?, None, "{to}");
    }
    assert_eq!(
        netlink.route_get(ip("10.99.0.5"))?,
        None,
        "the host's own address"
    );
    for (dst, gateway) in [("192.0.2.0/24", "10.99.0.1"), ("2001:db8::/32", "fd00::1")] {
        netlink.add_route(&Route::new(net(dst), index).via(ip(gateway)))?;
    }
    for (to, gateway, source) in [
        ("192.0.2.7", Some("10.99.0.1"), "10.99.0.5"),
        ("10.99.0.7", None, "10.99.0.5"),
        ("2001:db8::7", Some("fd00::1"), "fd00::5"),
        ("fd00::7", None, "fd00::5"),
    ] {
        let found = netlink.route_get(ip(to))?.ok_or("no route")?;
        assert_eq!((found.dst, found.index), (IpNet::from(ip(to)), index));
        assert_eq!(
            (found.gateway, found.source),
            (gateway.map(ip), Some(ip(source))),
            "{to}"
        );
    }
    Ok(())
}

fn packets_from_a_rules_source_are_routed_by_its_table() -> Test {
    let (space, index) = space()?;
    let netlink = &space.netlink;
    netlink.add_route(&Route::new(net("192.0.2.0/24"), index).via(ip("10.99.0.1")))?;
    netlink.add_route(&Route {
        table: 1007,
        ..Route::new(net("192.0.2.0/24"), index).via(ip("10.99.0.2"))
    })?;
    // The kernel takes a new rule without a source for identical to one that has a source, if they
    // have everything else in common. Hence the other priority.
    let rules = [
        ("10.99.0.5/32", 32000),
        ("fd00::5/128", 32000),
        ("0.0.0.0/0", 32001),
    ]
    .map(|(from, priority)| Rule {
        from: net(from),
        table: 1007,
        priority,
        protocol: OURS,
    });
    for rule in &rules {
        netlink.add_rule(rule)?;
    }
    let listed = netlink.rules()?;
    for rule in &rules {
        assert!(listed.contains(rule), "{rule:?}\nis not among\n{listed:#?}");
    }
    assert!(
        listed
            .iter()
            .any(|rule| rule.table == Route::MAIN && rule.priority == 32766),
        "{listed:?}"
    );
    assert_eq!(
        netlink
            .route_get(ip("192.0.2.7"))?
            .and_then(|route| route.gateway),
        Some(ip("10.99.0.2"))
    );
    Ok(())
}

fn adding_or_deleting_a_rule_twice_fails() -> Test {
    let space = Space::new()?;
    let rule = Rule {
        from: net("10.99.0.5/32"),
        table: 100,
        priority: 32000,
        protocol: OURS,
    };
    space.netlink.add_rule(&rule)?;
    assert!(
        space
            .netlink
            .add_rule(&rule)
            .is_err_and(|error| error.is_exists())
    );
    space.netlink.delete_rule(&rule)?;
    let error = space.netlink.delete_rule(&rule).unwrap_err();
    assert!(
        error.is_absent()
            && error
                .to_string()
                .starts_with("delete rule from 10.99.0.5/32 lookup 100: "),
        "{error}"
    );
    Ok(())
}

fn a_rule_about_a_link_whose_name_is_not_utf_8_is_listed() -> Test {
    let space = Space::new()?;
    space.ip(b"rule add from 10.99.0.5 iif i\xff oif o\xff lookup 77")?;
    let rules = space.netlink.rules()?;
    let listed = rules.iter().find(|rule| rule.table == 77);
    assert_eq!(
        listed.map(|rule| rule.from.to_string()).as_deref(),
        Some("10.99.0.5/32")
    );
    Ok(())
}
