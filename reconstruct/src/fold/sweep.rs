//! What time alone does: gaps become certain, the silent is given up. Driven by capture times, never by a clock.

use super::engine::{Fold, facts_of};
use super::flows::{Flow, Role};
use crate::model::SessionEnd;
use crate::tcp::Side;
use capture::CaptureTime;
use hashbrown::HashSet;
use std::time::Duration;

/// How often sources and connections are looked after.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// How often the idle are looked for.
const EXPIRY_EVERY: Duration = Duration::from_secs(10);
/// A step of capture time further than this, with nothing captured between, says nothing about who is idle: the clock was set,
/// or the capture rested.
const STEP_FORWARD_NANOS: i64 = 10_000_000_000;
/// Capture times can be this much out of order without the clock having been set.
const STEP_BACK_NANOS: i64 = 5_000_000_000;

/// A packet of this time was captured.
#[inline]
pub fn tick(fold: &mut Fold, time: CaptureTime) {
    if fold.now == CaptureTime::MIN {
        fold.now = time;
        fold.next_sweep = time.plus(SWEEP_EVERY);
        fold.next_expiry = time.plus(EXPIRY_EVERY);
        return;
    }
    let step = time.nanos_since(fold.now);
    if step > STEP_FORWARD_NANOS {
        shift(fold, step - STEP_FORWARD_NANOS);
        fold.now = time;
    } else if step < -STEP_BACK_NANOS {
        shift(fold, step);
        fold.now = time;
    } else {
        fold.now = fold.now.max(time);
    }
    if fold.now >= fold.next_sweep {
        fold.next_sweep = fold.now.plus(SWEEP_EVERY);
        sweep(fold);
    }
    if fold.now >= fold.next_expiry {
        fold.next_expiry = fold.now.plus(EXPIRY_EVERY);
        expire(fold);
    }
}

/// Moves all that remembers when it was last seen along with the clock.
fn shift(fold: &mut Fold, nanos: i64) {
    let moved = |t: CaptureTime| CaptureTime::from_nanos(t.nanos().saturating_add(nanos));
    for (_, flow) in fold.flows.iter_mut() {
        flow.last = moved(flow.last);
    }
    for (_, conversation) in fold.conversations.iter_mut() {
        conversation.last = moved(conversation.last);
    }
    for (_, datagrams) in fold.datagrams.iter_mut() {
        datagrams.last = moved(datagrams.last);
    }
    for (_, session) in fold.world.sessions.iter_mut() {
        session.last = moved(session.last);
    }
    for (_, track) in fold.world.tracks.iter_mut() {
        for source in &mut track.sources {
            source.last = moved(source.last);
        }
    }
    fold.next_sweep = moved(fold.next_sweep);
    fold.next_expiry = moved(fold.next_expiry);
}

fn sweep(fold: &mut Fold) {
    let Fold { conversations, flows, world, tcp_limits, now, .. } = fold;
    for (_, conversation) in conversations.iter_mut() {
        conversation.handle_timeout(tcp_limits, *now, flows, world);
    }
    world.sweep_sources(*now);
}

fn expire(fold: &mut Fold) {
    let limits = fold.world.limits;
    let now = fold.now;
    let since = |idle| now.minus(idle);
    let idle: Vec<u32> = fold
        .conversations
        .iter()
        .filter(|(_, c)| c.last < since(limits.connection_idle))
        .map(|(at, _)| at)
        .collect();
    for at in idle {
        remove_conversation(fold, at, SessionEnd::Idle);
    }
    let idle: Vec<u32> =
        fold.datagrams.iter().filter(|(_, d)| d.last < since(limits.flow_idle)).map(|(at, _)| at).collect();
    settle_datagrams(fold, |at| idle.binary_search(&at).is_ok());
    for &at in &idle {
        fold.datagrams.remove(at);
    }
    if !idle.is_empty() {
        for (_, flow) in fold.flows.iter_mut() {
            if let Role::Udp(at) = flow.role
                && idle.binary_search(&at).is_ok()
            {
                flow.role = Role::New;
            }
        }
    }
    end_idle_sessions(fold, now);
    forget_sessions(fold, now);
    fold.world.left.expire(now);
    note_kinds(fold);
    let Fold { flows, world, hasher, .. } = fold;
    flows.expire(since(limits.flow_idle), hasher, &mut world.out.batch);
}

