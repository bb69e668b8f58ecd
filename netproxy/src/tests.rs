//! Against the kernel: real connections between network namespaces of our own, with `nft` as a second opinion.

#![expect(
    clippy::disallowed_methods,
    reason = "nft, a program of its own, says what the kernel has"
)]

mod guard;

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsFd, OwnedFd},
    process::Command,
    thread,
    time::Duration,
};

use cni::{Attach, BridgeConfig};
use nix::sched::{CloneFlags, unshare};

use super::*;
use crate::model::{Endpoint, Frontend, Protocol};

const VIP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
const TIMEOUT: Duration = Duration::from_secs(5);

fn config() -> Config {
    Config {
        table: "outbye-test".into(),
        pod_cidr: "10.42.0.0/24".parse().unwrap(),
        cluster_cidr: "10.42.0.0/16".parse().unwrap(),
    }
}

/// A node in a network namespace of its own, with a bridge and pods.
struct Host {
    netns: OwnedFd,
    bridge: BridgeConfig,
}

impl Host {
    /// Runs on a thread that is the host. Skips without privileges, unless they are required.
    fn run(test: impl FnOnce(&Self) + Send + 'static) {
        let host = thread::spawn(|| {
            if let Err(err) = unshare(CloneFlags::CLONE_NEWNET) {
                assert!(std::env::var_os("REQUIRE_PRIVILEGED").is_none(), "{err}");
                eprintln!("skipped: {err}");
                return;
            }
            let bridge = bridge("obtest2", "10.42.0.0/24", Ipv4Addr::new(10, 42, 0, 1));
            cni::ensure_route(&bridge, "10.96.0.0/16".parse().unwrap()).unwrap();
            test(&Self { netns: netns_of_thread(), bridge });
        });
        if let Err(panic) = host.join() {
            std::panic::resume_unwind(panic);
        }
    }

    fn pod(&self, last: u8) -> Pod {
        pod_at(&self.bridge, Ipv4Addr::new(10, 42, 0, last))
    }

    /// Whether packets between ports of a bridge pass netfilter; not every host has the module for it.
    fn filter_bridge(on: bool) {
        let path = "/proc/sys/net/bridge/bridge-nf-call-iptables";
        if let Ok(mut file) = File::options().write(true).open(path) {
            file.write_all(if on { b"1" } else { b"0" }).unwrap();
        }
    }

    fn as_client(&self) -> &OwnedFd {
        &self.netns
    }
}

struct Pod {
    netns: OwnedFd,
    address: Ipv4Addr,
}

impl Pod {
    /// Answers each connection with who it is and whom it sees.
    fn serve(&self, port: u16) -> Endpoint {
        let bind = || TcpListener::bind((Ipv4Addr::UNSPECIFIED, port));
        let listener = cni::in_netns(self.netns.as_fd(), bind).unwrap();
        let me = self.address;
        thread::spawn(move || {
            while let Ok((mut stream, from)) = listener.accept() {
                // The client may have gone.
                let _ = write!(stream, "{me} {}", from.ip());
            }
        });
        Endpoint { address: me, port }
    }

    fn serve_udp(&self, port: u16) -> Endpoint {
        let bind = || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port));
        let socket = cni::in_netns(self.netns.as_fd(), bind).unwrap();
        let me = self.address;
        thread::spawn(move || {
            while let Ok((_, from)) = socket.recv_from(&mut [0]) {
                let _ = socket.send_to(me.to_string().as_bytes(), from);
            }
        });
        Endpoint { address: me, port }
    }
}

fn bridge(name: &str, subnet: &str, gateway: Ipv4Addr) -> BridgeConfig {
    let subnet = subnet.parse().unwrap();
    let bridge = BridgeConfig { name: name.into(), subnet, gateway, mtu: 1500 };
    cni::ensure_bridge(&bridge).unwrap();
    bridge
}

