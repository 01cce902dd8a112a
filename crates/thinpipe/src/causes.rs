//! What went wrong, in a line of a log or of a report.

/// An error and what caused it, on one line. Some errors say themselves what their cause says again.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| {
        let cause = cause.to_string().replace('\n', ", ");
        match text.ends_with(&cause) {
            true => text,
            false => format!("{text}: {cause}"),
        }
    })
}

#[cfg(test)]
mod tests {
    use thinpipe_store::StoreError;

    use super::*;

    #[test]
    fn causes_of_several_lines_are_on_one() {
        let twice = StoreError::Unavailable(Box::new(std::io::Error::other("a\nb")));
        assert_eq!(
            with_causes(&twice),
            "the session store is unreachable: a, b"
        );
    }

    #[test]
    fn a_cause_is_said_once() {
        let refused = || std::io::Error::other("refused");
        let twice = StoreError::Unavailable(Box::new(std::io::Error::other(refused())));
        assert_eq!(
            with_causes(&twice),
            "the session store is unreachable: refused"
        );
    }
}
