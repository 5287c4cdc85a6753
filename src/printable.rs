//! Text for a terminal. Names of files, interfaces and streams come from others, and a terminal obeys what it is shown: escape
//! sequences colour, move and retitle, a line's end makes a second line that nobody wrote.
//!
//! Applied where text leaves (`console`, `listing`), so that no command has to think of it. JSON has an escaping of its
//! own.

use std::borrow::Cow;

/// `text` with its control characters escaped as Rust writes them (`\n`, `\u{1b}`); everything else is as it was.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if c.is_control() { shown.extend(c.escape_debug()) } else { shown.push(c) }
    }
    shown.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown_and_not_obeyed() {
        assert_eq!(printable("a\x1b[31mred\nb\r\t\0"), r"a\u{1b}[31mred\nb\r\t\0");
        // Delete, and the one character that some terminals take for ESC and `[`.
        assert_eq!(printable("\x7f\u{9b}2J"), r"\u{7f}\u{9b}2J");
    }

    #[test]
    fn other_text_is_as_it_was() {
        for text in ["", "Tür 2.pcap", "門\u{301}.pcap", r"back\slash 'quoted'", "lossy \u{fffd}"] {
            assert!(matches!(printable(text), Cow::Borrowed(same) if same == text), "{text}");
        }
    }
}
