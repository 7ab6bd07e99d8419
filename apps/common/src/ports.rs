//! Ports by name: opens what `-p` names, once each.

use pmd::{Device, Registry};

use crate::AppError;

/// Opens the ports in the order they are named. Specs go through one registry, so that the two ends
/// of an in-process wire find each other.
///
/// # Errors
/// A spec cannot be read, a port cannot be opened here, or one is named twice that can be open only
/// once.
pub fn open(registry: &mut Registry, specs: &[String]) -> Result<Vec<Box<dyn Device>>, AppError> {
    let mut devices = Vec::with_capacity(specs.len());
    for spec in specs {
        let device = registry.open(spec).map_err(|error| match error {
            pmd::Error::AlreadyOpen { .. } => {
                AppError::usage(format!("port '{spec}' is named twice")).hint(error.to_string())
            }
            error => error.into(),
        })?;
        devices.push(device);
    }
    Ok(devices)
}

/// The drivers and wrappers there are, for `--help`.
#[must_use]
pub fn drivers_help() -> String {
    let entry = |usage: &str, about: &str| format!("  {usage}\n      {about}\n");
    let drivers = Registry::drivers().iter().map(|driver| entry(driver.usage, driver.about));
    let wrappers = Registry::wrappers().iter().map(|wrapper| entry(wrapper.usage, wrapper.about));
    let mut help = String::from("Ports (-p):\n");
    help.extend(drivers);
    help.push_str("Around any port (they nest):\n");
    help.extend(wrappers);
    help
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Exit;

    fn open_all(specs: &[&str]) -> Result<usize, AppError> {
        let specs: Vec<_> = specs.iter().map(|spec| (*spec).to_owned()).collect();
        open(&mut Registry::new(), &specs).map(|devices| devices.len())
    }

    #[test]
    fn ports_are_opened_in_order() {
        assert_eq!(open_all(&["null:a", "null:b"]), Ok(2));
        assert_eq!(open_all(&["null:", "null:"]), Ok(2));
    }

    #[test]
    fn a_port_that_is_named_twice_is_usage() {
        let error = open_all(&["null:a", "null:a,size=128"]).unwrap_err();
        assert!(error.to_string().starts_with("port 'null:a,size=128' is named twice"), "{error}");
        assert_eq!(error.code(), Exit::Usage);
    }

    #[test]
    fn an_unknown_driver_gets_a_suggestion() {
        let error = open_all(&["nul:"]).unwrap_err();
        assert!(error.to_string().contains("did you mean 'null'?"), "{error}");
        assert_eq!(error.code(), Exit::Usage);
    }
}
