//! What an attestation takes.

use super::transport::Traffic;
use crate::time::Clock;
use core::time::Duration;

/// A part of an attestation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Until the proxy's first answer.
    Negotiation,
    /// Key and evidence.
    Evidence,
    /// Until the server's decision.
    Decision,
    /// Decryption and verification.
    Opening,
}

impl Phase {
    /// All phases in their order.
    pub const ALL: [Self; 4] = [
        Self::Negotiation,
        Self::Evidence,
        Self::Decision,
        Self::Opening,
    ];

    /// Its name in measurements.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Negotiation => "negotiation",
            Self::Evidence => "evidence",
            Self::Decision => "decision",
            Self::Opening => "opening",
        }
    }
}

/// Time and bytes of an attestation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Costs {
    times: [Duration; Phase::ALL.len()],
    /// Bytes on the line.
    pub traffic: Traffic,
}

impl Costs {
    /// Time of a phase.
    pub fn time(&self, phase: Phase) -> Duration {
        self.times[phase as usize]
    }
}

/// Adds up costs while an attestation runs.
pub(super) struct Meter<'c> {
    clock: &'c dyn Clock,
    last: Duration,
    costs: Costs,
}

impl<'c> Meter<'c> {
    pub(super) fn start(clock: &'c dyn Clock) -> Self {
        Self {
            clock,
            last: clock.now(),
            costs: Costs::default(),
        }
    }

    /// The time since the end of the phase before was `phase`.
    pub(super) fn end(&mut self, phase: Phase) {
        let now = self.clock.now();
        self.costs.times[phase as usize] += now.saturating_sub(self.last);
        self.last = now;
    }

    pub(super) fn costs(&self, traffic: Traffic) -> Costs {
        Costs {
            traffic,
            ..self.costs
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::fake::SteppingClock;

    #[test]
    fn phases_are_told_apart() {
        let clock = SteppingClock::new(Duration::from_millis(1));
        let mut meter = Meter::start(&clock);
        for phase in Phase::ALL {
            meter.end(phase);
        }
        meter.end(Phase::Decision);
        let costs = meter.costs(Traffic::default());
        let times = Phase::ALL.map(|phase| costs.time(phase).as_millis());
        assert_eq!(times, [1, 1, 2, 1]);
    }
}
