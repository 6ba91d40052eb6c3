//! The driver that netavark runs: real netavark, and what Podman would pass to it.

mod crash;
mod lease;
mod many;
mod options;
mod pool;
mod refusal;

use lab::anyhow::{Context, ensure};
use lab::dhcp_server::Settings;
use lab::netavark::{Container, network};
use lab::serde_json::{Value, json};
use lab::{Daemon, DhcpServer, Lan, Netavark, Node, Result, Test, World, until};

use crate::scenario::{SOON, ensure_nothing_left};

/// All of them.
pub(crate) fn tests() -> Vec<Test> {
    [
        lease::TESTS,
        options::TESTS,
        pool::TESTS,
        refusal::TESTS,
        crash::TESTS,
        many::TESTS,
    ]
    .concat()
}

/// A LAN with a DHCP server, and a host with netavark and the daemon.
struct Podman {
    lan: Lan,
    server: DhcpServer,
    daemon: Daemon,
    netavark: Netavark,
}

impl Podman {
    fn new(world: &World) -> Result<Podman> {
        Podman::with_server(world, Settings::default())
    }

    fn with_server(world: &World, settings: Settings) -> Result<Podman> {
        let lan = Lan::new()?;
        let server = DhcpServer::start(&lan.lan, settings)?;
        Ok(Podman {
            server,
            daemon: Daemon::start_at_default_path(world, &lan.host)?,
            netavark: Netavark::new(world)?,
            lan,
        })
    }

    /// A network on the LAN that the driver has created, with these options.
    fn network(&self, options: Value) -> Result<Value> {
        self.create("lan", json!({}), options)
    }

    /// Like [`Podman::network`], with a name, and with further fields.
    fn create(&self, name: &str, fields: Value, options: Value) -> Result<Value> {
        let mut asked = network(name, fields);
        asked["options"] = json!({ "parent": Lan::MASTER });
        if let (Value::Object(all), Value::Object(options)) = (&mut asked["options"], options) {
            all.extend(options);
        }
        let created = self.netavark.create(&self.lan.host, &asked);
        let (created, told) = created.with_context(|| self.daemon.log())?;
        ensure!(told.is_empty(), "{told}");
        Ok(created)
    }

    fn setup(&self, container: &Container) -> Result<Value> {
        let status = self.netavark.setup(&self.lan.host, container);
        status.with_context(|| self.daemon.log())
    }

    fn teardown(&self, container: &Container) -> Result {
        self.netavark.teardown(&self.lan.host, container)
    }

    /// Detaches the container, and fails unless it is as before, and the server has its leases back.
    fn end(&self, node: &Node, container: &Container) -> Result {
        self.teardown(container)?;
        ensure_nothing_left(node)?;
        until("the leases are released", SOON, || {
            self.server.leases().is_empty()
        })
    }
}

/// The subnets in the status of a container's eth0 on this network.
fn subnets(status: &Value, network: &str) -> Value {
    status[network]["interfaces"]["eth0"]["subnets"].clone()
}

/// These fields of a network whose IPAM driver Podman leaves open.
fn without_driver(mut fields: Value) -> Value {
    fields["ipam_options"] = Value::Null;
    fields
}
