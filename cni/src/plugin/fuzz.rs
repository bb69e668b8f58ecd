//! Fuzz targets: the configuration that comes on standard input.

use tests_fuzz::Target;

use super::config::NetworkConfig;

#[test]
fn network_configurations() {
    let seed: &[u8] = br#"{"cniVersion":"1.1.0","name":"net","type":"outbye-cni","bridge":"br0","mtu":1400,"ipam":{"type":"host-local","subnet":"10.1.0.0/24","gateway":"10.1.0.1","dataDir":"/d"},"cni.dev/valid-attachments":[{"containerID":"a","ifname":"eth0"}],"prevResult":{}}"#;
    let words = &[
        "10.0.0.0/0",
        "0.0.0.0/31",
        "255.255.255.255/30",
        "10.1.0.0/30",
        "::/0",
        "..",
        "0.3.0",
        "ipam",
        "subnet",
        "gateway",
    ];
    Target::new("network-configurations", &[seed]).words(words).check(|input| {
        let Ok(config) = NetworkConfig::parse(&String::from_utf8_lossy(input)) else {
            return false;
        };
        let pool = config.pool();
        let first = pool.allocate(&Default::default(), None);
        assert!(first.is_none_or(|it| pool.contains(it)));
        assert!(pool.size() > 0);
        true
    });
}
