//! Against the kernel, in namespaces of our own: each test's "host" is a fresh network namespace.

use std::{
    io::Read,
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsFd, OwnedFd},
    thread,
};

use nix::sched::unshare;

use super::*;
use crate::{ensure_bridge, ensure_route, remove_bridge};

fn config() -> BridgeConfig {
    BridgeConfig {
        name: "obtest0".into(),
        subnet: "10.77.0.0/24".parse().unwrap(),
        gateway: Ipv4Addr::new(10, 77, 0, 1),
        mtu: 1400,
    }
}

/// Runs on a thread whose network namespace is new. Skips without privileges, unless they are required.
fn on_a_host(run: impl FnOnce() + Send + 'static) {
    let host = thread::spawn(|| match unshare(nix::sched::CloneFlags::CLONE_NEWNET) {
        Ok(()) => run(),
        Err(err) if std::env::var_os("REQUIRE_PRIVILEGED").is_none() => {
            eprintln!("skipped: {err}");
        }
        Err(err) => panic!("{err}"),
    });
    if let Err(panic) = host.join() {
        std::panic::resume_unwind(panic);
    }
}

fn netns() -> OwnedFd {
    let make = || {
        unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        File::open("/proc/thread-self/ns/net").unwrap().into()
    };
    thread::spawn(make).join().unwrap()
}

fn wanted<'a>(id: &'a str, netns: &'a OwnedFd, last: u8) -> Attach<'a> {
    let address = Ipv4Addr::new(10, 77, 0, last);
    Attach { id, netns: netns.as_fd(), ifname: "eth0", address }
}

fn talk(server: &OwnedFd, client: &OwnedFd, address: Ipv4Addr) -> Ipv4Addr {
    let listener =
        in_netns(server.as_fd(), || TcpListener::bind((Ipv4Addr::UNSPECIFIED, 80))).unwrap();
    let mut stream = in_netns(client.as_fd(), || TcpStream::connect((address, 80))).unwrap();
    let (mut accepted, from) = listener.accept().unwrap();
    stream.write_all(b"x").unwrap();
    accepted.read_exact(&mut [0]).unwrap();
    match from.ip() {
        std::net::IpAddr::V4(from) => from,
        std::net::IpAddr::V6(from) => panic!("{from}"),
    }
}

#[test]
fn sandboxes_and_host_reach_each_other() {
    on_a_host(|| {
        let config = config();
        ensure_bridge(&config).unwrap();
        ensure_bridge(&config).unwrap();
        let (a, b) = (netns(), netns());
        let first = attach(&config, &wanted("a", &a, 2)).unwrap();
        assert_eq!(first.mac.to_string(), "0a:58:0a:4d:00:02");
        attach(&config, &wanted("b", &b, 3)).unwrap();
        check(&config, &wanted("a", &a, 2)).unwrap();
        assert_eq!(talk(&b, &a, Ipv4Addr::new(10, 77, 0, 3)), Ipv4Addr::new(10, 77, 0, 2));
        assert_eq!(talk(&a, &a, Ipv4Addr::LOCALHOST), Ipv4Addr::LOCALHOST);
        let host: OwnedFd = File::open("/proc/thread-self/ns/net").unwrap().into();
        assert_eq!(talk(&b, &host, Ipv4Addr::new(10, 77, 0, 3)), config.gateway);
        assert_eq!(talk(&host, &a, config.gateway), Ipv4Addr::new(10, 77, 0, 2));
        let forwards = std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap();
        assert_eq!(forwards, "1\n");
    });
}

#[test]
fn attach_and_detach_may_be_repeated() {
    on_a_host(|| {
        let config = config();
        ensure_bridge(&config).unwrap();
        let a = netns();
        let once = attach(&config, &wanted("a", &a, 2)).unwrap();
        let twice = attach(&config, &wanted("a", &a, 2)).unwrap();
        assert_eq!(once, twice);
        assert_eq!(attached().unwrap(), [host_ifname("a")]);
        detach("a").unwrap();
        detach("a").unwrap();
        assert_eq!(attached().unwrap(), [""; 0]);
        let err = check(&config, &wanted("a", &a, 2)).unwrap_err();
        assert!(err.to_string().contains("no link on the host"), "{err}");
        attach(&config, &wanted("a", &a, 2)).unwrap();
        check(&config, &wanted("a", &a, 2)).unwrap();
        remove_bridge(&config).unwrap();
        remove_bridge(&config).unwrap();
        let err = check(&config, &wanted("a", &a, 2)).unwrap_err();
        assert!(err.to_string().contains("no bridge"), "{err}");
    });
}

