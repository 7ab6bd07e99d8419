//! Registers with types: a name of the datasheets, an offset, and fields that cannot be mixed up. Knows
//! how to read, write and wait; which registers there are stands in [`super::registers`].

use std::{
    marker::PhantomData,
    time::{Duration, Instant},
};

use crate::pci::Mmio;

/// Times a register is read at least before its device is given up.
const LOOKS: u64 = 8;

/// A 32-bit register.
pub(super) trait Register: Copy {
    /// Byte offset of the first one.
    const OFFSET: u32;

    /// The register with these bits.
    fn from_bits(bits: u32) -> Self;

    /// Its bits.
    fn bits(self) -> u32;
}

/// Bits `high..=low` of the register `R`, and of no other.
pub(super) struct Field<R> {
    high: u32,
    low: u32,
    register: PhantomData<R>,
}

impl<R> Field<R> {
    /// The field between the first and the last of `bounds`: one bit, or high and low.
    pub(super) const fn new(bounds: &[u32]) -> Self {
        let (high, low) = (bounds[0], bounds[bounds.len() - 1]);
        assert!(low <= high && high < 32, "a field's bits are high:low");
        Self { high, low, register: PhantomData }
    }

    /// The largest value it holds.
    pub(super) const fn most(&self) -> u32 {
        u32::MAX >> (31 - (self.high - self.low))
    }

    pub(super) const fn of(&self, bits: u32) -> u32 {
        bits >> self.low & self.most()
    }

    /// `bits` with the field set to as much of `value` as it holds.
    pub(super) fn put(&self, bits: u32, value: u32) -> u32 {
        debug_assert!(value <= self.most(), "{value:#x} in a field of {:#x}", self.most());
        bits & !(self.most() << self.low) | (value & self.most()) << self.low
    }
}

/// Declares registers: `NAME @ offset { FIELD = bit, FIELD = high:low }`.
macro_rules! register {
    ($($(#[$doc:meta])* $name:ident @ $offset:literal
        { $($field:ident = $high:literal $(:$low:literal)?),* $(,)? })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub(super) struct $name(pub(super) u32);

        impl $crate::e1000::register::Register for $name {
            const OFFSET: u32 = $offset;

            fn from_bits(bits: u32) -> Self {
                Self(bits)
            }

            fn bits(self) -> u32 {
                self.0
            }
        }

        #[allow(dead_code, reason = "registers without fields have no use for them")]
        impl $name {
            $(pub(super) const $field: $crate::e1000::register::Field<Self> =
                $crate::e1000::register::Field::new(&[$high $(, $low)?]);)*

            /// The value of a field.
            pub(super) fn get(self, field: $crate::e1000::register::Field<Self>) -> u32 {
                field.of(self.0)
            }

            /// Whether any bit of a field is set.
            pub(super) fn has(self, field: $crate::e1000::register::Field<Self>) -> bool {
                self.get(field) != 0
            }

            /// With a field set.
            #[must_use]
            pub(super) fn with(
                self,
                field: $crate::e1000::register::Field<Self>,
                value: impl Into<u32>,
            ) -> Self {
                Self(field.put(self.0, value.into()))
            }
        }
    )*};
}
pub(super) use register;

/// The registers of one function, or those of one queue: the offsets count from `base`.
#[derive(Clone)]
pub(super) struct Registers<M> {
    mmio: M,
    base: u32,
}

impl<M: Mmio> Registers<M> {
    pub(super) fn new(mmio: M) -> Self {
        Self { mmio, base: 0 }
    }

    /// The same registers, `bytes` further on: those of a queue, or of an entry of a table.
    pub(super) fn at(&self, bytes: u32) -> Self {
        Self { mmio: self.mmio.clone(), base: self.base + bytes }
    }

    /// Entry `index` of a table of 32-bit registers.
    pub(super) fn entry(&self, index: usize) -> Self {
        self.at(u32::try_from(index * 4).unwrap_or(0))
    }

    pub(super) fn mmio(&self) -> &M {
        &self.mmio
    }

    /// Where a register is, for who writes it without knowing its type.
    pub(super) fn offset_of<R: Register>(&self) -> u32 {
        self.base + R::OFFSET
    }

    pub(super) fn read<R: Register>(&self) -> R {
        R::from_bits(self.mmio.read(self.offset_of::<R>()))
    }

    pub(super) fn write<R: Register>(&self, register: R) {
        self.mmio.write(self.offset_of::<R>(), register.bits());
    }

    pub(super) fn update<R: Register>(&self, change: impl FnOnce(R) -> R) {
        self.write(change(self.read()));
    }

    /// Reads until `done` holds; what was read last, and whether it did within the limit.
    pub(super) fn wait<R: Register>(&self, limit: Duration, done: impl Fn(R) -> bool) -> Option<R> {
        let start = Instant::now();
        for look in 0_u64.. {
            let register = self.read();
            if done(register) {
                return Some(register);
            }
            // No register that is waited for has every bit set: the device is gone, and waiting is vain.
            // Nor is time that this thread did not get a sign of the device's.
            if register.bits() == u32::MAX || start.elapsed() >= limit && look >= LOOKS {
                return None;
            }
            pause(Duration::from_micros(50));
        }
        None
    }
}

/// Lets the device be for a while.
#[expect(
    clippy::disallowed_methods,
    reason = "set-up: datasheets demand pauses; no worker waits here"
)]
pub(super) fn pause(time: Duration) {
    std::thread::sleep(time);
}

#[cfg(test)]
mod tests {
    #![expect(clippy::upper_case_acronyms, reason = "as the datasheets' names are")]

    register! {
        /// Made up.
        DEMO @ 0x100 { EN = 1, KIND = 11:10, ALL = 31:0 }
    }

    #[test]
    fn fields_are_cut_out_and_put_in_without_touching_their_neighbours() {
        let demo = DEMO(0xFFFF_FFFF).with(DEMO::KIND, 1u32).with(DEMO::EN, false);
        assert_eq!(demo.0, 0xFFFF_F7FD);
        assert_eq!((demo.get(DEMO::KIND), demo.has(DEMO::EN)), (1, false));
        assert_eq!(DEMO::ALL.most(), u32::MAX);
    }
}
