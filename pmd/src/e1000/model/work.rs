//! The link, and who works when: at once, in ticks, or late. Knows no register's meaning beyond the link's.

use std::sync::Arc;

use super::{
    core::{Core, Side},
    map,
    options::Work,
};

impl Core {
    /// Plugs the cable in or out.
    pub(super) fn set_cable(&mut self, present: bool) {
        self.cable_in = present;
        self.watch_link();
    }

    pub(super) fn cable_is_in(&self) -> bool {
        self.cable_in
    }

    pub(super) fn link_is_up(&self) -> bool {
        self.link
    }

    pub(super) fn wait_for_link(&mut self) {
        self.link_wait = self.link_wait.saturating_sub(1);
        self.watch_link();
    }

    /// Follows what the link depends on: the cable, "set link up", the PHY.
    pub(super) fn watch_link(&mut self) {
        let possible = self.cable_in && self.has(map::CTRL, map::CTRL_SLU) && self.phy.is_ready();
        if !possible {
            self.link_wait = self.options.link_delay;
        }
        let up = possible && self.link_wait == 0;
        if up != self.link {
            self.link = up;
            self.raise(map::INT_LSC);
        }
    }

    /// Time passes.
    pub(super) fn tick(&mut self) {
        if self.gone {
            return;
        }
        self.wait_for_link();
        let faults = self.options.faults;
        if self.random.one_in(faults.flaps) {
            let cable = !self.cable_in;
            self.set_cable(cable);
        }
        if self.random.one_in(faults.spurious) {
            self.spurious_interrupt();
        }
        self.scribble();
        self.write_after_stop();
        self.work();
    }

    /// Works as much as the options say it does at a time.
    pub(super) fn work(&mut self) {
        if self.options.work == Work::Late {
            return self.work_a_little();
        }
        // Frames arrive one after the other, and each is stored before the next, if it can be.
        while self.take_from_wire() | self.work_on_descriptors() {}
    }

    fn work_on_descriptors(&mut self) -> bool {
        let mut did = false;
        while self.is_alive() && (self.send_one() | self.receive_one()) {
            self.tell_all();
            did = true;
        }
        did
    }

    fn work_a_little(&mut self) {
        for _ in 0..self.random.below(64) {
            match self.random.below(4) {
                0 => _ = self.take_from_wire(),
                _ if !self.is_alive() => {}
                1 => _ = self.send_one(),
                2 => _ = self.receive_one(),
                _ => {
                    let side = if self.random.one_in(2) { Side::Rx } else { Side::Tx };
                    let queue = self.random.below(self.chip.queues());
                    // The queues in use are few: look for one that has something to tell.
                    let queues = self.chip.queues();
                    let busy = (0..queues)
                        .map(|step| (queue + step) % queues)
                        .find(|at| self.ring(side, *at).untold() > 0);
                    if let Some(at) = busy {
                        self.tell(side, at);
                    }
                }
            }
        }
    }

    fn tell_all(&mut self) {
        for queue in 0..self.chip.queues() {
            for side in [Side::Rx, Side::Tx] {
                while self.ring(side, queue).untold() > 0 && self.tell(side, queue) {}
            }
        }
    }

    /// Tells the driver of one descriptor that is done.
    pub(super) fn tell(&mut self, side: Side, queue: usize) -> bool {
        let space = Arc::clone(&self.space);
        let mut checker = std::mem::take(&mut self.checker);
        let told = self.ring(side, queue).tell(&space, &mut checker);
        self.checker = checker;
        if told {
            self.raise_queue(side, queue);
        }
        told
    }
}
