//! Which thread goes first where there are fewer cores than threads: the taps, whose packets wait for nobody; everything else after them.

use rustix::process::{Resource, Rlimit, getpriority_process, getrlimit, setpriority_process, setrlimit};

/// A tap's `nice`, where the system allows it.
const TAP: i32 = -10;

/// Makes the calling thread give way to those that can't wait: `nice` from 1 to 19, as for the command of that name.
pub fn lower_priority(nice: i32) {
    set_nice(|now| now.max(nice));
}

/// Prefers the calling thread, if that is allowed.
pub(crate) fn tap_priority() {
    set_nice(|now| now.min(TAP));
}

/// Relative to what the whole process was given.
fn set_nice(change: impl Fn(i32) -> i32) {
    let thread = Some(rustix::thread::gettid());
    // Where that is forbidden it is as important as everything else.
    let _ = getpriority_process(thread).and_then(|now| setpriority_process(thread, change(now)));
}

/// Keeps the right to prefer taps when all other privileges are given up (`setrlimit(2)`, RLIMIT_NICE): nothing else can be done with it.
pub(crate) fn keep_tap_priority() {
    let wanted = (20 - TAP) as u64;
    let now = getrlimit(Resource::Nice);
    // Without the privilege only as far as the upper limit goes; then taps are as important as everything else.
    if now.current.is_some_and(|current| current < wanted) {
        let maximum = now.maximum.map(|most| most.max(wanted));
        let _ = setrlimit(Resource::Nice, Rlimit { current: Some(wanted), maximum });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_changes_its_own_priority_and_no_other() {
        let own = || getpriority_process(Some(rustix::thread::gettid())).unwrap();
        let before = own();
        let (lower, tap) = std::thread::spawn(move || {
            lower_priority(before + 1);
            lower_priority(before);
            let lower = own();
            tap_priority();
            (lower, own())
        })
        .join()
        .unwrap();
        assert_eq!(lower, (before + 1).min(19));
        assert!(tap == TAP.min(before) || tap == lower, "{tap}: allowed or not");
        assert_eq!(own(), before);
    }
}
