//! Undo beside do: a stack of actions that runs backwards unless the work is kept.

/// Actions that take back what was done, run last to first when the stack is dropped before
/// [`Undo::keep`]. Each action deals with (logs) its own failure, so that the rest still run.
#[derive(Default)]
#[must_use = "dropping the stack at once undoes the work at once"]
pub struct Undo(Vec<Box<dyn FnOnce() + Send>>);

impl Undo {
    /// An empty stack.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an action that takes back the step that was just done.
    pub fn push(&mut self, action: impl FnOnce() + Send + 'static) {
        self.0.push(Box::new(action));
    }

    /// The work succeeded: nothing is taken back.
    pub fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        while let Some(action) = self.0.pop() {
            action();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    fn run(keep: bool) -> Vec<i32> {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut undo = Undo::new();
        for i in 1..=3 {
            let seen = Arc::clone(&seen);
            undo.push(move || seen.lock().map(|mut s| s.push(i)).unwrap_or_default());
        }
        if keep {
            undo.keep()
        } else {
            drop(undo)
        }
        seen.lock().map(|s| s.clone()).unwrap_or_default()
    }

    #[test]
    fn runs_backwards_unless_kept() {
        assert_eq!(run(false), [3, 2, 1]);
        assert!(run(true).is_empty());
    }
}
