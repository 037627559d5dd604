//! Text in lines of limited width.

/// Breaks lines at blanks so that none is longer than `limit`, but for words that are longer themselves.
pub fn wrap(text: &str, limit: usize) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / limit.max(1));
    let (mut column, mut spaces, mut word) = (0, String::new(), String::new());
    let mut word_length = 0;
    for c in text.chars() {
        if c == '\n' {
            if word.is_empty() && column + spaces.len() > limit {
                spaces.clear();
            }
            out.push_str(&std::mem::take(&mut spaces));
            out.push_str(&std::mem::take(&mut word));
            out.push('\n');
            (column, word_length) = (0, 0);
        } else if c.is_whitespace() && c != '\u{a0}' {
            if spaces.is_empty() || !word.is_empty() {
                column += spaces.chars().count() + word_length;
                out.push_str(&std::mem::take(&mut spaces));
                out.push_str(&std::mem::take(&mut word));
                word_length = 0;
            }
            spaces.push(c);
        } else {
            word.push(c);
            word_length += 1;
            if column + word_length + spaces.chars().count() > limit && word_length < limit {
                out.push('\n');
                column = 0;
                spaces.clear();
            }
        }
    }
    if !word.is_empty() || column + spaces.len() <= limit {
        out.push_str(&spaces);
    }
    out + &word
}

/// Every line with blanks before it, those that are empty too.
pub fn indent(text: &str, width: usize) -> String {
    let blanks = " ".repeat(width);
    text.split('\n').map(|line| format!("{blanks}{line}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_at_blanks() {
        assert_eq!(wrap("aa bb cc", 5), "aa bb\ncc");
        assert_eq!(wrap("aa\n\nbb cc dd", 5), "aa\n\nbb cc\ndd");
        assert_eq!(wrap("a verylongword b", 5), "a\nverylongword\nb");
        assert_eq!(indent("a\n", 2), "  a\n  ");
    }
}
