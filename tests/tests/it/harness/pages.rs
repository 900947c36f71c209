//! Taking the commands out of pages that people read.

/// The blocks of `text` that are fenced as `language`.
pub fn blocks(text: &str, language: &str) -> Vec<String> {
    let mut blocks: Vec<String> = Vec::new();
    let mut open = None;
    for line in text.lines() {
        match (&open, line.strip_prefix("```")) {
            (None, Some(name)) => {
                open = Some(name == language);
                if name == language {
                    blocks.push(String::new());
                }
            }
            (Some(_), Some(_)) => open = None,
            (Some(true), None) => {
                let block = blocks.last_mut().unwrap();
                block.push_str(line);
                block.push('\n');
            }
            _ => {}
        }
    }
    blocks
}
