//! What a user can ask for one container (CONVENTIONS.md). There are three places for it:
//! `runtimeConfig` overrides `args.cni`, and both override CNI_ARGS.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Map, Value};

use crate::error::{Error, code};
use crate::go;
use crate::invalid::Invalid;
use crate::request::Request;

/// How the keys in CNI_ARGS begin that tell which pod the container belongs to.
const RUNTIME_PREFIX: &str = "K8S_POD_";

impl Request {
    /// The MAC address that the user asks for, as text: `runtimeConfig.mac`, else `args.cni.mac`,
    /// else `MAC` in CNI_ARGS.
    ///
    /// # Errors
    /// [`code::INVALID_NETWORK_CONFIG`] if a field is not a string.
    pub fn requested_mac(&self) -> Result<Option<&str>, Error> {
        for (object, path) in self.user_fields() {
            let mac = go::text(object, "mac").map_err(|invalid| invalid.under(path))?;
            if !mac.is_empty() {
                return Ok(Some(mac));
            }
        }
        Ok(self.nonempty_arg("MAC"))
    }

    /// The IP addresses that the user asks for: `runtimeConfig.ips`, else `args.cni.ips`, else `IP`
    /// in CNI_ARGS. An address may be written with the length of its prefix, which is dropped.
    ///
    /// # Errors
    /// [`code::INVALID_NETWORK_CONFIG`] or [`code::INVALID_ENVIRONMENT`] if a value is not an
    /// address.
    pub fn requested_ips(&self) -> Result<Vec<IpAddr>, Error> {
        for (object, path) in self.user_fields() {
            let Some(value) = go::get(object, "ips") else {
                continue;
            };
            let ips = ip_list(value).map_err(|invalid| invalid.under("ips").under(path))?;
            if !ips.is_empty() {
                return Ok(ips);
            }
        }
        let text = self.args.get("IP").unwrap_or_default();
        let parts = text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty());
        let ips: Option<Vec<IpAddr>> = parts.map(ip).collect();
        ips.ok_or_else(|| {
            Error::new(
                code::INVALID_ENVIRONMENT,
                format!("invalid CNI_ARGS: IP={text} is not an IP address"),
            )
        })
    }

    /// A value that the user gives one container under a key of their own: in `args.cni`, where
    /// Multus puts what a pod's annotation says, else in CNI_ARGS. An empty one counts as absent.
    /// What the runtime says of a pod (`K8S_POD_…`) overrides what the pod says.
    ///
    /// # Errors
    /// [`code::INVALID_NETWORK_CONFIG`] if it is not a text.
    pub fn user_arg(&self, key: &str) -> Result<Option<&str>, Error> {
        let by_runtime = self.nonempty_arg(key);
        if key.starts_with(RUNTIME_PREFIX) && by_runtime.is_some() {
            return Ok(by_runtime);
        }
        let text = match self.config.cni_args.get(key) {
            None | Some(Value::Null) => "",
            Some(Value::String(text)) => text,
            Some(other) => {
                let invalid = Invalid::unexpected("a text", other);
                return Err(invalid.under(key).under("args.cni").into_config_error());
            }
        };
        Ok(Some(text).filter(|text| !text.is_empty()).or(by_runtime))
    }

    /// The name that the runtime gave the container (`K8S_POD_NAME` in CNI_ARGS). Kubernetes sends
    /// the pod's name, Podman the container's. What the user says in `args.cni` counts only where
    /// the runtime says nothing, so that no container can take the name of another.
    pub fn container_name(&self) -> Option<&str> {
        self.named_by_runtime("K8S_POD_NAME")
    }

    /// The pod's namespace in Kubernetes (`K8S_POD_NAMESPACE`, as in
    /// [`container_name`](Request::container_name)).
    pub fn pod_namespace(&self) -> Option<&str> {
        self.named_by_runtime("K8S_POD_NAMESPACE")
    }

    fn named_by_runtime(&self, key: &str) -> Option<&str> {
        let by_user = || self.config.cni_args.get(key).and_then(Value::as_str);
        self.nonempty_arg(key)
            .or_else(|| by_user().filter(|value| !value.is_empty()))
    }

    fn nonempty_arg(&self, key: &str) -> Option<&str> {
        self.args.get(key).filter(|value| !value.is_empty())
    }

    /// The objects in the configuration that a user can fill, with their paths. The first overrides
    /// the second.
    fn user_fields(&self) -> [(&Map<String, Value>, &'static str); 2] {
        [
            (&self.config.runtime_config, "runtimeConfig"),
            (&self.config.cni_args, "args.cni"),
        ]
    }
}

fn ip_list(value: &Value) -> Result<Vec<IpAddr>, Invalid> {
    let items = value
        .as_array()
        .ok_or_else(|| Invalid::unexpected("a list", value))?;
    let read_one = |(i, item): (usize, &Value)| {
        let address = item.as_str().and_then(ip);
        address.ok_or_else(|| Invalid::unexpected("an IP address", item).at(i))
    };
    items.iter().enumerate().map(read_one).collect()
}

