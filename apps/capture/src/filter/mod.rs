//! Which frames are wanted: a filter expression, compiled by the system's libpcap (through `tcpdump`)
//! or, where there is none, by a small compiler of our own; or a program from a file. What runs is
//! classic BPF, by `pmd::bpf`.

mod code;
mod expr;
mod parse;
mod tcpdump;
mod words;

use std::path::Path;

use clap::ValueEnum;
use memwire_apps::AppError;
use pmd::bpf::Program;
use serde::Serialize;

/// Who compiles a filter expression.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compiler {
    /// libpcap if tcpdump is installed, else the built-in compiler
    #[default]
    Auto,
    /// libpcap, by way of `tcpdump -ddd`
    Libpcap,
    /// The built-in compiler: ip, ip6, arp, tcp, udp, icmp, port, host, net, vlan, ether and, or, not
    Builtin,
}

/// A filter, ready to run.
#[derive(Clone, Debug)]
pub struct Filter {
    /// The expression, or the name of the file with the program.
    pub text: String,
    /// Who compiled it: `libpcap`, `builtin` or `file`.
    pub compiler: &'static str,
    /// The program.
    pub program: Program,
}

impl Filter {
    /// Compiles an expression.
    ///
    /// # Errors
    /// The expression is wrong, in the compiler's words; or the compiler asked for is not there.
    pub fn compile(text: &str, compiler: Compiler) -> Result<Self, AppError> {
        let (compiler, program) = match compiler {
            Compiler::Builtin => ("builtin", builtin(text)?),
            Compiler::Libpcap => match tcpdump::compile(text)? {
                Some(program) => ("libpcap", program),
                None => {
                    return Err(AppError::missing("--compiler libpcap: tcpdump is not installed")
                        .hint("apt-get install tcpdump, or --compiler builtin"));
                }
            },
            Compiler::Auto => match tcpdump::compile(text)? {
                Some(program) => ("libpcap", program),
                None => ("builtin", builtin(text)?),
            },
        };
        Ok(Self { text: text.to_owned(), compiler, program })
    }

    /// Reads a program as `tcpdump -ddd` prints it.
    ///
    /// # Errors
    /// The file cannot be read, or the program was refused; the error names the line.
    pub fn read(path: &Path) -> Result<Self, AppError> {
        let name = path.display();
        let text = std::fs::read_to_string(path)
            .map_err(|error| AppError::missing(format!("--bpf {name}: {error}")))?;
        let program = text.parse().map_err(|error| {
            AppError::usage(format!("--bpf {name}: {error}"))
                .hint(format!("tcpdump -ddd -y EN10MB 'udp port 53' > {name}"))
        })?;
        Ok(Self { text: name.to_string(), compiler: "file", program })
    }
}

fn builtin(text: &str) -> Result<Program, AppError> {
    parse::parse(text).and_then(|expr| code::compile(&expr)).map_err(|error| {
        AppError::usage(format!("filter '{}': {error}", shown(text)))
            .hint("that is the built-in compiler; install tcpdump for all of pcap-filter(7)")
    })
}

/// An expression in a message: not all of a very long one.
fn shown(text: &str) -> String {
    const MOST: usize = 100;
    if text.len() <= MOST {
        return text.to_owned();
    }
    format!("{} ...", &text[..text.floor_char_boundary(MOST)])
}

/// An expression that the built-in compiler does not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FilterError {
    /// Where, in bytes from 0; `None` if it is about the whole.
    pub(crate) at: Option<usize>,
    pub(crate) why: String,
}

impl std::fmt::Display for FilterError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.at {
            Some(at) => write!(f, "column {}: {}", at + 1, self.why),
            None => f.write_str(&self.why),
        }
    }
}
