//! Which address is free. Pure: who remembers what is taken is the caller's business.

use std::{collections::BTreeSet, net::Ipv4Addr};

use ipnet::Ipv4Net;

/// The addresses of a subnet that sandboxes may have: not the network, the broadcast, nor the gateway.
#[derive(Clone, Copy, Debug)]
pub struct Pool {
    first: u32,
    last: u32,
    gateway: u32,
}

impl Pool {
    /// The pool of a subnet.
    pub fn new(subnet: Ipv4Net, gateway: Ipv4Addr) -> Self {
        let (network, broadcast) = (u32::from(subnet.network()), u32::from(subnet.broadcast()));
        let (first, last) = (network.saturating_add(1), broadcast.saturating_sub(1));
        Self { first, last, gateway: gateway.into() }
    }

    /// The first free address after `after`, going round: an address that was given back rests for as long as
    /// possible. `None` if all are taken.
    pub fn allocate(
        &self,
        taken: &BTreeSet<Ipv4Addr>,
        after: Option<Ipv4Addr>,
    ) -> Option<Ipv4Addr> {
        if self.first > self.last {
            return None;
        }
        let start = after.map_or(self.first, |it| u32::from(it).saturating_add(1));
        let start = start.clamp(self.first, self.last.saturating_add(1));
        let mut order = (start..=self.last).chain(self.first..start.min(self.last + 1));
        order.find(|it| self.is_free(*it, taken)).map(Ipv4Addr::from)
    }

    /// Whether an address may be given out.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        let address = u32::from(address);
        (self.first..=self.last).contains(&address) && address != self.gateway
    }

    /// How many addresses there are in all.
    pub fn size(&self) -> usize {
        let all = u64::from(self.last).saturating_sub(u64::from(self.first)) + 1;
        let all = if self.first > self.last { 0 } else { all };
        let taken = u64::from((self.first..=self.last).contains(&self.gateway));
        usize::try_from(all - taken).unwrap_or(usize::MAX)
    }

    fn is_free(&self, address: u32, taken: &BTreeSet<Ipv4Addr>) -> bool {
        address != self.gateway && !taken.contains(&Ipv4Addr::from(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(
        subnet: &str,
        gateway: &str,
        taken: &[&str],
        after: Option<&str>,
        expect: Option<&str>,
    ) {
        let pool = Pool::new(subnet.parse().unwrap(), gateway.parse().unwrap());
        let taken = taken.iter().map(|it| it.parse().unwrap()).collect();
        let found = pool.allocate(&taken, after.map(|it| it.parse().unwrap()));
        assert_eq!(found.map(|it| it.to_string()).as_deref(), expect, "{subnet} {after:?}");
    }

    #[test]
    fn goes_round_and_skips_what_is_not_free() {
        check("10.0.0.0/24", "10.0.0.1", &[], None, Some("10.0.0.2"));
        check("10.0.0.0/24", "10.0.0.1", &["10.0.0.2", "10.0.0.3"], None, Some("10.0.0.4"));
        check("10.0.0.0/24", "10.0.0.1", &[], Some("10.0.0.9"), Some("10.0.0.10"));
        check("10.0.0.0/24", "10.0.0.1", &[], Some("10.0.0.254"), Some("10.0.0.2"));
        check("10.0.0.0/24", "10.0.0.1", &[], Some("10.0.0.255"), Some("10.0.0.2"));
        check("10.0.0.0/24", "10.0.0.1", &[], Some("11.0.0.1"), Some("10.0.0.2"));
        check("10.0.0.0/24", "10.0.0.1", &[], Some("9.0.0.1"), Some("10.0.0.2"));
        check("10.0.0.0/29", "10.0.0.6", &["10.0.0.5"], Some("10.0.0.4"), Some("10.0.0.1"));
    }

    #[test]
    fn small_and_full_pools_have_an_end() {
        check("10.0.0.0/30", "10.0.0.1", &[], None, Some("10.0.0.2"));
        check("10.0.0.0/30", "10.0.0.1", &["10.0.0.2"], Some("10.0.0.2"), None);
        check("10.0.0.0/31", "10.0.0.0", &[], None, None);
        check("10.0.0.0/32", "10.0.0.0", &[], None, None);
        check(
            "255.255.255.252/30",
            "255.255.255.253",
            &[],
            Some("255.255.255.254"),
            Some("255.255.255.254"),
        );
    }

    #[test]
    fn every_address_is_given_once() {
        let pool = Pool::new("10.0.0.0/26".parse().unwrap(), "10.0.0.1".parse().unwrap());
        let mut taken = BTreeSet::new();
        let mut last = None;
        while let Some(address) = pool.allocate(&taken, last) {
            assert!(pool.contains(address) && taken.insert(address));
            last = Some(address);
        }
        assert_eq!((taken.len(), pool.size()), (61, 61));
    }
}
