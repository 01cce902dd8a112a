use super::*;

/// R237: two calls that were sent to one elicitation both run when it is complete, and no third.
#[test]
fn r237_a_completion_counts_for_each_call_that_waits() {
    let now = Instant::now();
    let mut completions = Completions::default();
    let ids = ["e".to_owned()];
    completions.expect("e".to_owned(), now);
    completions.expect("e".to_owned(), now);
    assert!(!completions.are_complete(&ids));
    completions.complete("e");
    for _ in 0..2 {
        assert!(completions.are_complete(&ids));
        completions.forget(&ids);
    }
    assert!(!completions.are_complete(&ids));
}
