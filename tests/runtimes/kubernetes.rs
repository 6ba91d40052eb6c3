//! The manifests: by Kubernetes' own schemas, and run. There is no cluster here; Podman runs the
//! DaemonSet's pod, and the network's configuration is called as Multus calls it.

use std::env;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use lab::anyhow::{Context, bail, ensure};
use lab::dhcp_server::{Reaction, Settings};
use lab::dhcproto::v4::MessageType;
use lab::serde_json::{self, Value, json};
use lab::servers::DNSMASQ;
use lab::suite::Package;
use lab::{DhcpServer, Lan, Network, Result, Test, World, network, test, until};

use crate::machine::{self, output};
use crate::podman;
use crate::scenario::{SOON, shell};

const PODMAN: &[Package] = &[
    Package::new("podman", "podman"),
    Package::new("crun", "crun"),
    Package::new("conmon", "conmon"),
    YAML,
    DNSMASQ.package,
];
const YAML: Package = Package::new(
    "python3-yaml",
    "/usr/lib/python3/dist-packages/yaml/__init__.py",
);
const SCHEMAS: Package =
    Package::new("python3-venv", "/usr/share/doc/python3-venv").then(install_schemas);

pub(crate) const TESTS: &[Test] = &[
    test!(the_manifests_follow_the_schemas_of_kubernetes).needs(&[SCHEMAS]),
    test!(the_daemonset_installs_the_plugins_and_keeps_leases_with_its_capabilities_alone)
        .needs(PODMAN),
];

/// The oldest and the newest Kubernetes that the manifests are checked against.
const KUBERNETES: [&str; 2] = ["1.25", "1.37"];

/// Of PyPI: carries the schemas of many versions, and reaches for no network.
const VALIDATOR: &str = "kubernetes-validate==1.37.0";

fn the_manifests_follow_the_schemas_of_kubernetes(_: &World) -> Result {
    let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/kubernetes");
    for version in KUBERNETES {
        let mut command = Command::new(validator()?.join("bin/kubernetes-validate"));
        command.args(["--strict", "--kubernetes-version", version]);
        output(command.args(["daemonset.yaml", "pod.yaml"].map(|name| manifests.join(name))))?;
    }
    Ok(())
}

