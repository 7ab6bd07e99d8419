//! The options of `trace`, from text.

use super::WrapSpec;
use crate::Error;

/// What is traced, and where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Options {
    /// A file, `-` for standard output, nothing for standard error.
    pub(super) to: Option<String>,
    /// Every so many frames.
    pub(super) every: u64,
    /// So many frames in all.
    pub(super) count: u64,
    /// With their bytes.
    pub(super) hex: bool,
}

impl Options {
    pub(super) fn read(spec: &WrapSpec) -> Result<Self, Error> {
        let mut options = Self { to: None, every: 1, count: u64::MAX, hex: false };
        for (place, item) in spec.options.split(',').enumerate() {
            let number = |text: &str| {
                let number = text.parse().ok().filter(|number| *number > 0);
                number.ok_or_else(|| spec.bad(format!("option {item}: should be a number from 1")))
            };
            match item.split_once('=') {
                Some(("every", text)) => options.every = number(text)?,
                Some(("count", text)) => options.count = number(text)?,
                None if item == "hex" => options.hex = true,
                None if item.is_empty() && spec.options.is_empty() => {}
                _ if place == 0 => options.to = Some(item.to_owned()).filter(|to| !to.is_empty()),
                _ => {
                    let why = format!(
                        "trace has no option '{item}'; it has: FILE or - (first), every=N, count=N, hex"
                    );
                    return Err(spec.bad(why));
                }
            }
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(options: &str) -> Result<Options, Error> {
        let (name, inner) = ("trace".to_owned(), "ring:a".to_owned());
        Options::read(&WrapSpec { name, options: options.to_owned(), inner })
    }

    #[test]
    fn a_file_comes_first_and_everything_has_a_default() {
        let plain = Options { to: None, every: 1, count: u64::MAX, hex: false };
        assert_eq!(read("").unwrap(), plain);
        assert_eq!(read("-").unwrap(), Options { to: Some("-".into()), ..plain.clone() });
        assert_eq!(
            read("hex,every=10").unwrap(),
            Options { hex: true, every: 10, ..plain.clone() }
        );
        let file = read("a/b.txt,count=5").unwrap();
        assert_eq!(file, Options { to: Some("a/b.txt".into()), count: 5, ..plain.clone() });
        assert_eq!(read(",count=5").unwrap(), Options { count: 5, ..plain });
    }

    #[test]
    fn what_makes_no_sense_is_answered_with_what_does() {
        for (options, why) in [
            ("every=0", "option every=0: should be a number from 1"),
            (",count=many", "option count=many: should be a number from 1"),
            ("a.txt,hexx", "trace has no option 'hexx'; it has: FILE or - (first), every=N"),
        ] {
            let error = read(options).unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
            assert!(error.to_string().starts_with(&format!("port 'trace:{options}@ring:a'")));
            assert!(error.is_usage());
        }
    }
}
