use std::time::Duration;

use serde_json::{Value, json};

use super::*;

/// A lease of 10.0.0.5/24, with these options.
fn lease(options: Options) -> Lease {
    Lease {
        address: [10, 0, 0, 5].into(),
        prefix_len: 24,
        server_id: [10, 0, 0, 1].into(),
        requested_at: Instant::BOOT + Duration::from_secs(100),
        lifetime: Some(Duration::from_secs(60)),
        t1: None,
        t2: None,
        options,
    }
}

/// What a home router sends: itself as the router, and a route through another one.
fn home_lease() -> Lease {
    lease(Options {
        routers: vec![[10, 0, 0, 1].into()],
        static_routes: vec![server_route("192.168.7.0/24", Some("10.0.0.9"))],
        dns: vec![[10, 0, 0, 1].into()],
        domain: Some("home.example".to_owned()),
        search: vec!["home.example".to_owned()],
        ..Options::default()
    })
}

fn classless(routes: Vec<dhcp4::Route>) -> Lease {
    lease(Options {
        routers: vec![[10, 0, 0, 1].into()],
        classless_routes: routes,
        ..Options::default()
    })
}

fn server_route(dst: &str, gateway: Option<&str>) -> dhcp4::Route {
    let gateway = gateway.map(|gateway| gateway.parse().expect("an address"));
    dhcp4::Route {
        dst: dst.parse().expect("a network"),
        gateway,
    }
}

/// Lease parameters with these keys, as they are sent.
fn params(keys: Value) -> LeaseParams {
    let mut params = json!({ "clientId": "none", "request": [], "announce": true });
    params
        .as_object_mut()
        .expect("an object")
        .extend(keys.as_object().expect("an object").clone());
    serde_json::from_value(params).expect("valid parameters")
}

fn text(routes: &[Route]) -> Vec<String> {
    let one = |route: &Route| match route.gw {
        Some(gateway) if !gateway.is_unspecified() => format!("{} via {gateway}", route.dst),
        Some(_) => route.dst.to_string(),
        None => format!("{} without a gateway", route.dst),
    };
    routes.iter().map(one).collect()
}

fn routes_of(lease: &Lease, keys: Value) -> Vec<String> {
    text(&routes(lease, &params(keys)))
}

#[test]
fn the_gateway_is_that_of_the_default_route() {
    let gateway = |lease: &Lease, keys| result(lease, &params(keys), Instant::BOOT).ips[0].gateway;
    let address = |text: &str| Some(text.parse::<IpAddr>().expect("an address"));
    assert_eq!(gateway(&home_lease(), json!({})), address("10.0.0.1"));
    let other = classless(vec![server_route("0.0.0.0/0", Some("10.0.0.2"))]);
    assert_eq!(gateway(&other, json!({})), address("10.0.0.2"), "RFC 3442");
    assert_eq!(
        gateway(
            &classless(vec![server_route("10.9.0.0/16", Some("10.0.0.2"))]),
            json!({})
        ),
        None
    );
    assert_eq!(
        gateway(&home_lease(), json!({ "suppress": ["gateway"] })),
        None
    );
}

#[test]
fn suppressed_parts_of_the_answer_are_not_used() {
    let home = home_lease();
    assert_eq!(
        routes_of(&home, json!({})),
        ["192.168.7.0/24 via 10.0.0.9", "0.0.0.0/0 via 10.0.0.1"]
    );
    assert_eq!(
        routes_of(&home, json!({ "suppress": ["gateway"] })),
        ["192.168.7.0/24 via 10.0.0.9"]
    );
    assert_eq!(
        routes_of(&home, json!({ "suppress": ["routes"] })),
        ["0.0.0.0/0 via 10.0.0.1"]
    );
    assert_eq!(
        routes_of(&home, json!({ "suppress": ["routes", "gateway"] })),
        [""; 0]
    );
    let modern = classless(vec![
        server_route("192.168.8.0/24", Some("10.0.0.9")),
        server_route("0.0.0.0/0", Some("10.0.0.2")),
    ]);
    assert_eq!(
        routes_of(&modern, json!({ "suppress": ["gateway"] })),
        ["192.168.8.0/24 via 10.0.0.9"]
    );
    assert_eq!(
        routes_of(&modern, json!({ "suppress": ["routes"] })),
        ["0.0.0.0/0 via 10.0.0.2"]
    );
    let dns = |keys| result(&home, &params(keys), Instant::BOOT).dns;
    assert_eq!(dns(json!({})).domain, "home.example");
    assert!(dns(json!({ "suppress": ["dns"] })).is_empty());
}

