//! Routes.

use ipnet::IpNet;
use libc::{RTM_DELROUTE, RTM_GETROUTE, RTM_NEWROUTE};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{
    RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteProtocol, RouteScope, RouteType,
    RouteVia,
};

use super::*;

fn route_message(family: AddressFamily, prefix: u8) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family;
    message.header.destination_prefix_length = prefix;
    message
}

#[test]
fn two_routes_are_the_same_whatever_the_kernel_ignores_in_them() {
    for (dst, ignores_scope) in [("10.1.0.0/16", false), ("fd01::/64", true)] {
        let route = Route {
            metric: 7,
            ..Route::new(net(dst), LINK)
        };
        let with_metric = |metric| Route {
            metric,
            ..route.clone()
        };
        let others = Route {
            protocol: Protocol::DHCP,
            ..route.clone()
        };
        assert!(route.is_same(&others) && route.competes_with(&others));
        let of_the_site = Route {
            scope: Scope(200),
            ..route.clone()
        };
        assert_eq!(route.is_same(&of_the_site), ignores_scope, "{dst}");
        assert!(route.competes_with(&of_the_site));
        let through_another = Route {
            index: LINK + 1,
            ..route.clone()
        };
        assert!(!route.is_same(&through_another) && route.competes_with(&through_another));
        let in_another_table = Route {
            table: 100,
            ..route.clone()
        };
        for elsewhere in [in_another_table, with_metric(8)] {
            assert!(!route.is_same(&elsewhere) && !route.competes_with(&elsewhere));
        }
        // IPv6 has no metric 0.
        let is_same = with_metric(0).is_same(&with_metric(1024));
        assert_eq!(is_same, dst.contains(':'), "{dst}");
        assert!(!route.is_same(&with_metric(1024)));
    }
}

#[test]
fn a_route_on_the_link_goes_into_the_main_table() {
    let mut message = route_message(AddressFamily::Inet, 16);
    message.header.kind = RouteType::Unicast;
    message.header.protocol = RouteProtocol::Boot;
    message.header.scope = RouteScope::Link;
    message.attributes = vec![
        RouteAttribute::Destination(ip("10.1.0.0").into()),
        RouteAttribute::Oif(LINK),
        RouteAttribute::Table(254),
    ];
    let route = Route {
        dst: net("10.1.2.3/16"), // the bits beyond the prefix do not count
        ..Route::new(net("10.1.0.0/16"), LINK)
    };
    assert_eq!(
        sent(|netlink| netlink.add_route(&route)),
        request(RTM_NEWROUTE, CREATE, &message)
    );
    assert_eq!(
        sent(|netlink| netlink.prepend_route(&route)),
        request(RTM_NEWROUTE, PREPEND, &message)
    );
    assert_eq!(
        sent(|netlink| netlink.replace_route(&route)),
        request(RTM_NEWROUTE, REPLACE, &message)
    );
}

#[test]
fn a_route_can_have_a_router_a_metric_a_table_a_source_and_limits() {
    for (family, dst, prefix, gateway, source) in [
        (
            AddressFamily::Inet,
            "10.1.0.0",
            16,
            "10.99.0.1",
            "10.99.0.5",
        ),
        (AddressFamily::Inet6, "fd01::", 64, "fd00::1", "fd00::5"),
    ] {
        for table in [77, 100_000] {
            let dst = ip(dst);
            let route = Route {
                metric: 50,
                table,
                protocol: Protocol::DHCP,
                source: Some(ip(source)),
                mtu: Some(1400),
                advmss: Some(1300),
                onlink: true,
                ..Route::new(IpNet::new(dst, prefix).expect("a prefix"), LINK).via(ip(gateway))
            };
            let mut message = route_message(family, prefix);
            message.header.kind = RouteType::Unicast;
            message.header.protocol = RouteProtocol::Dhcp;
            message.header.flags = RouteFlags::Onlink;
            message.attributes = vec![
                RouteAttribute::Destination(dst.into()),
                RouteAttribute::Oif(LINK),
                RouteAttribute::Table(table),
                RouteAttribute::Priority(50),
                RouteAttribute::Gateway(ip(gateway).into()),
                RouteAttribute::PrefSource(ip(source).into()),
                RouteAttribute::Metrics(vec![RouteMetric::Mtu(1400), RouteMetric::Advmss(1300)]),
            ];
            assert_eq!(
                sent(|netlink| netlink.add_route(&route)),
                request(RTM_NEWROUTE, CREATE, &message)
            );
        }
    }
}

