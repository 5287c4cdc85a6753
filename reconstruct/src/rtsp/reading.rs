//! What one exchange says, from whichever of its two messages says it.
//!
//! Owns the choice between request and response as the source of each fact, and the transport that the two together agree on.

use std::net::SocketAddr;

use capture::CaptureTime;

use super::event::{Exchange, SessionAt, Transport};
use super::headers::{self, TransportSpec};
use super::message::{Message, Method};

/// An exchange's parts that every event needs.
pub(super) struct Reading<'a> {
    pub(super) server: SocketAddr,
    pub(super) client: SocketAddr,
    pub(super) request: Option<&'a Message>,
    pub(super) response: Option<&'a Message>,
    pub(super) uri: Option<String>,
    pub(super) session: Option<String>,
    pub(super) timeout_s: Option<u32>,
    pub(super) time: CaptureTime,
}

impl<'a> Reading<'a> {
    pub(super) fn of(client: SocketAddr, exchange: &'a Exchange, response: &'a Message) -> Self {
        let mut reading = Self::common(client, exchange);
        reading.response = Some(response);
        let told = response.header("Session").and_then(|v| headers::session(&v));
        if let Some((id, timeout_s)) = told {
            (reading.session, reading.timeout_s) = (Some(id), timeout_s);
        }
        reading
    }

    pub(super) fn offered(client: SocketAddr, exchange: &'a Exchange, request: &'a Message) -> Self {
        Reading { request: Some(request), ..Self::common(client, exchange) }
    }

    fn common(client: SocketAddr, exchange: &'a Exchange) -> Self {
        let request = exchange.request.as_ref();
        let session = request.and_then(|r| headers::session(&r.header("Session")?)).map(|(id, _)| id);
        Reading {
            server: exchange.server,
            client,
            request,
            response: None,
            uri: request.and_then(|r| r.uri()).map(|u| u.into_owned()),
            session,
            timeout_s: None,
            time: exchange.answered.unwrap_or(exchange.began),
        }
    }

    /// The request's method, or what the response's headers make plain.
    pub(super) fn method(&self) -> Option<Method> {
        if let Some(request) = self.request {
            return request.method();
        }
        let response = self.response?;
        let has = |name: &str| response.header(name).is_some();
        let describes =
            || response.header("Content-Type").is_some_and(|t| t.to_ascii_lowercase().contains("sdp"));
        if has("Transport") {
            Some(Method::Setup)
        } else if describes() || response.body().starts_with(b"v=0") {
            Some(Method::Describe)
        } else if has("RTP-Info") || has("Range") && has("Session") {
            Some(Method::Play)
        } else {
            None
        }
    }

    pub(super) fn session_at(&self) -> SessionAt {
        SessionAt { server: self.server, session: self.session.clone(), time: self.time }
    }
}

pub(super) fn transports_of(message: &Message) -> Vec<TransportSpec> {
    message
        .values("Transport")
        .flat_map(|v| headers::transports(&v))
        .take(headers::MAX_ALTERNATIVES)
        .collect()
}

pub(super) fn transport_of(response: Option<&Message>) -> Option<TransportSpec> {
    transports_of(response?).into_iter().next()
}

/// The granted transport, with what it leaves out taken from the one alternative that was asked for.
pub(super) fn completed(mut granted: TransportSpec, asked: &[TransportSpec]) -> TransportSpec {
    let mut same = asked.iter().filter(|a| a.tcp == granted.tcp && a.multicast == granted.multicast);
    if let (Some(asked), None) = (same.next(), same.next()) {
        granted.interleaved = granted.interleaved.or(asked.interleaved);
        granted.client_port = granted.client_port.or(asked.client_port);
        granted.port = granted.port.or(asked.port);
        granted.destination = granted.destination.or(asked.destination);
        granted.record |= asked.record;
        granted.secure |= asked.secure;
    }
    granted
}

pub(super) fn transport(spec: &TransportSpec, reading: &Reading<'_>, published: bool) -> Option<Transport> {
    if spec.tcp {
        let (rtp, rtcp) = spec.interleaved?;
        return Some(Transport::Interleaved { rtp, rtcp });
    }
    let (server, client) = (reading.server.ip(), reading.client.ip());
    if spec.multicast {
        let sender = spec.source.unwrap_or(if published { client } else { server });
        let ports = spec.port.or(spec.server_port).or(spec.client_port);
        return Some(Transport::Multicast { group: spec.destination, ports, ttl: spec.ttl, sender });
    }
    let (server, client) = (spec.source.unwrap_or(server), spec.destination.unwrap_or(client));
    // Some say `multicast` only by the address.
    if client.is_multicast() {
        let ports = spec.port.or(spec.client_port);
        return Some(Transport::Multicast { group: Some(client), ports, ttl: spec.ttl, sender: server });
    }
    let (server_ports, client_ports) = (spec.server_port, spec.client_port);
    Some(if published {
        Transport::Udp {
            sender: reading.client.ip(),
            receiver: reading.server.ip(),
            sender_ports: client_ports,
            receiver_ports: server_ports,
        }
    } else {
        Transport::Udp {
            sender: server,
            receiver: client,
            sender_ports: server_ports,
            receiver_ports: client_ports,
        }
    })
}