fn the_daemonset_installs_the_plugins_and_keeps_leases_with_its_capabilities_alone(
    world: &World,
) -> Result {
    machine::enter(world)?;
    podman::configure()?;
    let lan = Lan::new()?;
    let lease = Settings {
        t1: Some(Duration::from_secs(2)),
        ..Settings::default()
    };
    let server = DhcpServer::start(&lan.lan, lease)?;
    machine::run(&["packaging/image", "/tmp/image.tar", &machine::programs()])?;
    shell(&lan, "podman load --input /tmp/image.tar")?;

    let daemonset = manifest("daemonset.yaml")?;
    let probe = words(
        &daemonset["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]["exec"]["command"],
    )?;
    for (kind, how) in [("initContainers", ""), ("containers", "--detach")] {
        shell(
            &lan,
            &podman_run(&daemonset["spec"]["template"]["spec"], kind, how)?,
        )?;
    }
    let ready = format!("podman exec dhcp {probe}");
    let logs =
        || shell(&lan, "podman logs install 2>&1; podman logs dhcp 2>&1").unwrap_or_default();
    until("the readiness probe passes", SOON, || {
        shell(&lan, &ready).is_ok()
    })
    .with_context(logs)?;
    let status = shell(
        &lan,
        "cat /proc/$(podman inspect dhcp -f '{{.State.Pid}}')/status",
    )?;
    ensure!(
        status.contains("CapEff:\t0000000000203000\n"),
        "SYS_ADMIN, NET_RAW and NET_ADMIN: {status}"
    );
    ensure!(
        status.contains("NoNewPrivs:\t1\n") && logs().contains("confined by Landlock"),
        "{status}{}",
        logs()
    );

    // A container that comes later, under the name that containerd gives its network namespaces.
    let container = lan.container("c1")?;
    let plugins = vec![PathBuf::from("/opt/cni/bin")]; // filled by the init container
    let network = Network::with_path(&lan.host, network_configuration()?, plugins);
    let attachment = network::Attachment {
        netns: Some("/var/run/netns/c1".into()),
        ifname: "net1".into(),
        // As Multus says it, keys repeated.
        args:
            "IgnoreUnknown=true;K8S_POD_NAMESPACE=default;K8S_POD_NAME=on-the-lan;IgnoreUnknown=1"
                .into(),
        ..network::Attachment::new(&container)
    };
    network.add(&attachment).with_context(logs)?;
    let first = address(&container)?;
    lan.lan.ping(first.into(), SOON)?;
    server
        .wait_for(MessageType::Request, 2, Duration::from_secs(6))
        .context("no renewal")
        .with_context(logs)?;
    ensure!(address(&container)? == first);

    // The address changes, and with it the container: by a daemon that sees /proc/sys read-only.
    let [low, high] = ["10.99.0.200", "10.99.0.210"].map(str::parse::<Ipv4Addr>);
    let pool = low?..=high?;
    server.reconfigure(|settings| settings.pool = pool);
    server
        .when(MessageType::Request)
        .once()
        .then(Reaction::nak());
    server.forget();
    let changed = || address(&container).is_ok_and(|now| now != first);
    until("the address is another", Duration::from_secs(15), changed).with_context(logs)?;
    lan.lan.ping(address(&container)?.into(), SOON)?;
    let log = logs();
    ensure!(!log.contains("ERROR"), "{log}");

    network.del(&attachment)?;
    until("the lease is given back", SOON, || {
        server.leases().is_empty()
    })?;
    shell(&lan, "podman rm -f -t 5 dhcp")?;
    Ok(())
}

fn address(container: &lab::Node) -> Result<Ipv4Addr> {
    match container.ipv4("net1")?[..] {
        [one] => Ok(one.addr()),
        ref other => bail!("one address is expected: {other:?}"),
    }
}

/// What a kubelet makes of the pod's one container of this kind, in Podman's words. Podman's own
/// `play kube` makes pods only where it may have cgroups.
fn podman_run(pod: &Value, kind: &str, how: &str) -> Result<String> {
    let Some([container]) = pod[kind].as_array().map(Vec::as_slice) else {
        bail!("one of {kind} is expected")
    };
    let text = |value: &Value| {
        value
            .as_str()
            .map(str::to_owned)
            .with_context(|| format!("a text, not {value}"))
    };
    let security = &container["securityContext"];
    ensure!(
        pod["hostNetwork"] == false
            && pod["hostPID"].is_null()
            && security["readOnlyRootFilesystem"] == true
    );
    ensure!(security["capabilities"]["drop"] == json!(["ALL"]));
    let mut command = format!(
        "podman run {how} --name {} --network none --read-only --cap-drop all",
        text(&container["name"])?
    );
    for capability in security["capabilities"]["add"]
        .as_array()
        .into_iter()
        .flatten()
    {
        command += &format!(" --cap-add {}", text(capability)?);
    }
    if security["allowPrivilegeEscalation"] == false {
        command += " --security-opt no-new-privileges";
    }
    for mount in container["volumeMounts"].as_array().context("mounts")? {
        let volume = pod["volumes"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|volume| volume["name"] == mount["name"]);
        let host = &volume.with_context(|| format!("a volume for {mount}"))?["hostPath"];
        ensure!(host["type"] == "DirectoryOrCreate", "{host}");
        let options = [
            ("mountPropagation", json!("HostToContainer"), ",rslave"),
            ("readOnly", json!(true), ",ro"),
        ];
        let options: String = options
            .iter()
            .filter(|(key, value, _)| mount[*key] == *value)
            .map(|(_, _, option)| *option)
            .collect();
        let (path, to) = (text(&host["path"])?, text(&mount["mountPath"])?);
        std::fs::create_dir_all(&path)?;
        command += &format!(" --volume {path}:{to}:rbind{options}");
    }
    Ok(format!(
        "{command} {} {}",
        text(&container["image"])?,
        words(&container["args"])?
    ))
}

/// The conflist in the NetworkAttachmentDefinition, whose schema is a string of this name and
/// nothing else.
fn network_configuration() -> Result<Value> {
    let definition = manifest("network.yaml")?;
    ensure!(
        definition["apiVersion"] == "k8s.cni.cncf.io/v1"
            && definition["kind"] == "NetworkAttachmentDefinition"
    );
    let spec = definition["spec"].as_object().context("a spec")?;
    ensure!(spec.keys().eq(["config"]), "{spec:?}");
    Ok(serde_json::from_str(
        spec["config"].as_str().context("config is a string")?,
    )?)
}

fn manifest(name: &str) -> Result<Value> {
    const TO_JSON: &str =
        "import json, sys, yaml; json.dump(yaml.safe_load(open(sys.argv[1])), sys.stdout)";
    let path = machine::checkout("examples/kubernetes").join(name);
    let json = output(
        Command::new("/usr/bin/python3")
            .args(["-c", TO_JSON])
            .arg(path),
    )?;
    Ok(serde_json::from_str(&json)?)
}

fn words(list: &Value) -> Result<String> {
    let words: Option<Vec<&str>> = list
        .as_array()
        .context("a list")?
        .iter()
        .map(Value::as_str)
        .collect();
    Ok(words.context("a list of words")?.join(" "))
}

fn install_schemas() -> Result {
    let target = validator()?;
    if !target.join("bin/kubernetes-validate").is_file() {
        output(
            Command::new("/usr/bin/python3")
                .args(["-m", "venv"])
                .arg(&target),
        )?;
        output(Command::new(target.join("bin/pip")).args([
            "install",
            "--quiet",
            "--disable-pip-version-check",
            VALIDATOR,
        ]))?;
    }
    Ok(())
}

/// A Python environment beside the test binary.
fn validator() -> Result<PathBuf> {
    Ok(env::current_exe()?.with_file_name(VALIDATOR.replace("==", "-")))
}
