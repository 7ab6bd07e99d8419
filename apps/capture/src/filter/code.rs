//! From an expression to classic BPF.

use pmd::bpf::{Insn, Program};

use super::{
    FilterError,
    expr::{Check, Cond, Expr, Place, Size},
};

/// What a frame that passes is cut to: nothing that there could be.
const ALL: u32 = 262_144;

/// A place in the program that is not known yet.
type Label = usize;

/// An instruction whose jumps are labels.
enum Step {
    Plain(Insn),
    Test { code: u16, k: u32, yes: Label, no: Label },
}

#[derive(Default)]
struct Code {
    steps: Vec<Step>,
    /// Which step each label is before.
    labels: Vec<usize>,
}

/// Compiles an expression.
pub(super) fn compile(expr: &Expr) -> Result<Program, FilterError> {
    let mut code = Code::default();
    let (yes, no) = (code.label(), code.label());
    code.expr(expr, yes, no);
    code.place(yes);
    code.plain(0x06, ALL);
    code.place(no);
    code.plain(0x06, 0);
    let insns = code.assemble();
    Program::new(&insns).map_err(|error| FilterError { at: None, why: error.to_string() })
}

impl Code {
    fn label(&mut self) -> Label {
        self.labels.push(usize::MAX);
        self.labels.len() - 1
    }

    fn place(&mut self, label: Label) {
        self.labels[label] = self.steps.len();
    }

    fn plain(&mut self, code: u16, k: u32) {
        self.steps.push(Step::Plain(Insn { code, jt: 0, jf: 0, k }));
    }

    /// Goes to `yes` if the expression holds, else to `no`.
    fn expr(&mut self, expr: &Expr, yes: Label, no: Label) {
        match expr {
            Expr::Check(check) => self.check(check, yes, no),
            Expr::Not(inner) => self.expr(inner, no, yes),
            Expr::And(first, second) => {
                let next = self.label();
                self.expr(first, next, no);
                self.place(next);
                self.expr(second, yes, no);
            }
            Expr::Or(first, second) => {
                let next = self.label();
                self.expr(first, yes, next);
                self.place(next);
                self.expr(second, yes, no);
            }
        }
    }

    fn check(&mut self, check: &Check, yes: Label, no: Label) {
        let size = match check.size {
            Size::Word => 0x00,
            Size::Half => 0x08,
            Size::Byte => 0x10,
        };
        match check.place {
            Place::Fixed(at) => self.plain(0x20 | size, at),
            Place::BehindIpv4 { header, at } => {
                self.plain(0xb1, header);
                self.plain(0x40 | size, at);
            }
            Place::Length => self.plain(0x80, 0),
        }
        if let Some(mask) = check.mask {
            self.plain(0x54, mask);
        }
        let code = match check.cond {
            Cond::Equal => 0x15,
            Cond::Greater => 0x25,
            Cond::GreaterEqual => 0x35,
            Cond::AnyBit => 0x45,
        };
        self.steps.push(Step::Test { code, k: check.value, yes, no });
    }

    /// Resolves the labels; a test that cannot reach its places by itself gets two long jumps.
    fn assemble(&self) -> Vec<Insn> {
        // The short form first. If any test cannot reach, all of them take the long form.
        self.with_tests_of(1).or_else(|| self.with_tests_of(3)).unwrap_or_default()
    }

    /// The program with `len` instructions for a test; `None` if a jump is too long for that.
    fn with_tests_of(&self, len: usize) -> Option<Vec<Insn>> {
        let mut starts = Vec::with_capacity(self.steps.len());
        let mut at = 0;
        for step in &self.steps {
            starts.push(at);
            at += if matches!(step, Step::Plain(_)) { 1 } else { len };
        }
        let target = |label: Label| starts[self.labels[label]];
        let mut insns = Vec::with_capacity(at);
        for step in &self.steps {
            match *step {
                Step::Plain(insn) => insns.push(insn),
                Step::Test { code, k, yes, no } if len == 1 => {
                    let skip = |label| u8::try_from(target(label) - insns.len() - 1).ok();
                    let (jt, jf) = (skip(yes)?, skip(no)?);
                    insns.push(Insn { code, jt, jf, k });
                }
                Step::Test { code, k, yes, no } => {
                    insns.push(Insn { code, jt: 0, jf: 1, k });
                    for label in [yes, no] {
                        let k = u32::try_from(target(label) - insns.len() - 1).ok()?;
                        insns.push(Insn { code: 0x05, jt: 0, jf: 0, k });
                    }
                }
            }
        }
        Some(insns)
    }
}