/// No more datagrams will come of these.
fn settle_datagrams(fold: &mut Fold, which: impl Fn(u32) -> bool) {
    let of_flow = |(place, flow): (u32, &mut Flow)| match flow.role {
        Role::Udp(at) if which(at) => Some((place, at)),
        _ => None,
    };
    let of_flows: Vec<(u32, u32)> = fold.flows.iter_mut().filter_map(of_flow).collect();
    let Fold { flows, datagrams, world, .. } = fold;
    for (place, at) in of_flows {
        let Some(datagrams) = datagrams.get_mut(at) else { continue };
        let (sender, receiver) = (datagrams.sender, datagrams.receiver);
        datagrams.settle(|| facts_of(flows, place, sender, receiver), world);
    }
}

fn end_idle_sessions(fold: &mut Fold, now: CaptureTime) {
    let before = now.minus(fold.world.limits.session_idle);
    let idle = fold.world.sessions.iter().filter(|(_, s)| s.row.ended.is_none() && s.last < before);
    let idle: Vec<u32> = idle.map(|(at, _)| at).collect();
    for at in idle {
        // A dialogue that rests over an open connection goes on when media does.
        fold.world.end_session(at, SessionEnd::Idle, now);
    }
}

/// Forgets sessions that are over and that nothing refers to any more.
fn forget_sessions(fold: &mut Fold, now: CaptureTime) {
    let world = &fold.world;
    let mut wanted: HashSet<u32> = HashSet::new();
    let session_of = |track: u32| world.tracks.get(track).map(|t| t.session);
    for (_, conversation) in fold.conversations.iter() {
        wanted.extend(conversation.session());
        wanted.extend(conversation.inferred_tracks().filter_map(session_of));
    }
    for (_, datagrams) in fold.datagrams.iter() {
        wanted.extend(datagrams.sessions());
        wanted.extend(datagrams.tracks().filter_map(session_of));
    }
    let over: Vec<u32> = world.sessions.iter().map(|(at, _)| at).filter(|at| !wanted.contains(at)).collect();
    for at in over {
        fold.world.end_session(at, SessionEnd::Idle, now);
        fold.world.remove_session(at, now);
    }
}

fn remove_conversation(fold: &mut Fold, at: u32, end: SessionEnd) {
    let Some(mut conversation) = fold.conversations.remove(at) else { return };
    conversation.finish(end, &fold.flows, &mut fold.world);
    conversation.forget(&mut fold.world);
    for (side, flow) in conversation.sides() {
        let kind = conversation.kind(side, &fold.world);
        if let Some(flow) = fold.flows.get_mut(flow) {
            flow.role = Role::New;
            flow.set_kind(kind);
        }
    }
}

/// Tells the flows what they have turned out to be.
pub fn note_kinds(fold: &mut Fold) {
    let Fold { flows, conversations, datagrams, world, .. } = fold;
    for (_, flow) in flows.iter_mut() {
        match flow.role {
            Role::Udp(at) => {
                if let Some(d) = datagrams.get(at) {
                    flow.set_kind(d.kind());
                }
            }
            Role::Tcp { conversation, from_a } => {
                if let Some(c) = conversations.get(conversation) {
                    flow.set_kind(c.kind(if from_a { Side::A } else { Side::B }, world));
                }
            }
            Role::New | Role::Ignored => {}
        }
    }
}

/// The end: everything open is closed and forgotten, streams stay.
pub fn end_all(fold: &mut Fold, end: SessionEnd) {
    if fold.now != CaptureTime::MIN {
        fold.world.left.expire(fold.now);
    }
    let all: Vec<u32> = fold.conversations.iter().map(|(at, _)| at).collect();
    for at in all {
        remove_conversation(fold, at, end);
    }
    settle_datagrams(fold, |_| true);
    note_kinds(fold);
    let now = fold.now;
    let all: Vec<u32> = fold.world.sessions.iter().map(|(at, _)| at).collect();
    for at in all {
        fold.world.end_session(at, end, now);
        fold.world.remove_session(at, now);
    }
    fold.datagrams = super::slab::Slab::default();
    fold.world.early = 0;
    let Fold { flows, world, .. } = fold;
    world.put_open();
    flows.put_open(&mut world.out.batch);
    *flows = super::flows::Flows::default();
}