fn pod_at(bridge: &BridgeConfig, address: Ipv4Addr) -> Pod {
    let make = || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        netns_of_thread()
    };
    let netns = thread::spawn(make).join().unwrap();
    let id = address.to_string();
    let wanted = Attach { id: &id, netns: netns.as_fd(), ifname: "eth0", address };
    cni::attach(bridge, &wanted).unwrap();
    Pod { netns, address }
}

fn netns_of_thread() -> OwnedFd {
    File::open("/proc/thread-self/ns/net").unwrap().into()
}

/// Who answered, and which source it saw.
fn connect(from: &OwnedFd, to: Ipv4Addr, port: u16) -> io::Result<(Ipv4Addr, Ipv4Addr)> {
    let to = SocketAddr::from(SocketAddrV4::new(to, port));
    let mut stream = cni::in_netns(from.as_fd(), || TcpStream::connect_timeout(&to, TIMEOUT))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (who, saw) = answer.split_once(' ').unwrap();
    Ok((who.parse().unwrap(), saw.parse().unwrap()))
}

fn refused(from: &OwnedFd, to: Ipv4Addr, port: u16) {
    let err = connect(from, to, port).unwrap_err();
    assert_eq!(err.kind(), io::ErrorKind::ConnectionRefused, "{err}");
}

fn udp_client(from: &OwnedFd, to: Ipv4Addr, port: u16) -> UdpSocket {
    let bind = || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0));
    let socket = cni::in_netns(from.as_fd(), bind).unwrap();
    socket.connect((to, port)).unwrap();
    socket.set_read_timeout(Some(TIMEOUT)).unwrap();
    socket
}

/// What a UDP server answers.
fn ask(socket: &UdpSocket) -> io::Result<String> {
    let mut answer = [0; 32];
    socket.send(b"x")?;
    let n = socket.recv(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer[..n]).into_owned())
}

fn vip(protocol: Protocol, port: u16) -> Frontend {
    Frontend { address: Some(VIP), protocol, port }
}

fn table(frontends: &[(Frontend, &[Endpoint])]) -> ServiceTable {
    let frontends: BTreeMap<_, _> =
        frontends.iter().map(|(it, to)| (*it, to.iter().copied().collect())).collect();
    ServiceTable { frontends, cluster_ips: [VIP].into(), warnings: Vec::new() }
}

fn nft(arguments: &[&str]) -> String {
    let output = Command::new("nft").args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn endpoints_share_connections_and_a_removed_one_gets_none() {
    Host::run(|host| {
        let (a, b, client) = (host.pod(2), host.pod(3), host.pod(4));
        let (to_a, to_b) = (a.serve(8080), b.serve(8081));
        let mut proxy = Proxy::new(config());
        let tcp = vip(Protocol::Tcp, 80);
        let report = proxy.sync(&table(&[(tcp, &[to_a, to_b])])).unwrap();
        assert!(report.replaced);
        for (from, filter_bridge) in
            [(&client.netns, true), (&client.netns, false), (host.as_client(), false)]
        {
            Host::filter_bridge(filter_bridge);
            let mut n_answers = BTreeMap::new();
            for _ in 0..60 {
                let (who, _) = connect(from, VIP, 80).unwrap();
                *n_answers.entry(who).or_insert(0) += 1;
            }
            assert_eq!(n_answers.len(), 2, "{n_answers:?}");
        }
        // Pods see pods.
        assert_eq!(connect(&client.netns, VIP, 80).unwrap().1, client.address);

        let report = proxy.sync(&table(&[(tcp, &[to_b])])).unwrap();
        assert_eq!((report.replaced, report.n_added, report.n_deleted), (false, 2, 4));
        for from in [&client.netns, host.as_client()] {
            for _ in 0..20 {
                assert_eq!(connect(from, VIP, 80).unwrap().0, b.address);
            }
        }
        proxy.clear().unwrap();
        proxy.clear().unwrap();
    });
}

#[test]
fn a_pod_reaches_itself_through_its_service() {
    Host::run(|host| {
        let pod = host.pod(2);
        let to = pod.serve(8080);
        let mut proxy = Proxy::new(config());
        proxy.sync(&table(&[(vip(Protocol::Tcp, 80), &[to])])).unwrap();
        for filter_bridge in [true, false] {
            Host::filter_bridge(filter_bridge);
            let (who, saw) = connect(&pod.netns, VIP, 80).unwrap();
            assert_eq!((who, saw), (pod.address, host.bridge.gateway));
        }
    });
}

#[test]
fn what_has_no_endpoint_is_refused_at_once() {
    Host::run(|host| {
        let pod = host.pod(2);
        let node_port = Frontend { address: None, protocol: Protocol::Tcp, port: 30080 };
        let empty: [(Frontend, &[Endpoint]); 3] =
            [(vip(Protocol::Tcp, 80), &[]), (vip(Protocol::Udp, 53), &[]), (node_port, &[])];
        let mut proxy = Proxy::new(config());
        proxy.sync(&table(&empty)).unwrap();
        for from in [&pod.netns, host.as_client()] {
            refused(from, VIP, 80);
            // A port that the service does not have.
            refused(from, VIP, 81);
            refused(from, host.bridge.gateway, 30080);
            let bind = || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0));
            let socket = cni::in_netns(from.as_fd(), bind).unwrap();
            socket.connect((VIP, 53)).unwrap();
            socket.set_read_timeout(Some(TIMEOUT)).unwrap();
            // A process of the host is told at the sending already, that it may not.
            let answer = socket.send(b"x").and_then(|_| socket.recv(&mut [0]));
            let err = answer.unwrap_err();
            let kind = err.kind();
            let told = [io::ErrorKind::ConnectionRefused, io::ErrorKind::PermissionDenied];
            assert!(told.contains(&kind), "{err}");
        }
    });
}

