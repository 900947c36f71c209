//! The pairing code: what two people tell each other so that both know that the same keys were pinned on both sides.
//!
//! It is a digest of the node's answer, which names every key of both sides. Whoever changes a line on the way would have to
//! find another one with the same code: 140 bits, and because the answer holds a nonce of the node's, made after the client's
//! line was there, nothing can be prepared beforehand.

use std::fmt;

/// How many letters a code has, five bits each.
const LETTERS: usize = 28;
/// How many of them stand together.
const GROUP: usize = 4;
/// Crockford's letters: no i, l, o, u, which are taken for others.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Keeps these digests apart from all others.
const CONTEXT: &str = "nightsafe 2026-11-21 pairing code of a client and a node v1";

/// A pairing code of 140 bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Code([u8; LETTERS]);

/// What a code that a person typed is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// The same.
    Same,
    /// The same but for so few letters that they were mistyped.
    Mistyped(usize),
    /// It does not have the letters of a code.
    NoCode,
    /// Another one.
    Other,
}

impl Code {
    /// The code of the node's answer.
    pub(super) fn of(payload: &[u8]) -> Self {
        let digest = blake3::derive_key(CONTEXT, payload);
        let mut letters = [0; LETTERS];
        for (i, letter) in letters.iter_mut().enumerate() {
            let bits = (0..5).fold(0usize, |bits, j| {
                let at = i * 5 + j;
                bits << 1 | usize::from(digest[at / 8] >> (7 - at % 8) & 1)
            });
            *letter = ALPHABET[bits];
        }
        Self(letters)
    }

    /// Holds what a person said against it: in any case, in groups or not, with letters that look alike taken for each other.
    pub fn compare(&self, said: &str) -> Said {
        let letter = |c: char| match c.to_ascii_lowercase() {
            'o' => '0',
            'i' | 'l' => '1',
            other => other,
        };
        let said: Vec<char> = said.chars().filter(|c| !c.is_whitespace() && *c != '-').map(letter).collect();
        if said.len() != LETTERS || !said.iter().all(|c| c.is_ascii() && ALPHABET.contains(&(*c as u8))) {
            return Said::NoCode;
        }
        match said.iter().zip(&self.0).filter(|(said, own)| **said != char::from(**own)).count() {
            0 => Said::Same,
            few @ 1..=3 => Said::Mistyped(few),
            _ => Said::Other,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, letter) in self.0.iter().enumerate() {
            if i > 0 && i % GROUP == 0 {
                f.write_str("-")?;
            }
            write!(f, "{}", char::from(*letter))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_compared_as_people_say_them() {
        let code = Code::of(b"one");
        let text = code.to_string();
        assert_eq!((text.len(), text.matches('-').count()), (34, 6));
        assert_eq!(code, Code::of(b"one"));
        for same in
            [text.clone(), text.to_uppercase(), text.replace('-', ""), text.replace('-', " "), text.replace('0', "O").replace('1', "l")]
        {
            assert_eq!(code.compare(&same), Said::Same, "{same}");
        }
        let other = if text.starts_with('z') { "y" } else { "z" };
        assert_eq!(code.compare(&format!("{other}{}", &text[1..])), Said::Mistyped(1));
        assert_eq!(code.compare(&Code::of(b"two").to_string()), Said::Other);
        for none in ["", "yes", &text[1..], &format!("{text}0"), &text.replacen(&text[..1], "u", 1), &"é".repeat(28)] {
            assert_eq!(code.compare(none), Said::NoCode, "{none}");
        }
    }

    #[test]
    fn every_bit_of_the_payload_counts() {
        let all: std::collections::BTreeSet<String> = (0..64u8).map(|bit| Code::of(&(1u64 << bit).to_be_bytes()).to_string()).collect();
        assert_eq!(all.len(), 64);
    }
}
