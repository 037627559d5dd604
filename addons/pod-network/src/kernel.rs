//! The kernel's links, addresses and routes behind one narrow trait.

use async_trait::async_trait;
use futures::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use rtnetlink::packet_route::link::{InfoBridge, LinkMessage};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol};
use rtnetlink::{Handle, LinkBridge, RouteMessageBuilder};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The mark of our routes, among those of other programs (`proto` in `ip route`).
const PROTOCOL: u8 = 75;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot open a netlink socket")]
    Socket(#[source] std::io::Error),
    #[error("{what} failed")]
    Netlink {
        what: String,
        #[source]
        source: Box<rtnetlink::Error>,
    },
}

#[async_trait]
pub trait Kernel: Send + Sync {
    /// Makes the bridge, with exactly these addresses, and with its traffic shown to the IP rules: an answer between two Pods of the node
    /// must pass the translation that its question passed.
    async fn ensure_bridge(&self, name: &str, mtu: Option<u32>, addresses: &[IpNet]) -> Result<(), Error>;
    async fn remove_link(&self, name: &str) -> Result<(), Error>;
    /// The routes that bear our mark.
    async fn routes(&self) -> Result<BTreeMap<IpNet, IpAddr>, Error>;
    async fn replace_route(&self, to: IpNet, via: IpAddr) -> Result<(), Error>;
    async fn delete_route(&self, to: IpNet, via: IpAddr) -> Result<(), Error>;
}

/// The kernel itself, by rtnetlink, in the network namespace of the thread that connects.
pub struct Netlink {
    handle: Handle,
}

impl Netlink {
    /// Must be called within a tokio runtime: a task of its own reads the socket.
    pub fn connect() -> Result<Self, Error> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(Error::Socket)?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    async fn link(&self, name: &str) -> Result<Option<LinkMessage>, Error> {
        let mut links = self.handle.link().get().match_name(name).execute();
        match links.try_next().await {
            Ok(link) => Ok(link),
            Err(error) if is(&error, nix::errno::Errno::ENODEV) => Ok(None),
            Err(error) => Err(failed(format!("looking for {name}"), error)),
        }
    }

    async fn set_addresses(&self, name: &str, index: u32, wanted: &[IpNet]) -> Result<(), Error> {
        let listed = self.handle.address().get().set_link_index_filter(index).execute();
        let listed: Vec<AddressMessage> =
            listed.try_collect().await.map_err(|e| failed(format!("listing addresses of {name}"), e))?;
        let mut present = Vec::new();
        for message in listed {
            let Some(address) = address_of(&message) else { continue };
            if wanted.contains(&address) {
                present.push(address);
            } else if message.header.scope == AddressScope::Universe {
                let what = format!("removing {address} from {name}");
                self.handle.address().del(message).execute().await.map_err(|e| failed(what, e))?;
            }
        }
        for address in wanted.iter().filter(|a| !present.contains(a)) {
            let add = self.handle.address().add(index, address.addr(), address.prefix_len());
            add.execute().await.map_err(|e| failed(format!("adding {address} to {name}"), e))?;
        }
        Ok(())
    }
}

#[async_trait]
impl Kernel for Netlink {
    async fn ensure_bridge(&self, name: &str, mtu: Option<u32>, addresses: &[IpNet]) -> Result<(), Error> {
        let link = || {
            let link = LinkBridge::new(name)
                .append_info_data(InfoBridge::NfCallIpTables(true))
                .append_info_data(InfoBridge::NfCallIp6Tables(true));
            match mtu {
                Some(mtu) => link.mtu(mtu),
                None => link,
            }
            .build()
        };
        if self.link(name).await?.is_none() {
            let added = self.handle.link().add(link()).execute().await;
            added.map_err(|e| failed(format!("adding the bridge {name}"), e))?;
        } else {
            let changed = self.handle.link().change(link()).execute().await;
            changed.map_err(|e| failed(format!("changing the bridge {name}"), e))?;
        }
        let Some(link) = self.link(name).await? else {
            return Err(failed(format!("finding the bridge {name}"), rtnetlink::Error::RequestFailed));
        };
        self.set_addresses(name, link.header.index, addresses).await
    }

    async fn remove_link(&self, name: &str) -> Result<(), Error> {
        let Some(link) = self.link(name).await? else { return Ok(()) };
        let removed = self.handle.link().del(link.header.index).execute().await;
        removed.map_err(|e| failed(format!("removing {name}"), e))
    }

    async fn routes(&self) -> Result<BTreeMap<IpNet, IpAddr>, Error> {
        let mut ours = BTreeMap::new();
        let questions =
            [RouteMessageBuilder::<Ipv4Addr>::new().build(), RouteMessageBuilder::<Ipv6Addr>::new().build()];
        for question in questions {
            let routes = self.handle.route().get(question).execute();
            let routes: Vec<RouteMessage> =
                routes.try_collect().await.map_err(|e| failed("listing routes".into(), e))?;
            ours.extend(routes.iter().filter_map(our_route));
        }
        Ok(ours)
    }

    async fn replace_route(&self, to: IpNet, via: IpAddr) -> Result<(), Error> {
        let request = self.handle.route().add(route(to, via)?).replace();
        request.execute().await.map_err(|e| failed(format!("setting the route to {to} via {via}"), e))
    }

    async fn delete_route(&self, to: IpNet, via: IpAddr) -> Result<(), Error> {
        match self.handle.route().del(route(to, via)?).execute().await {
            Err(error) if !is(&error, nix::errno::Errno::ESRCH) => {
                Err(failed(format!("removing the route to {to} via {via}"), error))
            }
            _ => Ok(()),
        }
    }
}

fn failed(what: String, source: rtnetlink::Error) -> Error {
    Error::Netlink { what, source: Box::new(source) }
}

fn is(error: &rtnetlink::Error, errno: nix::errno::Errno) -> bool {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.raw_code() == -(errno as i32),
        _ => false,
    }
}

/// The plan pairs addresses of one family; for others there is no route.
fn route(to: IpNet, via: IpAddr) -> Result<RouteMessage, Error> {
    let mixed = || failed(format!("making a route to {to} via {via}"), rtnetlink::Error::RequestFailed);
    let route = RouteMessageBuilder::<IpAddr>::new().destination_prefix(to.addr(), to.prefix_len());
    let route = route.and_then(|r| r.gateway(via)).map_err(|_| mixed())?;
    Ok(route.protocol(RouteProtocol::from(PROTOCOL)).build())
}

fn our_route(message: &RouteMessage) -> Option<(IpNet, IpAddr)> {
    if message.header.protocol != RouteProtocol::from(PROTOCOL) {
        return None;
    }
    let (mut to, mut via) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => to = ip_of(address),
            RouteAttribute::Gateway(address) => via = ip_of(address),
            _ => {}
        }
    }
    Some((IpNet::new(to?, message.header.destination_prefix_length).ok()?, via?))
}

fn ip_of(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some((*ip).into()),
        RouteAddress::Inet6(ip) => Some((*ip).into()),
        _ => None,
    }
}

fn address_of(message: &AddressMessage) -> Option<IpNet> {
    // For IPv4 the local address is the interface's own; for IPv6 there is only the one.
    let wanted = |attribute: &AddressAttribute| match (message.header.family, attribute) {
        (AddressFamily::Inet, AddressAttribute::Local(ip)) => Some(*ip),
        (AddressFamily::Inet6, AddressAttribute::Address(ip)) => Some(*ip),
        _ => None,
    };
    let ip = message.attributes.iter().find_map(wanted)?;
    IpNet::new(ip, message.header.prefix_len).ok()
}
