//! The nearest existing names for one that does not exist.
//!
//! Does not know what the names are of.

/// How many are offered.
const OFFERED: usize = 3;

/// The candidates that are most like `wrong`, the nearest first; empty when none is like it.
pub fn nearest<'a>(wrong: &str, candidates: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let mut scored: Vec<(f64, &str)> = candidates
        .into_iter()
        .map(|candidate| {
            let near = strsim::normalized_damerau_levenshtein(wrong, candidate);
            // Whoever leaves out the beginning or the end still means it.
            let part = !wrong.is_empty() && (candidate.contains(wrong) || wrong.contains(candidate));
            (if part { near.max(0.8) } else { near }, candidate)
        })
        .filter(|(score, _)| *score > 0.5)
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    scored.dedup_by(|a, b| a.1 == b.1);
    scored.into_iter().take(OFFERED).map(|(_, name)| name).collect()
}

/// A sentence with the nearest names, or with all of them where there are few.
pub fn hint<'a>(wrong: &str, candidates: impl IntoIterator<Item = &'a str> + Clone) -> String {
    let near = nearest(wrong, candidates.clone());
    if !near.is_empty() {
        return format!("Did you mean {}?", near.join(" or "));
    }
    let mut all: Vec<&str> = candidates.into_iter().collect();
    all.sort_unstable();
    all.dedup();
    match all.len() {
        0 => "There is none yet.".into(),
        1..=10 => format!("There is: {}.", all.join(", ")),
        many => format!("There are {many}; the first is {}.", all[0]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_come_first() {
        let names = ["files:/var/www", "files:/var/log", "git:/srv/git/a.git", "postgres:shop"];
        assert_eq!(nearest("files:/var/ww", names)[0], "files:/var/www");
        assert_eq!(nearest("shop", names), ["postgres:shop"]);
        assert!(nearest("zzzz", names).is_empty());
        assert!(hint("zzzz", names).starts_with("There is: files:/var/log"));
        assert_eq!(hint("x", []), "There is none yet.");
    }
}