#[test]
fn node_ports_answer_at_every_address_of_the_host() {
    Host::run(|host| {
        let (pod, client) = (host.pod(2), host.pod(3));
        let outside = bridge("obtest3", "192.0.2.0/24", Ipv4Addr::new(192, 0, 2, 1));
        let stranger = pod_at(&outside, Ipv4Addr::new(192, 0, 2, 9));
        let node_port = Frontend { address: None, protocol: Protocol::Tcp, port: 30080 };
        let mut proxy = Proxy::new(config());
        proxy.sync(&table(&[(node_port, &[pod.serve(8080)])])).unwrap();
        for from in [&client.netns, host.as_client(), &stranger.netns] {
            for address in [host.bridge.gateway, outside.gateway] {
                assert_eq!(connect(from, address, 30080).unwrap().0, pod.address);
            }
        }
        refused(&client.netns, host.bridge.gateway, 30081);
    });
}

#[test]
fn pods_reach_the_outside_with_the_address_of_the_host() {
    Host::run(|host| {
        let (pod, other) = (host.pod(2), host.pod(3));
        let outside = bridge("obtest3", "192.0.2.0/24", Ipv4Addr::new(192, 0, 2, 1));
        let stranger = pod_at(&outside, Ipv4Addr::new(192, 0, 2, 9));
        stranger.serve(80);
        other.serve(80);
        let mut proxy = Proxy::new(config());
        proxy.sync(&ServiceTable::default()).unwrap();
        let (_, saw) = connect(&pod.netns, stranger.address, 80).unwrap();
        assert_eq!(saw, outside.gateway);
        let (_, saw) = connect(&pod.netns, other.address, 80).unwrap();
        assert_eq!(saw, pod.address);

        // A service with an endpoint that is elsewhere: asked from outside, the answer must come back this way.
        let to = Endpoint { address: stranger.address, port: 80 };
        proxy.sync(&table(&[(vip(Protocol::Tcp, 80), &[to])])).unwrap();
        let (who, saw) = connect(&stranger.netns, VIP, 80).unwrap();
        assert_eq!((who, saw), (stranger.address, outside.gateway));
    });
}

