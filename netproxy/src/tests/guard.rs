//! What sandboxes send in others' names, and what they may send, in namespaces of our own.

use std::net::Ipv6Addr;

use super::*;

const PORT: u16 = 5353;

impl Pod {
    /// A pod whose namespace has another address too, at a link that is not guarded: the kernel sends from it, and asks
    /// where the gateway is in its name, over the link of the pod itself.
    fn with_another_address(bridge: &BridgeConfig, own: Ipv4Addr, other: Ipv4Addr) -> Self {
        let netns = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            // Answers may come over the other link; IPv6 works at once, where there is any.
            set("ipv4/conf/all/rp_filter", "0").unwrap();
            set("ipv4/conf/default/rp_filter", "0").unwrap();
            let _ = set("ipv6/conf/default/accept_dad", "0");
            netns_of_thread()
        });
        let netns = netns.join().unwrap();
        // The last to come has the routes.
        for (address, ifname) in [(other, "eth1"), (own, "eth0")] {
            let id = address.to_string();
            let wanted = Attach { id: &id, netns: netns.as_fd(), ifname, address };
            cni::attach(bridge, &wanted).unwrap();
        }
        // An answer that does not come is not waited for.
        let impatient = || {
            set("ipv4/neigh/eth0/retrans_time_ms", "50")?;
            set("ipv4/neigh/eth0/mcast_solicit", "2")
        };
        cni::in_netns(netns.as_fd(), impatient).unwrap();
        Self { netns, address: own }
    }

    fn link(&self) -> String {
        cni::host_ifname(&self.address.to_string())
    }

    /// Asks the server of the host from this address, and returns whom it saw.
    fn ask(&self, from: Ipv4Addr, server: SocketAddr) -> io::Result<String> {
        let socket = cni::in_netns(self.netns.as_fd(), || UdpSocket::bind((from, 0)))?;
        socket.connect(server)?;
        socket.set_read_timeout(Some(TIMEOUT))?;
        socket.send(b"?")?;
        let mut answer = [0; 64];
        let n = socket.recv(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer[..n]).into_owned())
    }

    /// Sends from this address, and does not wait.
    fn tell(&self, from: Ipv4Addr, server: SocketAddr) {
        let socket = cni::in_netns(self.netns.as_fd(), || UdpSocket::bind((from, 0))).unwrap();
        socket.send_to(b"!", server).unwrap();
    }

    /// Sends to everybody at its link over IPv6. Whether there is any.
    fn tell_all_over_ipv6(&self, port: u16) -> bool {
        let send = || {
            if !std::path::Path::new("/proc/sys/net/ipv6").exists() {
                return Ok(false);
            }
            let everybody = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
            let to = std::net::SocketAddrV6::new(everybody, port, 0, link_with_ipv6("eth0"));
            UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?.send_to(b"!", to)?;
            Ok(true)
        };
        cni::in_netns(self.netns.as_fd(), send).unwrap()
    }
}

fn set(setting: &str, value: &str) -> io::Result<()> {
    let mut file = File::options().write(true).open(format!("/proc/sys/net/{setting}"))?;
    file.write_all(value.as_bytes())
}

