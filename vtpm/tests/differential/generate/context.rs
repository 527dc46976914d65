//! Contexts of objects, sequences and sessions: saved and loaded again.

use super::{
    Generator,
    model::{Saved, SavedContext},
};
use crate::{
    random::Random,
    step::{Handle, Step},
};

impl Generator {
    pub(super) fn context(&mut self, random: &mut Random) -> Step {
        if !self.contexts.is_empty() && random.one_in(2) {
            return self.load_context(random);
        }
        let what = match random.below(5) {
            0..2 => {
                let transient: Vec<_> = self
                    .objects
                    .iter()
                    .filter(|object| !object.is_persistent())
                    .cloned()
                    .collect();
                random.choose(&transient).cloned().map(Saved::Object)
            }
            2 => random.choose(&self.sequences).cloned().map(Saved::Sequence),
            _ => random.choose(&self.sessions).cloned().map(Saved::Session),
        };
        let Some(what) = what else {
            return self.start_session(random);
        };
        let handle = match &what {
            Saved::Object(object) => object.handle.clone(),
            Saved::Sequence(sequence) => sequence.as_handle(),
            Saved::Session(session) => session.as_handle(),
        };
        Step::new(0x162)
            .handle(handle.clone())
            .then(move |generator, answer| {
                if matches!(what, Saved::Session(_)) {
                    // Saving takes a session away.
                    generator.forget(handle.handle);
                }
                generator.contexts.push(SavedContext {
                    bytes: answer.parameters.clone(),
                    what,
                });
                if generator.contexts.len() > 6 {
                    generator.contexts.remove(0);
                }
            })
    }

    fn load_context(&mut self, random: &mut Random) -> Step {
        let at = random.below(self.contexts.len());
        let context = self.contexts[at].clone();
        if matches!(context.what, Saved::Session(_)) && !random.one_in(8) {
            self.contexts.remove(at);
        }
        Step::new(0x161)
            .each(&context.bytes)
            .then(move |generator, answer| {
                let handle = answer.handle;
                match context.what {
                    Saved::Object(mut object) => {
                        object.handle = Handle {
                            handle,
                            name: object.handle.name,
                        };
                        generator.objects.push(object);
                    }
                    Saved::Sequence(mut sequence) => {
                        sequence.handle = handle;
                        generator.sequences.push(sequence);
                    }
                    Saved::Session(mut session) => {
                        session.handle = handle;
                        generator.sessions.push(session);
                    }
                }
            })
    }
}
