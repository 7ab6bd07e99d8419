//! Port specs: `driver:addr[,key=val]*`. Text in, fields out; knows no driver.

use std::{collections::BTreeMap, fmt, str::FromStr};

/// A port as the user named it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortSpec {
    /// Driver, or empty where only an address was given.
    pub driver: String,
    /// Interface, file, wire or bus address.
    pub addr: String,
    /// Options; a key without a value has an empty one.
    pub options: BTreeMap<String, String>,
}

/// A port spec cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "port '{port}': {why}; a port is driver:addr[,key=val]*, such as ring:a or pcap:in.pcap,loop"
)]
pub struct SpecError {
    /// The text.
    pub port: String,
    /// What is wrong.
    pub why: String,
}

const LONGEST: usize = 4096;

impl FromStr for PortSpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let wrong =
            |why: &str| SpecError { port: text.chars().take(200).collect(), why: why.to_owned() };
        if text.is_empty() {
            return Err(wrong("the spec is empty"));
        }
        if text.len() > LONGEST {
            return Err(wrong("the spec is longer than 4096 bytes"));
        }
        let mut parts = text.split(',');
        let head = parts.next().unwrap_or_default();
        let (driver, addr) = head.split_once(':').unwrap_or(("", head));
        let mut options = BTreeMap::new();
        for part in parts {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            if key.is_empty() {
                return Err(wrong("an option has no name"));
            }
            if options.insert(key.to_owned(), value.to_owned()).is_some() {
                return Err(wrong(&format!("option '{key}' is given twice")));
            }
        }
        Ok(Self { driver: driver.to_owned(), addr: addr.to_owned(), options })
    }
}

impl fmt::Display for PortSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.driver, self.addr)?;
        for (key, value) in &self.options {
            match value.as_str() {
                "" => write!(f, ",{key}")?,
                _ => write!(f, ",{key}={value}")?,
            }
        }
        Ok(())
    }
}

impl PortSpec {
    /// Checks that every option is one of `known`.
    ///
    /// # Errors
    /// One is not; the message names those that are.
    pub fn only(&self, known: &[&str]) -> Result<(), crate::Error> {
        match self.options.keys().find(|key| !known.contains(&key.as_str())) {
            None => Ok(()),
            Some(key) => Err(crate::Error::BadOption {
                port: self.to_string(),
                why: format!(
                    "driver '{}' has no option '{key}'; it has: {}",
                    self.driver,
                    if known.is_empty() { "none".to_owned() } else { known.join(", ") }
                ),
            }),
        }
    }

    /// An option's value, parsed; `None` if it is not given.
    ///
    /// # Errors
    /// The value cannot be parsed; the message says what it should be.
    pub fn option<T: FromStr>(&self, key: &str, what: &str) -> Result<Option<T>, crate::Error> {
        let Some(value) = self.options.get(key) else {
            return Ok(None);
        };
        value.parse().map(Some).map_err(|_| crate::Error::BadOption {
            port: self.to_string(),
            why: format!("option {key}={value}: should be {what}"),
        })
    }

    /// Whether an option without a value is given (`loop`), or with `=1`.
    #[must_use]
    pub fn flag(&self, key: &str) -> bool {
        self.options.get(key).is_some_and(|value| matches!(value.as_str(), "" | "1" | "yes"))
    }
}
