//! What plugins remember from one point of a cycle to the next.

use std::any::{Any, TypeId};

/// A value that a plugin keeps for one cycle. It can be copied, so that preemption can imagine changes to it.
pub trait StateData: Any + Send {
    fn boxed_clone(&self) -> Box<dyn StateData>;
    fn as_any(&self) -> &dyn Any;
    fn as_any_mut(&mut self) -> &mut dyn Any;
}

impl<T: Any + Send + Clone> StateData for T {
    fn boxed_clone(&self) -> Box<dyn StateData> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

/// Values by their type, and which plugins have nothing to say in this cycle (by index in the profile).
#[derive(Default)]
pub struct CycleState {
    values: Vec<(TypeId, Box<dyn StateData>)>,
    pub skip_filter: u64,
    pub skip_score: u64,
}

impl CycleState {
    pub fn write<T: StateData>(&mut self, value: T) {
        let id = TypeId::of::<T>();
        match self.values.iter_mut().find(|(i, _)| *i == id) {
            Some((_, slot)) => *slot = Box::new(value),
            None => self.values.push((id, Box::new(value))),
        }
    }

    pub fn read<T: StateData>(&self) -> Option<&T> {
        let id = TypeId::of::<T>();
        // Some five values: a scan beats hashing.
        self.values.iter().find(|(i, _)| *i == id).and_then(|(_, v)| v.as_ref().as_any().downcast_ref())
    }

    pub fn read_mut<T: StateData>(&mut self) -> Option<&mut T> {
        let id = TypeId::of::<T>();
        self.values.iter_mut().find(|(i, _)| *i == id).and_then(|(_, v)| v.as_mut().as_any_mut().downcast_mut())
    }
}

impl Clone for CycleState {
    fn clone(&self) -> Self {
        Self {
            values: self.values.iter().map(|(id, v)| (*id, v.as_ref().boxed_clone())).collect(),
            skip_filter: self.skip_filter,
            skip_score: self.skip_score,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_changed_without_the_original() {
        let mut state = CycleState::default();
        state.write(1u32);
        let mut copy = state.clone();
        *copy.read_mut::<u32>().unwrap() = 2;
        assert_eq!((state.read::<u32>(), copy.read::<u32>(), state.read::<u64>()), (Some(&1), Some(&2), None));
    }
}