/// As Docker publishes ports: a translation by another table, to where no pod of this node is.
#[test]
fn what_others_translate_keeps_its_source() {
    Host::run(|host| {
        let (near, far) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(198, 51, 100, 1));
        let (near, far) =
            (bridge("obtest3", "192.0.2.0/24", near), bridge("obtest4", "198.51.100.0/24", far));
        let stranger = pod_at(&near, Ipv4Addr::new(192, 0, 2, 9));
        let server = pod_at(&far, Ipv4Addr::new(198, 51, 100, 9));
        let to = server.serve(80);
        let hook = "{ type nat hook prerouting priority -100; }";
        nft(&["add", "table", "ip", "foreign"]);
        nft(&["add", "chain", "ip", "foreign", "c", hook]);
        let rule = "tcp dport 8000 ct mark set ct mark or 0x4001 dnat to 198.51.100.9:80";
        nft(&["add", "rule", "ip", "foreign", "c", rule]);
        let mut proxy = Proxy::new(config());
        proxy.sync(&table(&[(vip(Protocol::Tcp, 80), &[to])])).unwrap();
        let (who, saw) = connect(&stranger.netns, near.gateway, 8000).unwrap();
        assert_eq!((who, saw), (server.address, stranger.address));
        // Our own go back the way they came.
        let (who, saw) = connect(&stranger.netns, VIP, 80).unwrap();
        assert_eq!((who, saw), (server.address, far.gateway));
        assert_eq!(connect(host.as_client(), VIP, 80).unwrap().0, server.address);
    });
}

#[test]
fn the_mark_of_a_translation_leaves_the_other_bits() {
    Host::run(|host| {
        let pod = host.pod(2);
        let to = pod.serve(8080);
        nft(&["add", "table", "ip", "foreign"]);
        let hook = "{ type nat hook output priority -150; }";
        nft(&["add", "chain", "ip", "foreign", "before", hook]);
        nft(&["add", "rule", "ip", "foreign", "before", "ct mark set 0x4321"]);
        let hook = "{ type filter hook postrouting priority 0; }";
        nft(&["add", "chain", "ip", "foreign", "after", hook]);
        nft(&["add", "rule", "ip", "foreign", "after", "ct mark 0x5321 counter"]);
        let mut proxy = Proxy::new(config());
        proxy.sync(&table(&[(vip(Protocol::Tcp, 80), &[to])])).unwrap();
        connect(host.as_client(), VIP, 80).unwrap();
        let listed = nft(&["list", "chain", "ip", "foreign", "after"]);
        assert!(!listed.contains("packets 0 "), "{listed}");
    });
}

#[test]
fn udp_clients_move_to_the_endpoint_that_is_left() {
    Host::run(|host| {
        let (a, b, client) = (host.pod(2), host.pod(3), host.pod(4));
        let (to_a, to_b) = (a.serve_udp(5353), b.serve_udp(5353));
        let mut proxy = Proxy::new(config());
        let udp = vip(Protocol::Udp, 53);
        let socket = udp_client(&client.netns, VIP, 53);
        let ask = || ask(&socket).unwrap();
        proxy.sync(&table(&[(udp, &[to_a])])).unwrap();
        assert_eq!(ask(), a.address.to_string());
        proxy.sync(&table(&[(udp, &[to_a, to_b])])).unwrap();
        assert_eq!(ask(), a.address.to_string());
        proxy.sync(&table(&[(udp, &[to_b])])).unwrap();
        assert_eq!(ask(), b.address.to_string());
    });
}