#[test]
fn classless_routes_replace_the_others_even_if_they_are_suppressed_themselves() {
    let lease = classless(vec![server_route("0.0.0.0/0", Some("10.0.0.2"))]);
    assert_eq!(
        routes_of(&lease, json!({ "suppress": ["gateway"] })),
        [""; 0]
    );
}

/// The kernel accepts a gateway only if the route to it has a narrower scope, and a plugin that
/// delegates to this one may add the routes as they are.
#[test]
fn a_route_without_a_gateway_has_the_scope_of_the_link() {
    let lease = classless(vec![
        server_route("169.254.1.1/32", None),
        server_route("0.0.0.0/0", Some("169.254.1.1")),
        server_route("192.168.7.0/24", Some("192.0.2.1")),
    ]);
    let keys = json!({ "routes": [
        { "dst": "10.8.0.0/16", "gw": "0.0.0.0" },
        { "dst": "10.9.0.0/16", "scope": 254 },
        { "dst": "fd99:8::/32", "gw": "::" },
    ] });
    let scopes: Vec<_> = routes(&lease, &params(keys))
        .into_iter()
        .map(|route| (route.dst.to_string(), route.scope))
        .collect();
    let expected = [
        ("169.254.1.1/32", Some(253)),
        ("0.0.0.0/0", None),
        ("192.0.2.1/32", Some(253)),
        ("192.168.7.0/24", None),
        ("10.8.0.0/16", Some(253)),
        ("10.9.0.0/16", Some(254)),
        ("fd99:8::/32", None),
    ];
    assert_eq!(scopes, expected.map(|(dst, scope)| (dst.to_owned(), scope)));
}

#[test]
fn a_suppressed_gateway_takes_the_route_to_it_along() {
    let lease = classless(vec![server_route("0.0.0.0/0", Some("192.0.2.1"))]);
    assert_eq!(
        routes_of(&lease, json!({})),
        ["192.0.2.1/32", "0.0.0.0/0 via 192.0.2.1"]
    );
    assert_eq!(
        routes_of(&lease, json!({ "suppress": ["gateway"] })),
        [""; 0]
    );
}

#[test]
fn a_configured_route_replaces_the_servers_and_goes_through_its_router() {
    let keys = json!({ "routes": [
        { "dst": "192.168.7.0/24", "gw": "10.0.0.8" },
        { "dst": "172.16.0.0/12" },
        { "dst": "10.8.0.0/16", "gw": "0.0.0.0" },
        { "dst": "10.9.0.0/16", "scope": 253 },
    ] });
    assert_eq!(
        routes_of(&home_lease(), keys),
        [
            "0.0.0.0/0 via 10.0.0.1",
            "192.168.7.0/24 via 10.0.0.8",
            "172.16.0.0/12 via 10.0.0.1",
            "10.8.0.0/16",
            "10.9.0.0/16",
        ]
    );
    let alone =
        json!({ "suppress": ["gateway", "routes"], "routes": [{ "dst": "172.16.0.0/12" }] });
    assert_eq!(
        routes_of(&home_lease(), alone),
        ["172.16.0.0/12 via 10.0.0.1"]
    );
}

#[test]
fn the_destination_of_a_configured_route_is_a_network() {
    let keys = json!({ "routes": [{ "dst": "10.20.30.40/16", "gw": "10.0.0.9" }] });
    let routes = routes_of(&lease(Options::default()), keys);
    assert_eq!(routes, ["10.20.0.0/16 via 10.0.0.9"]);
}

#[test]
fn a_configured_route_to_where_no_router_forwards_is_on_the_link() {
    let keys = json!({ "routes": [
        { "dst": "10.0.0.128/25" },
        { "dst": "169.254.169.254/32" },
        { "dst": "224.0.0.0/4" },
        { "dst": "10.0.0.64/26", "gw": "10.0.0.9" },
    ], "suppress": ["gateway", "routes"] });
    assert_eq!(
        routes_of(&home_lease(), keys),
        [
            "10.0.0.128/25",
            "169.254.169.254/32",
            "224.0.0.0/4",
            "10.0.0.64/26 via 10.0.0.9",
        ]
    );
}

