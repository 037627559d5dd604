//! Cutting a cluster's range into equal pieces, and finding one that is free: pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Most bits between the cluster's mask and a node's, as upstream: 65,536 nodes.
const MAX_BITS: u8 = 16;

/// A cluster's range with the mask of its pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    cluster: IpNet,
    mask: u8,
}

impl Range {
    /// `None` if the mask does not fit the range.
    pub fn new(cluster: IpNet, mask: u8) -> Option<Self> {
        let bits = mask.checked_sub(cluster.prefix_len())?;
        (bits <= MAX_BITS && mask <= cluster.max_prefix_len()).then_some(Self { cluster: cluster.trunc(), mask })
    }

    fn pieces(&self) -> u32 {
        1 << (self.mask - self.cluster.prefix_len())
    }

    fn piece(&self, index: u32) -> Option<IpNet> {
        let shift = u32::from(self.cluster.max_prefix_len() - self.mask);
        let address = match self.cluster.network() {
            IpAddr::V4(base) => {
                IpAddr::V4(Ipv4Addr::from(u32::from(base).checked_add(index.checked_shl(shift).unwrap_or(0))?))
            }
            IpAddr::V6(base) => IpAddr::V6(Ipv6Addr::from(u128::from(base).checked_add(u128::from(index) << shift)?)),
        };
        IpNet::new(address, self.mask).ok()
    }
}

/// The first piece that overlaps nothing that is used.
pub fn pick(range: &Range, used: &[IpNet]) -> Option<IpNet> {
    let overlaps = |piece: &IpNet| used.iter().any(|other| piece.contains(other) || other.contains(piece));
    (0..range.pieces()).filter_map(|index| range.piece(index)).find(|piece| !overlaps(piece))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn pieces_are_given_in_order_around_what_is_used() {
        let range = Range::new(net("10.244.0.0/16"), 24).unwrap();
        assert_eq!(pick(&range, &[]), Some(net("10.244.0.0/24")));
        assert_eq!(pick(&range, &[net("10.244.0.0/24"), net("10.244.1.128/25")]), Some(net("10.244.2.0/24")));
        assert_eq!(pick(&range, &[net("10.244.0.0/17")]), Some(net("10.244.128.0/24")));
        assert_eq!(pick(&range, &[net("10.0.0.0/8")]), None);
    }

    #[test]
    fn six_bit_addresses_and_whole_ranges_work() {
        let range = Range::new(net("fd00:10:244::/56"), 64).unwrap();
        assert_eq!(pick(&range, &[net("fd00:10:244::/64")]), Some(net("fd00:10:244:1::/64")));
        let whole = Range::new(net("10.1.0.0/24"), 24).unwrap();
        assert_eq!(pick(&whole, &[]), Some(net("10.1.0.0/24")));
        assert_eq!(Range::new(net("10.0.0.0/8"), 25), None);
        assert_eq!(Range::new(net("10.0.0.0/24"), 16), None);
    }
}
