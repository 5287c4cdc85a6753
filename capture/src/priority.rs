//! Which thread goes first where there are fewer cores than threads: the taps, whose packets wait for nobody; everything else after them.

use rustix::process::{Resource, Rlimit, getrlimit, setpriority_process, setrlimit};

/// A tap's `nice`, where the system allows it.
const TAP: i32 = -10;

/// Makes the calling thread give way to those that can't wait: `nice` from 1 to 19, as for the command of that name.
pub fn lower_priority(nice: i32) {
    set_nice(nice);
}

fn set_nice(nice: i32) {
    // Where that is forbidden it is as important as everything else.
    let _ = setpriority_process(Some(rustix::thread::gettid()), nice);
}

/// Keeps the right to prefer taps when all other privileges are given up (`setrlimit(2)`, RLIMIT_NICE): nothing else can be done with it.
pub(crate) fn keep_tap_priority() {
    let wanted = Some((20 - TAP) as u64);
    let now = getrlimit(Resource::Nice);
    // Not for those who may not: their taps are as important as everything else.
    if now.maximum.is_some_and(|most| Some(most) < wanted) {
        let _ = setrlimit(Resource::Nice, Rlimit { current: wanted, maximum: wanted });
    }
}

/// Prefers the calling thread, if that is allowed.
pub(crate) fn tap_priority() {
    set_nice(TAP);
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::getpriority_process;

    #[test]
    fn a_thread_changes_its_own_priority_and_no_other() {
        let own = || getpriority_process(Some(rustix::thread::gettid())).unwrap();
        let before = own();
        let (lower, tap) = std::thread::spawn(move || {
            lower_priority(before + 5);
            let lower = own();
            tap_priority();
            (lower, own())
        })
        .join()
        .unwrap();
        assert_eq!(lower, before + 5);
        assert!(tap == TAP || tap == lower, "{tap}: allowed or not");
        assert_eq!(own(), before);
    }
}
