//! One request, one response: bytes in, bytes out. The cluster's names from the zone, all others from upstream.

use crate::metrics::Metrics;
use crate::upstream::Upstream;
use crate::zone::{self, Lookup, RecordData, Zone};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use parking_lot::RwLock;
use rand::seq::SliceRandom;
use std::net::IpAddr;
use std::sync::Arc;

/// What fits into a UDP packet for a client that says nothing of its limit (RFC 1035).
const PLAIN_UDP: u16 = 512;
/// The largest UDP answer: below the size at which packets are cut into fragments, which get lost.
pub const MAX_UDP: u16 = 1232;
/// How often a CNAME is followed.
const MAX_ALIASES: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Udp,
    Tcp,
}

pub struct Resolver {
    pub zone: Arc<RwLock<Zone>>,
    pub upstream: Upstream,
    pub metrics: Metrics,
}

impl Resolver {
    /// `None` for what deserves no answer: it is not a request, or too short to answer to.
    pub async fn respond(&self, request: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let parsed = Message::from_vec(request);
        let Ok(request) = parsed else { return malformed(request) };
        if request.metadata.message_type != MessageType::Query {
            return None;
        }
        let mut response = self.answer(&request).await;
        finish(&request, &mut response);
        self.metrics.answered(transport, response.metadata.response_code);
        encode(response, limit(&request, transport))
    }

    async fn answer(&self, request: &Message) -> Message {
        let refused = |code| Message::error_msg(request.metadata.id, request.metadata.op_code, code);
        if request.metadata.op_code != OpCode::Query {
            return refused(ResponseCode::NotImp);
        }
        if request.edns.as_ref().is_some_and(|e| e.version() > 0) {
            return refused(ResponseCode::BADVERS);
        }
        let [query] = request.queries.as_slice() else { return refused(ResponseCode::FormErr) };
        if query.query_class() != DNSClass::IN {
            return refused(ResponseCode::Refused);
        }
        match self.look_up(query.name()) {
            Lookup::Elsewhere if request.metadata.recursion_desired => self.forward(query, request).await,
            Lookup::Elsewhere => refused(ResponseCode::Refused),
            Lookup::NoName => self.negative(request, ResponseCode::NXDomain),
            Lookup::Records { records, additional } => self.positive(request, query, records, additional).await,
        }
    }

    fn look_up(&self, name: &Name) -> Lookup {
        let zone = self.zone.read();
        if let Ok(net) = name.parse_arpa_name()
            && net.prefix_len() == net.max_prefix_len()
        {
            return zone.reverse(net.addr());
        }
        zone.lookup(text(name).as_str())
    }

    async fn forward(&self, query: &Query, request: &Message) -> Message {
        let dnssec = request.edns.as_ref().is_some_and(|e| e.flags().dnssec_ok);
        let mut response = self.upstream.resolve(query, dnssec).await;
        response.metadata.authoritative = false;
        response
    }

    async fn positive(
        &self,
        request: &Message,
        query: &Query,
        records: Vec<zone::Record>,
        additional: Vec<zone::Record>,
    ) -> Message {
        let alias = records.iter().find_map(|r| match &r.data {
            RecordData::Cname(target) => Some(target.clone()),
            _ => None,
        });
        let mut response = Message::response(request.metadata.id, OpCode::Query);
        response.metadata.authoritative = true;
        response.answers = self.encode_records(query, &records);
        if let Some(target) = alias {
            if !matches!(query.query_type(), RecordType::CNAME) {
                self.follow(&mut response, query, request, target).await;
            }
            return response;
        }
        if query.name().num_labels() > 0 && text(query.name()) == self.zone.read().domain() {
            response.answers.extend(self.soa().filter(|_| wants(query, RecordType::SOA)));
        }
        response.answers.shuffle(&mut rand::rng());
        if response.answers.is_empty() {
            response.authorities.extend(self.soa());
        } else if matches!(query.query_type(), RecordType::SRV) {
            response.additionals = self.encode_all(query, &additional);
        }
        response
    }

    /// Adds what a CNAME's target has, from the zone or from upstream.
    async fn follow(&self, response: &mut Message, query: &Query, request: &Message, target: String) {
        let mut target = target;
        for _ in 0..MAX_ALIASES {
            let Ok(name) = Name::from_ascii(format!("{target}.")) else { return };
            let mut question = query.clone();
            question.set_name(name.clone());
            match self.look_up(&name) {
                Lookup::Elsewhere => {
                    let found = self.forward(&question, request).await;
                    response.metadata.response_code = found.metadata.response_code;
                    response.answers.extend(found.answers);
                    return;
                }
                Lookup::NoName => {
                    response.metadata.response_code = ResponseCode::NXDomain;
                    return;
                }
                Lookup::Records { records, .. } => {
                    response.answers.extend(self.encode_records(&question, &records));
                    let next = records.into_iter().find_map(|r| match r.data {
                        RecordData::Cname(target) => Some(target),
                        _ => None,
                    });
                    match next {
                        Some(next) => target = next,
                        None => return,
                    }
                }
            }
        }
    }

