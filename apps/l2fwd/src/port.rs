//! A port over the whole run, as the main thread sees it: in service, without a link, on its way out,
//! away, back again. Its counters go on over all of that.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use memwire_apps::{
    AppError,
    report::{PortReport, format_mac},
    watch::PortSample,
};
use pmd::{Device, DeviceInfo, Health, QueueStats, Queues, Registry};
use serde::Serialize;

/// Time between two attempts to open a port again.
const RETRY: Duration = Duration::from_millis(500);

/// Where a port is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// In service.
    Up,
    /// In service, and nothing can pass; also where nobody has looked yet.
    NoLink,
    /// Its traffic has ended by itself.
    Ended,
    /// Workers are giving its queues back.
    Leaving,
    /// Not there; to be opened again.
    Away,
    /// It no longer works, and stays so.
    Failed,
}

impl State {
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::NoLink => "no-link",
            Self::Ended => "ended",
            Self::Leaving | Self::Away => "away",
            Self::Failed => "failed",
        }
    }
}

/// What a port and all its incarnations counted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) rx: QueueStats,
    pub(crate) tx: QueueStats,
    device: BTreeMap<String, u64>,
}

impl Totals {
    fn add(&mut self, device: &dyn Device) {
        let (rx, tx, own) = device.stats();
        self.rx.merge(&rx);
        self.tx.merge(&tx);
        for (name, count) in own {
            *self.device.entry(name).or_default() += count;
        }
    }
}

/// One port.
pub(crate) struct Port {
    pub(crate) spec: String,
    pub(crate) info: DeviceInfo,
    pub(crate) state: State,
    /// Times that it was out of service, or without its link.
    pub(crate) outages: u64,
    device: Option<Box<dyn Device>>,
    /// What earlier incarnations counted.
    past: Totals,
    /// Queues that are back, and how many workers still have some.
    back: Queues,
    pub(crate) awaited: usize,
    retry: Instant,
    /// Why it is not in service.
    why: Option<Health>,
    link_mbps: Option<u32>,
}

impl Port {
    pub(crate) fn new(spec: &str, device: Box<dyn Device>) -> Self {
        Self {
            spec: spec.to_owned(),
            info: device.info().clone(),
            state: State::NoLink,
            outages: 0,
            device: Some(device),
            past: Totals::default(),
            back: Queues::default(),
            awaited: 0,
            retry: Instant::now(),
            why: None,
            link_mbps: None,
        }
    }

    pub(crate) fn device(&self) -> Option<&dyn Device> {
        self.device.as_deref()
    }

    pub(crate) fn device_mut(&mut self) -> Option<&mut Box<dyn Device>> {
        self.device.as_mut()
    }

    pub(crate) fn receives(&self) -> bool {
        self.info.capabilities.rx_queues > 0
    }

    pub(crate) fn sends(&self) -> bool {
        self.info.capabilities.tx_queues > 0
    }

    /// Whether it can come back: what was taken away, or has a station address, is an interface, and
    /// neither a file nor made up; a file that is opened again starts from the beginning.
    pub(crate) fn can_return(&self) -> bool {
        let is_interface = self.is_removed() || self.info.mac != [0; 6];
        !self.info.capabilities.finite && is_interface
    }

    /// Whether somebody wants the device back, or has it.
    pub(crate) fn is_removed(&self) -> bool {
        let health = self.device.as_ref().map(|device| device.health());
        matches!(health.or_else(|| self.why.clone()), Some(Health::Removed(_)))
    }

    /// How the port no longer works, if so.
    pub(crate) fn trouble(&self) -> Option<Health> {
        let health = self.device.as_ref()?.health();
        health.fault().is_some().then_some(health)
    }

    /// Why the port no longer works, if so.
    pub(crate) fn fault(&self) -> Option<String> {
        self.trouble()?.fault().map(str::to_owned)
    }