/// The id lived before in another namespace, or with another address.
#[test]
fn a_left_over_of_the_same_id_gives_way() {
    on_a_host(|| {
        let config = config();
        ensure_bridge(&config).unwrap();
        let (old, new) = (netns(), netns());
        attach(&config, &wanted("a", &old, 2)).unwrap();
        attach(&config, &wanted("a", &new, 2)).unwrap();
        check(&config, &wanted("a", &new, 2)).unwrap();
        attach(&config, &wanted("a", &new, 9)).unwrap();
        check(&config, &wanted("a", &new, 9)).unwrap();
        assert!(check(&config, &wanted("a", &new, 2)).is_err());
    });
}

#[test]
fn a_half_made_attachment_is_completed() {
    on_a_host(|| {
        let config = config();
        ensure_bridge(&config).unwrap();
        let a = netns();
        let mut host = Netlink::open().unwrap();
        let bridge = host.link(&config.name).unwrap().unwrap().header.index;
        let mac = Mac::of(Ipv4Addr::new(10, 77, 0, 2));
        let half = new_veth(&config, &wanted("a", &a, 2), &host_ifname("a"), bridge, mac);
        host.change(half, NLM_F_CREATE | NLM_F_EXCL).unwrap();
        assert!(check(&config, &wanted("a", &a, 2)).is_err());
        attach(&config, &wanted("a", &a, 2)).unwrap();
        check(&config, &wanted("a", &a, 2)).unwrap();
    });
}

#[test]
fn the_port_of_a_sandbox_is_a_hairpin() {
    on_a_host(|| {
        let config = config();
        ensure_bridge(&config).unwrap();
        let a = netns();
        let made = attach(&config, &wanted("a", &a, 2)).unwrap();
        let link = Netlink::open().unwrap().link(&made.host_ifname).unwrap().unwrap();
        let hairpin = link.attributes.iter().any(|it| match it {
            LinkAttribute::LinkInfo(infos) => infos.iter().any(|it| match it {
                LinkInfo::PortData(InfoPortData::BridgePort(port)) => {
                    port.contains(&InfoBridgePort::HairpinMode(true))
                }
                _ => false,
            }),
            _ => false,
        });
        assert!(hairpin, "{link:?}");
    });
}

/// Sends as `address`, whoever has it: with its hardware address, and without asking where the gateway is.
fn pretend(inside: &OwnedFd, config: &BridgeConfig, address: Ipv4Addr) {
    let to = SocketAddr::from((config.gateway, 53));
    in_netns(inside.as_fd(), || {
        let mut netlink = Netlink::open()?;
        let eth = netlink.link("eth0")?.unwrap().header.index;
        let mut link = LinkMessage::default();
        link.header.index = eth;
        link.attributes = vec![LinkAttribute::Address(Mac::of(address).0.to_vec())];
        netlink.change(RouteNetlinkMessage::SetLink(link), 0)?;
        let gateway = neighbour(eth, config.gateway, Mac::of(config.gateway));
        let flags = NLM_F_CREATE | NLM_F_REPLACE;
        netlink.change(RouteNetlinkMessage::NewNeighbour(gateway), flags)?;
        let own = RouteNetlinkMessage::NewAddress(address_message(eth, address, PREFIX_LEN));
        netlink.change(own, flags)?;
        let socket = UdpSocket::bind((address, 0))?;
        socket.send_to(b"false", to)?;
        Ok(())
    })
    .unwrap();
}