#[test]
fn a_configured_gateway_out_of_reach_gets_an_on_link_route_first() {
    let keys = json!({ "routes": [
        { "dst": "172.16.0.0/12", "gw": "192.0.2.1" },
        { "dst": "10.9.0.0/16", "gw": "192.0.2.1" },
        { "dst": "10.9.0.0/16", "gw": "192.0.2.1", "table": 100 },
        { "dst": "fd00::/8", "gw": "fe80::1" },
    ] });
    let lease = lease(Options::default());
    assert_eq!(
        routes_of(&lease, keys),
        [
            "192.0.2.1/32",
            "172.16.0.0/12 via 192.0.2.1",
            "10.9.0.0/16 via 192.0.2.1",
            "10.9.0.0/16 via 192.0.2.1",
            "fd00::/8 via fe80::1",
        ]
    );
}

#[test]
fn a_route_without_a_metric_gets_that_of_the_network() {
    let keys = json!({ "priority": 100, "routes": [
        { "dst": "172.16.0.0/12" },
        { "dst": "10.9.0.0/16", "priority": 5, "mtu": 1400, "advmss": 1300, "table": 7 },
    ] });
    let routes = routes(&home_lease(), &params(keys));
    let metrics: Vec<_> = routes.iter().map(|route| route.priority).collect();
    assert_eq!(metrics, [Some(100), Some(100), Some(100), Some(5)]);
    let last = &routes[3];
    assert_eq!(
        (last.mtu, last.advmss, last.table),
        (Some(1400), Some(1300), Some(7))
    );
}

#[test]
fn the_lifetime_is_the_rest_of_the_lease_rounded_up() {
    let lease = home_lease();
    let after = |time: Duration| lifetime(&lease, lease.requested_at + time);
    assert_eq!(after(Duration::ZERO), Some(60));
    assert_eq!(after(Duration::from_millis(100)), Some(60));
    assert_eq!(after(Duration::from_secs(59)), Some(1));
    assert_eq!(
        lifetime(
            &Lease {
                lifetime: None,
                ..lease.clone()
            },
            lease.requested_at
        ),
        None
    );
}

#[test]
fn a_result_has_the_servers_routes_and_resolvers() {
    let result = result(&home_lease(), &params(json!({})), Instant::BOOT);
    assert_eq!(result.routes.len(), 2);
    assert_eq!(result.dns.nameservers, ["10.0.0.1"]);
    assert_eq!(result.dns.domain, "home.example");
    assert_eq!(result.dns.search, ["home.example"]);
}

#[test]
fn a_lease_that_the_kernel_cannot_count_lasts_as_long_as_it_can() {
    let mut lease = home_lease();
    lease.lifetime = Some(Duration::from_secs(1 << 40));
    // The greatest number means for ever.
    assert_eq!(lifetime(&lease, lease.requested_at), Some(u32::MAX - 1));
}

#[test]
fn only_a_router_is_reported_as_the_gateway() {
    let reported = |gateway: &str| {
        let params = params(json!({ "routes": [{ "dst": "0.0.0.0/0", "gw": gateway }] }));
        result(&lease(Options::default()), &params, Instant::BOOT).ips[0].gateway
    };
    assert_eq!(reported("10.0.0.9"), Some([10, 0, 0, 9].into()));
    assert_eq!(reported("0.0.0.0"), None, "the route is on the link");
    assert_eq!(reported("fe80::1"), None, "of another family");
}

#[test]
fn a_suppressed_gateway_is_that_of_a_static_route_too() {
    let server = lease(Options {
        static_routes: vec![
            server_route("0.0.0.0/0", Some("10.0.0.9")),
            server_route("192.168.7.0/24", Some("10.0.0.9")),
        ],
        ..Options::default()
    });
    let used = used(&server, &params(json!({ "suppress": ["gateway"] })));
    assert_eq!(
        used.options.static_routes,
        server.options.static_routes[1..]
    );
}