    fn negative(&self, request: &Message, code: ResponseCode) -> Message {
        let mut response = Message::error_msg(request.metadata.id, OpCode::Query, code);
        response.metadata.authoritative = true;
        response.authorities.extend(self.soa());
        response
    }

    /// Those of the records that were asked for; a CNAME answers for every type.
    fn encode_records(&self, query: &Query, records: &[zone::Record]) -> Vec<Record> {
        let all = self.encode_all(query, records);
        all.into_iter().filter(|r| r.record_type() == RecordType::CNAME || wants(query, r.record_type())).collect()
    }

    fn encode_all(&self, query: &Query, records: &[zone::Record]) -> Vec<Record> {
        let ttl = self.zone.read().ttl();
        records
            .iter()
            .filter_map(|r| {
                let owner = match r.name.as_str() {
                    "" => query.name().clone(),
                    name => name_of(name)?,
                };
                Some(Record::from_rdata(owner, ttl, data(&r.data)?))
            })
            .collect()
    }

    /// The start of authority, which tells clients for how long they may remember that there is nothing.
    fn soa(&self) -> impl Iterator<Item = Record> + use<> {
        let zone = self.zone.read();
        let (ttl, serial) = (zone.ttl(), zone.serial());
        let names = [zone.domain().to_owned(), zone.name_server(), format!("hostmaster.{}", zone.domain())];
        let minimum = ttl;
        let record = (|| {
            let [domain, server, person] = names.map(|n| name_of(&n));
            let soa = SOA::new(server?, person?, serial, 7200, 1800, 86_400, minimum);
            Some(Record::from_rdata(domain?, ttl, RData::SOA(soa)))
        })();
        record.into_iter()
    }
}

fn wants(query: &Query, kind: RecordType) -> bool {
    query.query_type() == kind || query.query_type() == RecordType::ANY
}

/// A name in lower case, without the dot at its end.
pub fn text(name: &Name) -> String {
    let mut text = name.to_ascii().to_ascii_lowercase();
    if text.ends_with('.') {
        text.pop();
    }
    text
}

/// A name that cannot be written on the wire (a label too long) has no record.
fn name_of(text: &str) -> Option<Name> {
    Name::from_ascii(format!("{text}.")).ok()
}

fn data(data: &RecordData) -> Option<RData> {
    Some(match data {
        RecordData::Address(IpAddr::V4(ip)) => RData::A(A(*ip)),
        RecordData::Address(IpAddr::V6(ip)) => RData::AAAA(AAAA(*ip)),
        RecordData::Srv(port, weight, target) => RData::SRV(SRV::new(0, *weight, *port, name_of(target)?)),
        RecordData::Ptr(name) => RData::PTR(PTR(name_of(name)?)),
        RecordData::Cname(name) => RData::CNAME(CNAME(name_of(name)?)),
        RecordData::Txt(text) => RData::TXT(TXT::new(vec![text.clone()])),
        RecordData::Ns(name) => RData::NS(NS(name_of(name)?)),
    })
}

/// What every response repeats of its request.
fn finish(request: &Message, response: &mut Message) {
    response.metadata.id = request.metadata.id;
    response.metadata.message_type = MessageType::Response;
    response.metadata.op_code = request.metadata.op_code;
    response.metadata.recursion_desired = request.metadata.recursion_desired;
    response.metadata.recursion_available = true;
    response.metadata.checking_disabled = request.metadata.checking_disabled;
    response.queries = request.queries.clone();
    response.edns = request.edns.as_ref().map(|asked| {
        let mut edns = Edns::new();
        edns.set_max_payload(MAX_UDP);
        edns.set_dnssec_ok(asked.flags().dnssec_ok);
        edns
    });
}

fn limit(request: &Message, transport: Transport) -> usize {
    match transport {
        Transport::Tcp => usize::from(u16::MAX),
        Transport::Udp => {
            let asked = request.edns.as_ref().map_or(PLAIN_UDP, Edns::max_payload);
            usize::from(asked.clamp(PLAIN_UDP, MAX_UDP))
        }
    }
}

/// Fits a response into `limit`: first without what is only additional, then with fewer answers and the mark that says so.
fn encode(mut response: Message, limit: usize) -> Option<Vec<u8>> {
    loop {
        match response.to_vec() {
            Ok(bytes) if bytes.len() <= limit => return Some(bytes),
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, "a response cannot be encoded");
                response.answers.clear();
                response.metadata.response_code = ResponseCode::ServFail;
            }
        }
        if !response.additionals.is_empty() {
            response.additionals.clear();
        } else if response.answers.pop().is_some() {
            response.metadata.truncation = true;
        } else if !response.authorities.is_empty() {
            response.authorities.clear();
        } else {
            return None;
        }
    }
}

/// "Malformed" for a request whose header can be read.
fn malformed(request: &[u8]) -> Option<Vec<u8>> {
    let [first, second, flags, ..] = *request else { return None };
    let is_request = request.len() >= 12 && flags & 0x80 == 0;
    if !is_request {
        return None;
    }
    let id = u16::from_be_bytes([first, second]);
    Message::error_msg(id, OpCode::Query, ResponseCode::FormErr).to_vec().ok()
}
