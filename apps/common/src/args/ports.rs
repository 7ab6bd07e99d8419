//! Which ports: `-p`, and what users of DPDK write for the same (`--vdev`, `-a`), in the order given.

use clap::{
    Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, error::Error, parser::ValuesRef,
};

/// The id of `-p`.
const PORT: &str = "ports";
/// The other spellings: id, its short form, its name for the value, its help.
#[cfg(feature = "dpdk")]
const ALIASES: [(&str, Option<char>, &str, &str); 2] = [
    ("vdev", None, "DEVICE", "Virtual device of DPDK's; the same as -p dpdk:DEVICE"),
    ("allow", Some('a'), "ADDRESS", "PCI function for DPDK's driver; the same as -p dpdk:ADDRESS"),
];
#[cfg(not(feature = "dpdk"))]
const ALIASES: [(&str, Option<char>, &str, &str); 0] = [];

/// Which ports.
#[derive(Clone, Debug, Default)]
pub struct PortArgs {
    /// Port specs, in the order of the command line.
    pub ports: Vec<String>,
}

impl Args for PortArgs {
    fn augment_args(command: Command) -> Command {
        let port = Arg::new(PORT)
            .short('p')
            .long("port")
            .value_name("SPEC")
            .action(ArgAction::Append)
            .help("Port, as driver:addr[,key=val]*; give it once per port");
        let aliases = ALIASES.map(|(id, short, value, help)| {
            let alias = Arg::new(id).long(id).short(short).value_name(value);
            alias.action(ArgAction::Append).help(help)
        });
        command.arg(port).args(aliases)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for PortArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let mut ports = Self::default();
        ports.update_from_arg_matches(matches)?;
        Ok(ports)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        let mut specs = placed(matches, PORT, "");
        for (id, ..) in ALIASES {
            specs.extend(placed(matches, id, "dpdk:"));
        }
        specs.sort_by_key(|(place, _)| *place);
        self.ports.extend(specs.into_iter().map(|(_, spec)| spec));
        Ok(())
    }
}

/// The specs that one option gave, each with its place on the command line.
fn placed(matches: &ArgMatches, id: &str, prefix: &str) -> Vec<(usize, String)> {
    let values: ValuesRef<'_, String> = matches.get_many(id).unwrap_or_default();
    let places = matches.indices_of(id).into_iter().flatten();
    places.zip(values).map(|(place, value)| (place, format!("{prefix}{value}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Vec<String>, Error> {
        let command = PortArgs::augment_args(Command::new("app"));
        let words = ["app"].iter().chain(words);
        Ok(PortArgs::from_arg_matches(&command.try_get_matches_from(words)?)?.ports)
    }

    #[test]
    fn ports_are_in_the_order_of_the_command_line() {
        let ports = parse(&["-p", "null:a", "--port=null:b", "-pnull:c"]).unwrap();
        assert_eq!(ports, ["null:a", "null:b", "null:c"]);
        assert!(parse(&[]).unwrap().is_empty());
    }

    #[cfg(feature = "dpdk")]
    #[test]
    fn what_dpdk_calls_a_device_is_a_port_at_its_place() {
        let words = ["--vdev", "net_null0,copy=1", "-p", "null:", "-a", "0000:01:00.0"];
        let ports = parse(&words).unwrap();
        assert_eq!(ports, ["dpdk:net_null0,copy=1", "null:", "dpdk:0000:01:00.0"]);
    }

    #[cfg(not(feature = "dpdk"))]
    #[test]
    fn without_dpdk_its_words_are_unknown() {
        assert!(parse(&["--vdev", "net_null0"]).is_err());
    }
}
