//! What `macvlan --help` says about the network configuration.

/// The keys; `docs/configuration.md` describes them in full.
pub(crate) const USAGE: &str = "\
Keys of the network configuration:
  master           device on the LAN: its name, altname, alias or MAC, a glob (\"en*\"), a list of
                   these in order of preference, or {\"subnet\": \"192.168.1.0/24\"}; default: the
                   device of the default route
  vlan             VLAN of master to use, created while containers need it; or
                   master: \"eth1.228\"
  mode             bridge (default), private, vepa, passthru, source
  mtu              MTU of the interface; default: the parent's
  mac              MAC of the interface, or \"stable\"; default: a random one
  linkInContainer  look for master in the container's namespace
  bcqueuelen       length of the parent's queue of broadcasts
  bclim            broadcasts with at least this many receivers go through the queue
  sourceMacs       mode source: senders to receive from
  nopromisc        mode passthru: do not make the parent promiscuous
  hostAccess       let this host and the container reach each other
  sourceRouting    traffic from the interface's addresses leaves through it, by a routing table
                   of its own: true, or the table's number
  keepRoutes       prefixes that keep their existing route when this interface brings a default
                   route
  ipam, dns        as for any plugin; without ipam the interface has no address
CNI_ARGS: MAC. Capabilities: mac, and those of the IPAM plugin.
";