#[test]
fn nobody_can_be_somebody_else() {
    on_a_host(|| {
        let config = config();
        ensure_bridge(&config).unwrap();
        let (a, b) = (netns(), netns());
        attach(&config, &wanted("a", &a, 2)).unwrap();
        attach(&config, &wanted("b", &b, 3)).unwrap();
        let address = Ipv4Addr::new(10, 77, 0, 3);
        let host: OwnedFd = File::open("/proc/thread-self/ns/net").unwrap().into();
        let server = UdpSocket::bind((config.gateway, 53)).unwrap();
        pretend(&a, &config, address);
        let true_one = in_netns(b.as_fd(), || UdpSocket::bind((address, 0))).unwrap();
        true_one.send_to(b"true", (config.gateway, 53)).unwrap();
        let mut heard = [0; 8];
        let (length, from) = server.recv_from(&mut heard).unwrap();
        assert_eq!((&heard[..length], from.ip()), (&b"true"[..], address.into()));
        // What is for the one goes to the one.
        assert_eq!(talk(&b, &host, address), config.gateway);
        // Announcements over the network change nothing about where the host sends.
        let query = RouteNetlinkMessage::GetNeighbour(neighbour(0, address, Mac::of(address)));
        let known = Netlink::open().unwrap().dump(query).unwrap();
        let is_fixed = known.iter().any(|it| match it {
            RouteNetlinkMessage::NewNeighbour(it) => {
                let to = NeighbourAttribute::Destination(NeighbourAddress::Inet(address));
                it.header.state == NeighbourState::Permanent && it.attributes.contains(&to)
            }
            _ => false,
        });
        assert!(is_fixed, "{known:?}");
    });
}

/// The kernel takes its time to remove the link of a sandbox that is gone; its address is free before.
#[test]
fn an_address_that_is_used_again_leads_to_the_new_sandbox() {
    on_a_host(|| {
        let config = config();
        ensure_bridge(&config).unwrap();
        let (old, new) = (netns(), netns());
        let host: OwnedFd = File::open("/proc/thread-self/ns/net").unwrap().into();
        let address = Ipv4Addr::new(10, 77, 0, 2);
        attach(&config, &wanted("old", &old, 2)).unwrap();
        assert_eq!(talk(&old, &host, address), config.gateway);
        attach(&config, &wanted("new", &new, 2)).unwrap();
        assert_eq!(talk(&new, &host, address), config.gateway);
        assert_eq!(talk(&host, &new, config.gateway), address);
        detach("old").unwrap();
        assert_eq!(talk(&new, &host, address), config.gateway);
    });
}

#[test]
fn a_changed_subnet_replaces_the_gateway() {
    on_a_host(|| {
        let old = config();
        ensure_bridge(&old).unwrap();
        let gateway = Ipv4Addr::new(10, 78, 0, 1);
        let new = BridgeConfig { subnet: "10.78.0.0/24".parse().unwrap(), gateway, ..old };
        ensure_bridge(&new).unwrap();
        let services = "10.96.0.0/16".parse().unwrap();
        ensure_route(&new, services).unwrap();
        ensure_route(&new, services).unwrap();
        let mut host = Netlink::open().unwrap();
        let index = host.link(&new.name).unwrap().unwrap().header.index;
        assert_eq!(host.addresses(index).unwrap(), [(gateway, 24)]);
    });
}

#[test]
fn errors_name_what_is_missing() {
    on_a_host(|| {
        let a = netns();
        let err = attach(&config(), &wanted("a", &a, 2)).unwrap_err();
        assert_eq!(err.to_string(), "could not find bridge obtest0");
        ensure_bridge(&config()).unwrap();
        let file: OwnedFd = File::open("/dev/null").unwrap().into();
        let err = attach(&config(), &wanted("a", &file, 2)).unwrap_err();
        assert_eq!(err.to_string(), "could not enter the network namespace of a");
    });
}

#[test]
fn names_fit_and_differ() {
    let names: std::collections::BTreeSet<_> =
        (0..10_000).map(|n| host_ifname(&format!("pod-{n}"))).collect();
    assert_eq!(names.len(), 10_000);
    assert!(names.iter().all(|it| it.len() == 14));
    assert_eq!(host_ifname("a"), host_ifname("a"));
}