fn ip(text: &str) -> Option<IpAddr> {
    text.parse()
        .ok()
        .or_else(|| text.parse().ok().map(|net: IpNet| net.addr()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::request::{Env, KnownArgs};

    fn request(config: Value, args: &str) -> Request {
        let mut stdin: Map<String, Value> = serde_json::from_value(config).unwrap();
        stdin.insert("name".to_owned(), "lan".into());
        let env: Env = [
            ("CNI_COMMAND", "ADD"),
            ("CNI_CONTAINERID", "c1"),
            ("CNI_NETNS", "/run/netns/c1"),
            ("CNI_IFNAME", "eth0"),
            ("CNI_ARGS", args),
        ]
        .into_iter()
        .collect();
        Request::parse(
            &env,
            Value::from(stdin).to_string().as_bytes(),
            KnownArgs::Any,
        )
        .unwrap()
    }

    #[test]
    fn runtime_config_overrides_args_cni_and_both_override_cni_args() {
        let all = json!({ "runtimeConfig": { "mac": "a" }, "args": { "cni": { "mac": "b" } } });
        assert_eq!(request(all, "MAC=c").requested_mac(), Ok(Some("a")));
        let two = json!({ "runtimeConfig": { "mac": "" }, "args": { "cni": { "mac": "b" } } });
        assert_eq!(request(two, "MAC=c").requested_mac(), Ok(Some("b")));
        assert_eq!(request(json!({}), "MAC=c").requested_mac(), Ok(Some("c")));
        assert_eq!(request(json!({}), "MAC=").requested_mac(), Ok(None));
    }

    #[test]
    fn args_cni_ips_overrides_ip_in_cni_args() {
        let config = json!({ "args": { "cni": { "ips": ["10.2.2.42", "2001:db8::5/64"] } } });
        let both: Vec<IpAddr> = vec!["10.2.2.42".parse().unwrap(), "2001:db8::5".parse().unwrap()];
        assert_eq!(request(config, "IP=10.9.9.9").requested_ips(), Ok(both));
        assert_eq!(
            request(json!({}), "IP=10.9.9.9/24").requested_ips(),
            Ok(vec!["10.9.9.9".parse().unwrap()])
        );
        assert_eq!(request(json!({}), "").requested_ips(), Ok(Vec::new()));
    }

    #[test]
    fn a_value_of_the_users_is_in_args_cni_or_else_in_cni_args() {
        let config = |value: Value| json!({ "args": { "cni": { "NAME": value } } });
        let both = request(config(json!("a")), "NAME=b");
        assert_eq!(both.user_arg("NAME"), Ok(Some("a")));
        let empty = request(config(json!("")), "NAME=b");
        assert_eq!(empty.user_arg("NAME"), Ok(Some("b")));
        assert_eq!(request(json!({}), "NAME=").user_arg("NAME"), Ok(None));
        let number = request(config(json!(5)), "NAME=b");
        let error = number.user_arg("NAME").unwrap_err();
        assert!(error.msg.contains("args.cni.NAME"), "{error}");
    }

    #[test]
    fn what_the_runtime_says_of_a_pod_overrides_what_the_pod_says() {
        for key in ["K8S_POD_NAME", "K8S_POD_NAMESPACE", "K8S_POD_UID"] {
            for value in [json!("other"), json!(5)] {
                let config = json!({ "args": { "cni": { key: value } } });
                let pod = request(config, &format!("{key}=own"));
                assert_eq!(pod.user_arg(key), Ok(Some("own")), "{key}");
            }
            let config = json!({ "args": { "cni": { key: "own" } } });
            let pod = request(config, &format!("{key}="));
            assert_eq!(pod.user_arg(key), Ok(Some("own")), "{key}");
        }
    }

    #[test]
    fn the_runtimes_name_of_a_container_overrides_the_users() {
        let config = json!({ "args": { "cni": {
            "K8S_POD_NAME": "other", "K8S_POD_NAMESPACE": "mine",
        } } });
        let pod = request(config, "K8S_POD_NAME=web-0");
        assert_eq!(pod.container_name(), Some("web-0"));
        assert_eq!(pod.pod_namespace(), Some("mine"));
    }

    #[test]
    fn an_error_says_where_the_value_is_that_is_not_an_address() {
        let error = request(json!({ "runtimeConfig": { "ips": ["10.0.0.1", "x"] } }), "")
            .requested_ips()
            .unwrap_err();
        assert_eq!(error.code, code::INVALID_NETWORK_CONFIG);
        assert!(error.msg.contains("runtimeConfig.ips[1]"), "{error}");
        let error = request(json!({}), "IP=ten").requested_ips().unwrap_err();
        assert_eq!(
            (error.code, error.msg.contains("IP=ten")),
            (code::INVALID_ENVIRONMENT, true)
        );
        let error = request(json!({ "args": { "cni": { "mac": 5 } } }), "")
            .requested_mac()
            .unwrap_err();
        assert!(error.msg.contains("args.cni.mac"), "{error}");
    }
}
