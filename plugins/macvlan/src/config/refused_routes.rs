//! `refusedRoutes`.

use attachment::{PROTOCOL, parse_prefix};
use linknet::{Route, RouteKind};
use serde::Deserialize;
use serde::de::{self, Deserializer};

/// An entry of the list.
#[derive(Deserialize)]
pub(super) struct RefusedRoute {
    dst: Destination,
    #[serde(rename = "type", default)]
    kind: Kind,
    #[serde(default)]
    priority: u32,
}

struct Destination(ipnet::IpNet);

/// How packets are refused, as `ip route` calls it.
#[derive(Deserialize, Default)]
#[serde(rename_all = "lowercase")]
enum Kind {
    #[default]
    Blackhole,
    Unreachable,
    Prohibit,
}

impl From<RefusedRoute> for Route {
    fn from(refused: RefusedRoute) -> Route {
        let kind = match refused.kind {
            Kind::Blackhole => RouteKind::Blackhole,
            Kind::Unreachable => RouteKind::Unreachable,
            Kind::Prohibit => RouteKind::Prohibit,
        };
        Route {
            metric: refused.priority,
            protocol: PROTOCOL,
            ..Route::refusing(refused.dst.0, kind)
        }
    }
}

impl<'de> Deserialize<'de> for Destination {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Destination, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_prefix(&text).map(Destination).ok_or_else(|| {
            de::Error::custom(format_args!("{text:?} is not a prefix such as 10.0.0.0/8"))
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn route(value: Value) -> Result<String, String> {
        serde_json::from_value::<RefusedRoute>(value)
            .map(Route::from)
            .map(|route| format!("{} {} metric {}", route.kind, route.dst, route.metric))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn an_entry_is_a_destination_and_how_it_is_refused() {
        for (value, expected) in [
            (
                json!({ "dst": "10.0.0.0/8" }),
                "blackhole 10.0.0.0/8 metric 0",
            ),
            (
                json!({ "dst": "fd00::1", "type": "prohibit", "priority": 7 }),
                "prohibit fd00::1/128 metric 7",
            ),
            (
                json!({ "dst": "0.0.0.0/0", "type": "unreachable" }),
                "unreachable 0.0.0.0/0 metric 0",
            ),
        ] {
            assert_eq!(route(value).as_deref(), Ok(expected));
        }
        for (value, words) in [
            (json!({}), "dst"),
            (json!({ "dst": "there" }), "\"there\" is not a prefix"),
            (json!({ "dst": "10.0.0.0/8", "type": "unicast" }), "unicast"),
        ] {
            let error = route(value).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