/// Index of a link in the network namespace of this thread, as soon as its own address may be used. The kernel gives
/// every link one, some time after the link comes up.
fn link_with_ipv6(name: &str) -> u32 {
    const TENTATIVE: u32 = 0x40;
    for _ in 0..500 {
        let table = std::fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap();
        for line in table.lines().filter(|it| it.starts_with("fe80")) {
            // Address, index, length, scope, flags, name.
            let fields: Vec<_> = line.split_whitespace().collect();
            let number = |at: usize| u32::from_str_radix(fields[at], 16).unwrap();
            if fields.last() == Some(&name) && number(4) & TENTATIVE == 0 {
                return number(1);
            }
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("{name} has no address of IPv6");
}

fn guarded(pods: &[&Pod]) -> BTreeMap<String, Ipv4Addr> {
    pods.iter().map(|it| (it.link(), it.address)).collect()
}

/// Answers everybody with who they seem to be, and tells it here too.
fn server(host: &Host) -> (SocketAddr, std::sync::mpsc::Receiver<Ipv4Addr>) {
    let address = SocketAddr::from((host.bridge.gateway, PORT));
    let socket = UdpSocket::bind(address).unwrap();
    let (seen_tx, seen_rx) = std::sync::mpsc::channel();
    thread::spawn(move || {
        while let Ok((_, from)) = socket.recv_from(&mut [0; 8]) {
            let std::net::IpAddr::V4(ip) = from.ip() else { continue };
            // Who asked may be gone, and the test over.
            let _ = (seen_tx.send(ip), socket.send_to(ip.to_string().as_bytes(), from));
        }
    });
    (address, seen_rx)
}

const OWN: Ipv4Addr = Ipv4Addr::new(10, 42, 0, 2);
const OTHER: Ipv4Addr = Ipv4Addr::new(10, 42, 0, 9);

#[test]
fn packets_in_anothers_name_are_dropped() {
    Host::run(|host| {
        let pod = Pod::with_another_address(&host.bridge, OWN, OTHER);
        let (server, seen) = server(host);
        assert_eq!(pod.ask(OWN, server).unwrap(), OWN.to_string());
        pod.ask(OTHER, server).unwrap();
        seen.try_iter().for_each(drop);

        let mut guard = Guard::new("outbye-test".into());
        guard.sync(&guarded(&[&pod])).unwrap();
        for _ in 0..10 {
            pod.tell(OTHER, server);
        }
        assert_eq!(pod.ask(OWN, server).unwrap(), OWN.to_string());
        assert_eq!(seen.try_iter().collect::<Vec<_>>(), [OWN], "frames keep their order");
        let listed = nft(&["list", "table", "bridge", "outbye-test"]);
        let counted = listed.split("counter packets ").nth(1).unwrap();
        let n_dropped: u64 = counted.split(' ').next().unwrap().parse().unwrap();
        assert!(n_dropped >= 10, "{listed}");

        // Another pod's link is another's; so is one that nobody guards.
        let neighbour = host.pod(3);
        assert_eq!(neighbour.ask(neighbour.address, server).unwrap(), "10.42.0.3");
        guard.sync(&guarded(&[&pod, &neighbour])).unwrap();
        assert_eq!(neighbour.ask(neighbour.address, server).unwrap(), "10.42.0.3");
        neighbour.serve(80);
        assert_eq!(connect(&pod.netns, neighbour.address, 80).unwrap().1, OWN);
        assert_eq!(connect(host.as_client(), neighbour.address, 80).unwrap().0, neighbour.address);
    });
}

#[test]
fn nobody_asks_where_somebody_is_in_anothers_name() {
    Host::run(|host| {
        let (server, seen) = server(host);
        let mut guard = Guard::new("outbye-test".into());
        let pod = Pod::with_another_address(&host.bridge, OWN, OTHER);
        guard.sync(&guarded(&[&pod])).unwrap();
        // Its first packet: the gateway is asked for, and nobody answers.
        pod.ask(OTHER, server).unwrap_err();
        assert_eq!(pod.ask(OWN, server).unwrap(), OWN.to_string());
        // The same without the guard.
        guard.clear().unwrap();
        let pod = Pod::with_another_address(&host.bridge, OWN, OTHER);
        pod.ask(OTHER, server).unwrap();
        assert_eq!(seen.try_iter().collect::<Vec<_>>(), [OWN, OTHER]);
    });
}

#[test]
fn what_is_neither_ipv4_nor_arp_is_dropped() {
    Host::run(|host| {
        let (server, _seen) = server(host);
        let pod = Pod::with_another_address(&host.bridge, OWN, OTHER);
        let Ok(over_ipv6) = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, PORT + 1)) else { return };
        over_ipv6.set_read_timeout(Some(TIMEOUT)).unwrap();
        if !pod.tell_all_over_ipv6(PORT + 1) {
            eprintln!("skipped: this kernel has no IPv6");
            return;
        }
        over_ipv6.recv(&mut [0]).unwrap();
        Guard::new("outbye-test".into()).sync(&guarded(&[&pod])).unwrap();
        assert!(pod.tell_all_over_ipv6(PORT + 1));
        assert_eq!(pod.ask(OWN, server).unwrap(), OWN.to_string());
        over_ipv6.set_nonblocking(true).unwrap();
        assert_eq!(over_ipv6.recv(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    });
}

/// What the kernel has follows what is said, survives who said it, and is made again when somebody removed it.
#[test]
fn the_guard_has_what_there_is_and_nothing_else() {
    Host::run(|host| {
        nft(&["add", "table", "bridge", "foreign"]);
        let (server, _seen) = server(host);
        let pods = [host.pod(2), host.pod(3)];
        let listed = |set| nft(&["list", "set", "bridge", "outbye-test", set]);
        let counts = || ["sandboxes", "links"].map(|set| listed(set).matches("\"ob").count());
        let both = guarded(&[&pods[0], &pods[1]]);
        let mut guard = Guard::new("outbye-test".into());
        guard.sync(&both).unwrap();
        assert_eq!(counts(), [2, 2]);
        let sandboxes = listed("sandboxes");
        let second = format!("\"{}\" . 10.42.0.3", pods[1].link());
        assert!(sandboxes.contains(&second), "{sandboxes}");

        // An agent that starts again knows of the pods.
        let mut guard = Guard::new("outbye-test".into());
        guard.sync(&both).unwrap();
        assert_eq!(pods[1].ask(pods[1].address, server).unwrap(), "10.42.0.3");
        guard.sync(&guarded(&[&pods[0]])).unwrap();
        assert_eq!(counts(), [1, 1]);
        // The same link with another address.
        let moved = BTreeMap::from([(pods[0].link(), OTHER)]);
        guard.sync(&moved).unwrap();
        assert_eq!(counts(), [1, 1]);
        let sandboxes = listed("sandboxes");
        assert!(sandboxes.contains(".9") && !sandboxes.contains(".0.2"), "{sandboxes}");

        nft(&["delete", "table", "bridge", "outbye-test"]);
        guard.sync(&guarded(&[&pods[0], &pods[1]])).unwrap();
        assert_eq!(counts(), [2, 2]);
        guard.clear().unwrap();
        guard.clear().unwrap();
        assert_eq!(nft(&["list", "tables"]), "table bridge foreign\n");
    });
}

/// As many pods as a node may have, and more: no message is too long.
#[test]
fn a_thousand_pods_are_guarded_at_once() {
    Host::run(|_| {
        let link = |n: u16| {
            let [high, low] = n.to_be_bytes();
            (cni::host_ifname(&n.to_string()), Ipv4Addr::new(10, 42, high, low))
        };
        let mut links: BTreeMap<_, _> = (0..1000).map(link).collect();
        let mut guard = Guard::new("outbye-test".into());
        guard.sync(&links).unwrap();
        let n_elements = || {
            let listed = nft(&["list", "set", "bridge", "outbye-test", "sandboxes"]);
            listed.matches(" . 10.42.").count()
        };
        assert_eq!(n_elements(), 1000);
        links.retain(|_, address| address.octets()[3] == 7);
        guard.sync(&links).unwrap();
        assert_eq!(n_elements(), links.len());
    });
}

#[test]
fn a_kernel_that_lacks_a_module_is_told_from_a_table_that_somebody_changed() {
    let refused = |errno| SyncError::Refused {
        what: "create a rule",
        err: io::Error::from_raw_os_error(errno),
    };
    assert!(!refused(libc::ENOENT).is_unsupported(), "an element that is not there any more");
    assert!(refused(libc::ENOENT).of_new_table().is_unsupported());
    assert!(!refused(libc::EPERM).of_new_table().is_unsupported());
    assert!(refused(libc::EOPNOTSUPP).of_new_table().is_unsupported());
}
