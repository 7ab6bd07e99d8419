//! What must not compile: each file of `compile_fail/` is one wrong call, with the compiler's words
//! beside it.

#[test]
fn wrong_calls_do_not_compile() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/*.rs");
}
