//! Shutdown, loss of power, startup.

use super::{
    Generator,
    model::{PLATFORM, Saved},
};
use crate::{
    random::Random,
    step::{Before, Step},
};

const CLEAR: u16 = 0;
const STATE: u16 = 1;

impl Generator {
    /// Mostly a shutdown, the loss of power and a startup; sometimes without the first.
    pub(super) fn restart(&mut self, random: &mut Random) -> Step {
        match random.below(8) {
            0 => Step::new(0x145).u16(random.pick(&[CLEAR, STATE, 2])),
            1 => self.startup(random, false),
            _ => {
                let kind = random.pick(&[CLEAR, STATE, STATE]);
                // Sometimes a command between, which may take the shutdown back.
                let direct = !random.one_in(4);
                Step::new(0x145).u16(kind).then(move |generator, _| {
                    let next = move |generator: &mut Self, random: &mut Random| {
                        Some(generator.startup(random, kind == STATE))
                    };
                    if direct {
                        generator.plans.clear();
                        generator.soon(next);
                    } else {
                        generator.plan(next);
                    }
                })
            }
        }
    }

    pub(super) fn startup(&mut self, random: &mut Random, saved: bool) -> Step {
        let kind = if saved && !random.one_in(4) {
            STATE
        } else {
            CLEAR
        };
        let kind = if random.one_in(20) { STATE } else { kind };
        let mut step = Step::new(0x144).u16(kind).at(random.pick(&[0, 0, 0, 3]));
        step.before = Before::PowerCycle;
        step.then(move |generator, _| generator.started(kind == STATE, saved))
    }

    /// All that is in memory is gone, whether a startup succeeds or not.
    pub(super) fn power_lost(&mut self) {
        self.objects.retain(super::model::Object::is_persistent);
        self.sequences.clear();
        self.sessions.clear();
        self.commits.clear();
        self.refused_startup = false;
        self.lockout_before = self.lockout_failed;
    }

    fn started(&mut self, resumed: bool, saved: bool) {
        if !resumed {
            self.hierarchy_auth
                .retain(|(hierarchy, _)| *hierarchy != PLATFORM);
            self.hierarchy_policy
                .retain(|(hierarchy, _)| *hierarchy != PLATFORM);
        }
        if !saved {
            // A reset: contexts are worth nothing any more, but for those of persistent hierarchies.
            self.contexts
                .retain(|context| matches!(context.what, Saved::Object(_)));
        }
        let numbers: Vec<_> = self.indices.iter().map(|index| index.index).collect();
        for number in numbers {
            self.look(number);
        }
    }
}
