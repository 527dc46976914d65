//! Chooses the next command from what the TPMs hold by now: mostly right, sometimes wrong in
//! one place.
//!
//! What takes several commands (a policy, a credential, a duplicate) is a [`Plan`]: each
//! command's [`Effect`] plans the next with what the answer said.

mod attest;
mod capability;
mod cipher;
mod context;
mod create;
mod damage;
mod duplicate;
mod ecc;
mod external;
mod hierarchy;
mod keys;
mod learn;
mod model;
mod nv;
mod nv_define;
mod pcr;
mod policy;
mod policy_steps;
mod restart;
mod rsa;
mod sequence;
mod session;
mod sign;
mod simple;
mod templates;
mod x509;

use std::{collections::VecDeque, rc::Rc};

use crate::{
    random::Random,
    step::{Answer, Before, Step},
};
use model::{Created, Index, Object, Recipe, SavedContext, Sequence, Session};

/// The first choices are those that make objects.
const MAKING: usize = 41;

/// What a successful command means.
pub type Effect = Box<dyn FnOnce(&mut Generator, &Answer)>;

/// A command that is made when its turn comes; nothing when it has become pointless.
pub type Plan = Box<dyn FnOnce(&mut Generator, &mut Random) -> Option<Step>>;

/// What is in both TPMs, as far as the generator knows.
pub struct Generator {
    objects: Vec<Object>,
    created: Vec<Created>,
    sessions: Vec<Session>,
    indices: Vec<Index>,
    contexts: Vec<SavedContext>,
    sequences: Vec<Sequence>,
    /// Policies that were tried out, with their digests.
    recipes: Vec<Rc<Recipe>>,
    /// Authorization values of hierarchies that are not empty.
    hierarchy_auth: Vec<(u32, Vec<u8>)>,
    /// Policies of hierarchies.
    hierarchy_policy: Vec<(u32, Rc<Recipe>)>,
    /// Numbers of ECC commits, with the key each needs.
    commits: Vec<model::Commit>,
    /// So many planned commands come undamaged, one after the other.
    in_a_row: u32,
    /// New counters may begin with another value on each side: the reference forgets what an
    /// orderly counter had when a clear deletes it.
    counters_apart: bool,
    /// lockoutAuth is disabled, after a wrong value.
    lockout_disabled: bool,
    /// lockoutAuth failed since the last clear, and before the power was lost.
    lockout_failed: bool,
    lockout_before: bool,
    /// A startup was refused; the next one comes after another loss of power.
    refused_startup: bool,
    /// What comes next.
    plans: VecDeque<Plan>,
}

impl Generator {
    pub fn new() -> Self {
        Self {
            objects: Vec::new(),
            created: Vec::new(),
            sessions: Vec::new(),
            indices: Vec::new(),
            contexts: Vec::new(),
            sequences: Vec::new(),
            recipes: Vec::new(),
            hierarchy_auth: Vec::new(),
            hierarchy_policy: Vec::new(),
            commits: Vec::new(),
            counters_apart: false,
            in_a_row: 0,
            lockout_disabled: false,
            lockout_failed: false,
            lockout_before: false,
            refused_startup: false,
            plans: VecDeque::new(),
        }
    }

    /// The next step.
    pub fn next(&mut self, random: &mut Random) -> Step {
        let mut step = self.undamaged(random);
        if self.refused_startup && step.code == 0x144 {
            // The reference forgets with a refused startup that a protected entity was used.
            step.before = Before::PowerCycle;
        }
        if step.before == Before::PowerCycle {
            self.power_lost();
        }
        step.lockout_before = self.lockout_before;
        if self.in_a_row > 0 {
            self.in_a_row -= 1;
            return step;
        }
        self.dress(random, &mut step);
        damage::damage(random, &mut step);
        step
    }

    fn undamaged(&mut self, random: &mut Random) -> Step {
        // Now and then something comes between.
        while (self.in_a_row > 0 || !random.one_in(12))
            && let Some(plan) = self.plans.pop_front()
        {
            if let Some(step) = plan(self, random) {
                return step;
            }
        }
        self.choose(random)
    }

    /// Plans a command for after the ones that are planned already.
    pub fn plan(&mut self, plan: impl FnOnce(&mut Self, &mut Random) -> Option<Step> + 'static) {
        self.plans.push_back(Box::new(plan));
    }

    /// Plans a command for next.
    pub fn soon(&mut self, plan: impl FnOnce(&mut Self, &mut Random) -> Option<Step> + 'static) {
        self.plans.push_front(Box::new(plan));
    }

    fn choose(&mut self, random: &mut Random) -> Step {
        if self.loaded_sessions() >= 3 && random.one_in(2) {
            return self.flush_session(random);
        }
        if self.plans.len() > 8 {
            self.plans.clear();
        }
        // Few slots: use what is there, or make room.
        let full = self.slots() >= 3;
        let choice = random.below(200);
        if full && choice < MAKING && !random.one_in(6) {
            return match random.below(3) {
                0 => self.flush_object(random),
                _ => self.choose(random),
            };
        }
        match choice {
            0..10 => self.create_primary(random),
            10..20 => self.create(random),
            20..31 => self.load(random),
            31..41 => self.load_external(random),
            41..44 => self.flush_object(random),
            44..53 => self.start_session(random),
            53..55 => self.flush_session(random),
            55..63 => self.policy_step(random),
            63..69 => self.new_recipe(random),
            69..75 => self.nv_define(random),
            75..95 => self.nv_use(random),
            95..103 => self.pcr(random),
            103..110 => self.sign(random),
            110..116 => self.verify(random),
            116..122 => self.cipher(random),
            122..127 => self.rsa(random),
            127..133 => self.ecc(random),
            133..140 => self.attest(random),
            140..147 => self.hierarchy(random),
            147..151 => self.capability(random),
            151..157 => self.sequence(random),
            157..162 => self.context(random),
            162..166 => self.persist(random),
            166..174 => self.duplicate(random),
            174..180 => self.object_use(random),
            180..184 => self.dictionary(random),
            184..191 => self.simple(random),
            191..194 => self.restart(random),
            194..197 => self.clock(random),
            _ => self.unseal(random),
        }
    }

    /// Transient slots in use.
    fn slots(&self) -> usize {
        let objects = self.objects.iter().filter(|object| !object.is_persistent());
        objects.count() + self.sequences.len()
    }

    fn loaded_sessions(&self) -> usize {
        self.sessions.len()
    }
}
