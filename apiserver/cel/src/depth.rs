//! How deep the tree of an expression will be, told from its text: reading and evaluating recurse once per level, and a stack is
//! finite.

/// The deepest tree that is read. Evaluation of a level takes the stack of a few calls; a worker has 2 MiB.
const MAX_DEPTH: usize = 200;

/// Refuses what is nested too deeply.
pub fn check(text: &str) -> Result<(), String> {
    if depth(text) <= MAX_DEPTH {
        return Ok(());
    }
    Err(format!("ERROR: <input>:1:1: expression is nested too deeply: more than {MAX_DEPTH} levels"))
}

/// An upper bound of the depth: the operators, selections and brackets around any one place. What commas separate stands beside each
/// other.
fn depth(text: &str) -> usize {
    let bytes = text.as_bytes();
    // Operators of the open brackets, outermost first, since the last comma of each.
    let (mut open, mut at, mut deepest) = (vec![0_usize], 0, 0);
    let mut around = 0;
    while let Some(&byte) = bytes.get(at) {
        let operators = open.last_mut();
        match byte {
            b'"' | b'\'' => at = end_of_literal(bytes, at),
            b'/' if bytes.get(at + 1) == Some(&b'/') => at = end_of_line(bytes, at),
            b'(' | b'[' | b'{' => {
                around += 1;
                open.push(0);
            }
            b')' | b']' | b'}' => {
                around -= open.pop().map_or(0, |own| own + 1).min(around);
            }
            b',' => around -= operators.map_or(0, std::mem::take),
            b'i' if is_in(bytes, at) => count(&mut around, operators),
            b'.' | b'+' | b'-' | b'*' | b'/' | b'%' | b'<' | b'>' | b'=' | b'!' | b'&' | b'|' | b'?' | b':' => {
                count(&mut around, operators);
            }
            _ => {}
        }
        deepest = deepest.max(around);
        at += 1;
    }
    deepest
}

fn count(around: &mut usize, operators: Option<&mut usize>) {
    *around += 1;
    if let Some(operators) = operators {
        *operators += 1;
    }
}

/// Whether the operator `in` begins here.
fn is_in(bytes: &[u8], at: usize) -> bool {
    let is_word = |at: Option<usize>| {
        at.and_then(|at| bytes.get(at)).is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
    };
    bytes[at..].starts_with(b"in") && !is_word(at.checked_sub(1)) && !is_word(Some(at + 2))
}

/// The last byte of a text literal that begins at a quote.
fn end_of_literal(bytes: &[u8], start: usize) -> usize {
    let quote = bytes[start];
    let raw = start > 0 && matches!(bytes[start - 1], b'r' | b'R');
    let length = if bytes[start..].starts_with(&[quote; 3]) { 3 } else { 1 };
    let mut at = start + length;
    while at < bytes.len() {
        if bytes[at] == b'\\' && !raw {
            at += 1;
        } else if bytes[at..].starts_with(&[quote; 3][..length]) {
            return at + length - 1;
        }
        at += 1;
    }
    bytes.len()
}

fn end_of_line(bytes: &[u8], start: usize) -> usize {
    bytes[start..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |length| start + length)
}

#[cfg(test)]
mod tests {
    use cel::Context;

    use super::*;
    use crate::check::{self, Scope};
    use crate::{Expression, libraries};

    #[test]
    fn operators_selections_and_brackets_make_depth_and_texts_do_not() {
        for (text, expected) in [
            ("a", 0),
            ("a in b in text.join(in_x, list)", 4),
            ("a.b.c", 2),
            ("[a.b, c.d, e.f]", 2),
            ("f(a + b, g(c))", 2),
            ("(a + b) + c", 2),
            ("'a.b.c' + r'\\' + \"\"\"a\".b\"\"\"", 2),
            ("'it\\'s.a' // a.b.c\n+ 1", 1),
        ] {
            assert_eq!(depth(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_deeper_than_a_stack_is_refused() {
        let million = 1_000_000;
        for text in ["1+".repeat(million) + "1", "a".to_owned() + &".b".repeat(million), "-".repeat(million) + "1"] {
            let error = Expression::compile(&text).expect_err("too deep").to_string();
            assert!(error.contains("nested too deeply"), "{error}");
            assert_eq!(check::check(&text, &Scope::of(&["a"])).err(), Some(error));
        }
    }

    #[test]
    fn what_is_as_deep_as_allowed_is_evaluated_on_a_worker() {
        let chains = ["1+".repeat(MAX_DEPTH) + "1", "size('a'".to_owned() + &"+'b'".repeat(MAX_DEPTH - 1) + ")"];
        let on_a_worker = move || {
            for text in chains {
                let expression = Expression::compile(&text).expect("an expression");
                check::check(&text, &Scope::of(&[])).expect("types");
                let context = Context::with_env(libraries());
                assert!(expression.evaluate(&context).is_ok());
            }
        };
        // As large as the stack of a worker of tokio; without optimization each level takes many times as much of it.
        let stack = if cfg!(debug_assertions) { 64 << 20 } else { 2 << 20 };
        std::thread::Builder::new()
            .stack_size(stack)
            .spawn(on_a_worker)
            .expect("a thread")
            .join()
            .expect("no overflow");
    }
}
