//! Text that comes from others, made safe to show on a terminal or in a log.

/// `text` with every control character (and the ones that change the direction of writing) shown as an escape.
pub fn printable(text: &str) -> String {
    let harmless =
        |c: char| !c.is_control() && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
    text.chars().flat_map(|c| if harmless(c) { vec![c] } else { c.escape_unicode().collect() }).collect()
}

/// The first `limit` bytes of what a program printed, as one printable line without white space at the ends of lines.
pub fn excerpt(output: &[u8], limit: usize) -> String {
    let text = String::from_utf8_lossy(&output[..output.len().min(limit)]);
    text.lines().map(|line| printable(line.trim())).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_printed_becomes_one_line() {
        assert_eq!(excerpt(b"\n a:\n\tis \x1b[2J there?\r\n\n", 100), "a:; is \\u{1b}[2J there?");
        assert_eq!(excerpt(b"abc", 2), "ab");
    }
}
