//! Licence expressions of packages (SPDX, and the old `A/B` for "or").
//!
//! Decides whether a set of licences is enough to use a package. `WITH` and its exception are part
//! of a licence's name.

/// Whether `expression` can be satisfied by licences for which `allowed` holds.
///
/// # Errors
/// What cannot be understood.
pub(super) fn satisfied(expression: &str, allowed: &impl Fn(&str) -> bool) -> Result<bool, String> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut words = spaced.split_whitespace().peekable();
    let value = either(&mut words, allowed)?;
    words.next().map_or(Ok(value), |word| Err(format!("{word} is not expected in {expression}")))
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn either(words: &mut Words<'_>, allowed: &impl Fn(&str) -> bool) -> Result<bool, String> {
    let mut value = both(words, allowed)?;
    while words.next_if_eq(&"OR").is_some() {
        value |= both(words, allowed)?;
    }
    Ok(value)
}

fn both(words: &mut Words<'_>, allowed: &impl Fn(&str) -> bool) -> Result<bool, String> {
    let mut value = one(words, allowed)?;
    while words.next_if_eq(&"AND").is_some() {
        value &= one(words, allowed)?;
    }
    Ok(value)
}

fn one(words: &mut Words<'_>, allowed: &impl Fn(&str) -> bool) -> Result<bool, String> {
    match words.next() {
        Some("(") => {
            let value = either(words, allowed)?;
            words.next_if_eq(&")").ok_or("a parenthesis is not closed")?;
            Ok(value)
        }
        None | Some(")" | "AND" | "OR" | "WITH") => Err("a licence is missing".to_owned()),
        Some(name) if words.next_if_eq(&"WITH").is_some() => {
            let exception = words.next().ok_or("an exception is missing")?;
            Ok(allowed(&format!("{name} WITH {exception}")))
        }
        Some(name) => Ok(allowed(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::satisfied;

    fn with(allowed: &[&str], expression: &str) -> Result<bool, String> {
        satisfied(expression, &|name| allowed.contains(&name))
    }

    #[test]
    fn and_binds_closer_than_or() {
        assert_eq!(with(&["A"], "A OR B AND C"), Ok(true));
        assert_eq!(with(&["B"], "A OR B AND C"), Ok(false));
        assert_eq!(with(&["B", "C"], "A OR B AND C"), Ok(true));
        assert_eq!(with(&["A"], "(A OR B) AND C"), Ok(false));
        assert_eq!(with(&["B", "C"], "(A OR B) AND C"), Ok(true));
        assert_eq!(with(&["B"], "A/B"), Ok(true));
    }

    #[test]
    fn an_exception_belongs_to_its_licence() {
        assert_eq!(with(&["A"], "A WITH x"), Ok(false));
        assert_eq!(with(&["A WITH x"], "A WITH x"), Ok(true));
        assert_eq!(with(&["A"], "A WITH x OR A"), Ok(true));
    }

    #[test]
    fn what_is_no_expression_is_refused() {
        for wrong in ["", "A B", "(A", "A)", "A OR", "AND A", "A WITH", "()"] {
            assert!(with(&["A", "B"], wrong).is_err(), "{wrong}");
        }
    }
}