    /// Looks at link and health; returns whether the link has just gone.
    pub(crate) fn look(&mut self) -> bool {
        let Some(device) = &self.device else {
            return false;
        };
        let link = device.link();
        self.link_mbps = link.speed_mbps;
        let state = match (device.health(), link.is_up) {
            // Gone since it was asked last; it will be asked again.
            (Health::Faulted(_) | Health::Removed(_), _) => return false,
            (Health::Ended, _) => State::Ended,
            (Health::Good, true) => State::Up,
            (Health::Good, false) => State::NoLink,
        };
        let is_lost = state == State::NoLink && self.state == State::Up;
        self.state = state;
        if is_lost {
            self.outages += 1;
        }
        is_lost
    }

    /// Takes back queues of one worker.
    pub(crate) fn take_back(&mut self, share: crate::mailbox::Share) {
        share.join(&mut self.back);
        self.awaited = self.awaited.saturating_sub(1);
    }

    /// Begins to take the port out of service; `workers` will give queues back.
    pub(crate) fn leave(&mut self, why: Health, workers: usize) {
        // An interface that goes loses its link first.
        if self.state != State::NoLink {
            self.outages += 1;
        }
        self.state = State::Leaving;
        self.why = Some(why);
        self.awaited = workers;
    }

    /// Stops the device with the queues that are back. Its counters are final then.
    ///
    /// # Errors
    /// The device did not stop.
    pub(crate) fn stop(&mut self) -> Result<(), AppError> {
        let queues = std::mem::take(&mut self.back);
        match &mut self.device {
            Some(device) => Ok(device.stop(queues)?),
            None => Ok(()),
        }
    }

    /// Closes the stopped device, so that it can be opened again if `is_away`.
    pub(crate) fn close(&mut self, is_away: bool) {
        if let Some(device) = self.device.take() {
            self.past.add(&*device);
        }
        self.state = if is_away { State::Away } else { State::Failed };
        self.retry = Instant::now() + RETRY;
    }

    /// Opens the port again if it is time to; returns the device, to be started.
    pub(crate) fn reopen(&mut self, registry: &mut Registry) -> Option<Box<dyn Device>> {
        if self.state != State::Away || Instant::now() < self.retry {
            return None;
        }
        self.retry = Instant::now() + RETRY;
        match registry.open(&self.spec) {
            Ok(device) => Some(device),
            Err(error) => {
                self.why = Some(Health::Faulted(error.to_string()));
                None
            }
        }
    }

    /// Says why the port could not be started again.
    pub(crate) fn stays_away(&mut self, why: String) {
        self.why = Some(Health::Faulted(why));
    }

    /// Is in service again.
    pub(crate) fn come_back(&mut self, device: Box<dyn Device>) {
        self.info = device.info().clone();
        self.device = Some(device);
        (self.state, self.why) = (State::NoLink, None);
        self.look();
    }

    /// What it counted so far.
    pub(crate) fn totals(&self) -> Totals {
        let mut totals = self.past.clone();
        if let Some(device) = &self.device {
            totals.add(&**device);
        }
        totals
    }

    fn health(&self) -> String {
        match (&self.device, &self.why) {
            (Some(device), _) => device.health().to_string(),
            (None, Some(why)) => why.to_string(),
            (None, None) => "gone".to_owned(),
        }
    }

    pub(crate) fn report(&self) -> PortReport {
        let Totals { rx, tx, device } = self.totals();
        PortReport {
            port: self.info.port.clone(),
            driver: self.info.driver.to_owned(),
            mac: format_mac(self.info.mac),
            link_mbps: self.link_mbps,
            health: self.health(),
            rx: (&rx).into(),
            tx: (&tx).into(),
            device,
        }
    }

    pub(crate) fn sample(&self) -> PortSample {
        let Totals { rx, tx, .. } = self.totals();
        let health = match self.state {
            State::NoLink => "no link".to_owned(),
            _ => self.health(),
        };
        PortSample {
            name: self.info.port.clone(),
            driver: self.info.driver.to_owned(),
            health,
            rx,
            tx,
        }
    }
}

impl Serialize for State {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