#[test]
fn udp_clients_that_never_stop_sending_reach_a_port_that_comes_back() {
    Host::run(|host| {
        let (a, b, client) = (host.pod(2), host.pod(3), host.pod(4));
        let (to_a, to_b) = (a.serve_udp(5353), b.serve_udp(5353));
        let port = Frontend { address: None, protocol: Protocol::Udp, port: 5300 };
        let socket = udp_client(&client.netns, host.bridge.gateway, 5300);
        let mut proxy = Proxy::new(config());
        proxy.sync(&table(&[])).unwrap();
        let refused = |asked: io::Result<String>| {
            assert_eq!(asked.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        };
        // What is sent while no pod has the port is a connection to the host.
        refused(ask(&socket));
        proxy.sync(&table(&[(port, &[to_a])])).unwrap();
        assert_eq!(ask(&socket).unwrap(), a.address.to_string());
        proxy.sync(&table(&[])).unwrap();
        refused(ask(&socket));
        proxy.sync(&table(&[(port, &[to_b])])).unwrap();
        assert_eq!(ask(&socket).unwrap(), b.address.to_string());
        // The pod was replaced while no proxy was there.
        Proxy::new(config()).sync(&table(&[(port, &[to_a])])).unwrap();
        assert_eq!(ask(&socket).unwrap(), a.address.to_string());
    });
}

#[test]
fn only_our_table_is_touched_and_what_was_in_it_is_replaced() {
    Host::run(|host| {
        nft(&["add", "table", "ip", "foreign"]);
        nft(&["add", "chain", "ip", "foreign", "c", "{ type filter hook input priority 0; }"]);
        let foreign = nft(&["list", "table", "ip", "foreign"]);
        let pod = host.pod(2);
        let to = pod.serve(8080);
        let tcp = vip(Protocol::Tcp, 80);
        Proxy::new(config()).sync(&table(&[(vip(Protocol::Tcp, 99), &[to])])).unwrap();
        assert!(nft(&["list", "table", "ip", "outbye-test"]).contains("10.96.0.10 . tcp . 99"));

        // After a restart, and after somebody removed the table.
        let mut proxy = Proxy::new(config());
        assert!(proxy.sync(&table(&[(tcp, &[to])])).unwrap().replaced);
        let listed = nft(&["list", "table", "ip", "outbye-test"]);
        assert!(listed.contains("10.96.0.10 . tcp . 80 : goto lb1"), "{listed}");
        assert!(listed.contains("10.42.0.2 . 8080"), "{listed}");
        assert!(!listed.contains("99"), "{listed}");
        assert!(!proxy.sync(&table(&[(tcp, &[to])])).unwrap().replaced);
        nft(&["delete", "table", "ip", "outbye-test"]);
        assert!(proxy.sync(&table(&[])).unwrap().replaced);
        assert!(proxy.sync(&table(&[(tcp, &[to])])).is_ok());
        assert_eq!(connect(host.as_client(), VIP, 80).unwrap().0, pod.address);

        proxy.clear().unwrap();
        assert_eq!(nft(&["list", "table", "ip", "foreign"]), foreign);
        assert_eq!(nft(&["list", "tables"]), "table ip foreign\n");
    });
}

/// Many services are as many elements and no more chains; one change stays one change.
#[test]
fn chains_do_not_grow_with_services() {
    Host::run(|_| {
        let frontend = |n: u16| {
            let [high, low] = n.to_be_bytes();
            let address = Some(Ipv4Addr::new(10, 96, high, low));
            Frontend { address, protocol: Protocol::Tcp, port: 80 }
        };
        let endpoint = |n: u16| {
            let [high, low] = n.to_be_bytes();
            Endpoint { address: Ipv4Addr::new(10, 42, high, low), port: 8080 }
        };
        let mut table = ServiceTable::default();
        for n in 0..3000 {
            let endpoints = (0..=n % 3).map(|it| endpoint(n + it)).collect();
            table.frontends.insert(frontend(n), endpoints);
            table.cluster_ips.extend(frontend(n).address);
        }
        let mut proxy = Proxy::new(config());
        let report = proxy.sync(&table).unwrap();
        assert!(report.n_added > 12_000, "{report:?}");
        let listed = nft(&["list", "chains", "ip"]);
        assert_eq!(listed.matches("chain ").count(), 10, "{listed}");

        table.frontends.remove(&frontend(0));
        let report = proxy.sync(&table).unwrap();
        assert_eq!((report.replaced, report.n_added, report.n_deleted), (false, 0, 3));
        table.frontends.insert(frontend(0), (0..4).map(endpoint).collect());
        let report = proxy.sync(&table).unwrap();
        assert_eq!((report.replaced, report.n_added, report.n_deleted), (false, 6, 0));
    });
}