#[test]
fn a_default_route_has_no_destination() {
    for (family, dst) in [
        (AddressFamily::Inet, "0.0.0.0/0"),
        (AddressFamily::Inet6, "::/0"),
    ] {
        let mut message = route_message(family, 0);
        message.header.kind = RouteType::Unicast;
        message.header.protocol = RouteProtocol::Boot;
        message.attributes = vec![RouteAttribute::Oif(LINK), RouteAttribute::Table(254)];
        let route = Route {
            scope: Scope::UNIVERSE,
            ..Route::new(net(dst), LINK)
        };
        assert_eq!(
            sent(|netlink| netlink.add_route(&route)),
            request(RTM_NEWROUTE, CREATE, &message)
        );
    }
}

#[test]
fn an_ipv6_router_of_an_ipv4_route_is_sent_with_its_family() {
    let mut message = route_message(AddressFamily::Inet, 16);
    message.header.kind = RouteType::Unicast;
    message.header.protocol = RouteProtocol::Boot;
    message.attributes = vec![
        RouteAttribute::Destination(ip("10.1.0.0").into()),
        RouteAttribute::Oif(LINK),
        RouteAttribute::Table(254),
        RouteAttribute::Via(RouteVia::Inet6([0xfd00, 0, 0, 0, 0, 0, 0, 1].into())),
    ];
    let route = Route::new(net("10.1.0.0/16"), LINK).via(ip("fd00::1"));
    assert_eq!(
        sent(|netlink| netlink.add_route(&route)),
        request(RTM_NEWROUTE, CREATE, &message)
    );
}

#[test]
fn an_ipv6_route_with_an_ipv4_router_is_refused_without_asking_the_kernel() {
    let netlink = Netlink::open().expect("a netlink socket");
    let route = Route::new(net("fd01::/64"), LINK).via(ip("10.99.0.1"));
    let error = netlink.add_route(&route).unwrap_err();
    assert!(error.is_invalid(), "{error}");
    assert!(error.to_string().contains("10.99.0.1 cannot be"), "{error}");
}

#[test]
fn a_route_is_deleted_whatever_its_protocol() {
    let mut message = route_message(AddressFamily::Inet, 16);
    message.header.scope = RouteScope::Universe;
    message.attributes = vec![
        RouteAttribute::Destination(ip("10.1.0.0").into()),
        RouteAttribute::Oif(LINK),
        RouteAttribute::Table(77),
        RouteAttribute::Priority(50),
        RouteAttribute::Gateway(ip("10.99.0.1").into()),
    ];
    let route = Route {
        metric: 50,
        table: 77,
        protocol: Protocol::DHCP,
        source: Some(ip("10.99.0.5")),
        mtu: Some(1400),
        onlink: true,
        ..Route::new(net("10.1.0.0/16"), LINK).via(ip("10.99.0.1"))
    };
    assert_eq!(
        sent(|netlink| netlink.delete_route(&route)),
        request(RTM_DELROUTE, SET, &message)
    );
}

#[test]
fn unicast_routes_are_asked_for_family_by_family_with_the_kernels_filter() {
    let mut message = route_message(AddressFamily::Inet, 0);
    message.header.kind = RouteType::Unicast;
    assert_eq!(
        sent(|netlink| netlink.routes(None)),
        request(RTM_GETROUTE, DUMP, &message)
    );
    message.header.protocol = RouteProtocol::Dhcp;
    assert_eq!(
        sent(|netlink| netlink.routes_with_protocol(Protocol::DHCP)),
        request(RTM_GETROUTE, DUMP, &message)
    );
    message.header.protocol = RouteProtocol::Unspec;
    message.attributes = vec![RouteAttribute::Oif(LINK)];
    assert_eq!(
        sent(|netlink| netlink.routes(Some(LINK))),
        request(RTM_GETROUTE, DUMP, &message)
    );
}

#[test]
fn a_route_is_looked_up_by_the_address_alone() {
    for (family, to, prefix) in [
        (AddressFamily::Inet, "192.0.2.7", 32),
        (AddressFamily::Inet6, "2001:db8::7", 128),
    ] {
        let mut message = route_message(family, prefix);
        message.attributes = vec![RouteAttribute::Destination(ip(to).into())];
        assert_eq!(
            sent(|netlink| netlink.route_get(ip(to))),
            request(RTM_GETROUTE, GET, &message)
        );
    }
}
