//! A pcap or pcapng file, handed in pieces.
#![no_main]
use capture::{FileParser, Step};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut parser = FileParser::default();
    let mut at = 0;
    // Every step but the end and a damage uses bytes; a step that does not would be an endless loop.
    for _ in 0..2 * data.len() + 8 {
        let step = parser.next(&data[at..], true);
        let (Ok(step), consumed) = (step, parser.consumed()) else { return };
        if matches!(step, Step::End) {
            return;
        }
        at += consumed;
        assert!(at <= data.len());
    }
    panic!("the parser stands still");
});
