//! Ports by name: opens what `-p` names, once each.

use pmd::{Device, Health, Registry};

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

/// Whether nothing more can come: every port whose traffic is finite has ended, or, where none is,
/// every port.
pub fn have_ended<'a>(devices: impl Iterator<Item = &'a dyn Device> + Clone) -> bool {
    let is_finite = |device: &dyn Device| device.info().capabilities.finite;
    let is_any_finite = devices.clone().any(is_finite);
    let mut devices = devices;
    devices.all(|device| device.health() == Health::Ended || (is_any_finite && !is_finite(device)))
}

/// Whether somebody takes one of the ports away: it has to be closed soon, whatever the others do.
pub fn is_one_removed<'a>(mut devices: impl Iterator<Item = &'a dyn Device>) -> bool {
    devices.any(|device| matches!(device.health(), Health::Removed(_)))
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
    fn ports_without_an_end_do_not_wait_for_each_other() {
        let mut registry = Registry::new();
        let devices = open(&mut registry, &["null:".to_owned(), "null:".to_owned()]).unwrap();
        let devices = devices.iter().map(|device| &**device);
        assert!(!have_ended(devices));
    }

    #[test]
    fn a_port_that_is_taken_away_is_noticed_among_others() {
        let specs = ["null:", "chaos:rx.remove#1@null:"].map(str::to_owned);
        let mut devices = open(&mut Registry::new(), &specs).unwrap();
        let is_one = |devices: &[Box<dyn Device>]| is_one_removed(devices.iter().map(|d| &**d));
        assert!(!is_one(&devices));
        let pool = mempool::Pool::builder().name("test").slots(256);
        let pool = pool.memory(&mempool::heap::Heap::new()).build().unwrap();
        let mut queues = devices[1].start(pmd::Config::one_queue(&pool)).unwrap();
        let pmd::AnyRxQueue::Whole(rx) = &mut queues.rx[0] else { panic!("whole frames") };
        rx.recv(&mut pool.cache(), &mut mempool::Burst::new(&pool));
        assert!(is_one(&devices));
    }

    #[test]
    fn an_unknown_driver_gets_a_suggestion() {
        let error = open_all(&["nul:"]).unwrap_err();
        assert!(error.to_string().contains("did you mean 'null'?"), "{error}");
        assert_eq!(error.code(), Exit::Usage);
    }
}
