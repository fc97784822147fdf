//! Memory in which values wait for a device.
//!
//! A GPU reads pinned memory by itself while its thread does other things. So whoever makes points or a picture lays them
//! there, on a thread of its own; the device's thread copies nothing. A CPU reads any memory.

use std::{fmt, ops::Deref, sync::Arc};

/// Where to lay values for the devices of an engine.
pub trait Stage: fmt::Debug + Send + Sync {
    /// Lays `count` values where the devices read them best. `write` is called once and puts them there, whatever is in the
    /// place before.
    fn stage(&self, count: usize, write: &mut dyn FnMut(&mut [f32])) -> Staged;
}

/// A way to lay values for devices that all of an engine's callers share.
pub type Staging = Arc<dyn Stage>;

/// For devices that read any memory.
#[derive(Debug, Clone, Copy)]
pub struct InPlace;

impl Stage for InPlace {
    fn stage(&self, count: usize, write: &mut dyn FnMut(&mut [f32])) -> Staged {
        let mut values = vec![0.0; count];
        write(&mut values);
        values.into()
    }
}

/// Values that wait for a device; cheap to clone.
#[derive(Clone)]
pub struct Staged(Arc<dyn AsRef<[f32]> + Send + Sync>);

impl Staged {
    /// Values in memory of any kind.
    pub fn new(memory: impl AsRef<[f32]> + Send + Sync + 'static) -> Self {
        Self(Arc::new(memory))
    }

    /// The values as points: x, y and z of each.
    #[must_use]
    pub fn as_points(&self) -> &[[f32; 3]] {
        self.as_chunks().0
    }
}

impl From<Vec<f32>> for Staged {
    fn from(values: Vec<f32>) -> Self {
        Self::new(values)
    }
}

impl From<Vec<[f32; 3]>> for Staged {
    fn from(points: Vec<[f32; 3]>) -> Self {
        points.into_flattened().into()
    }
}

impl Deref for Staged {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        (*self.0).as_ref()
    }
}

impl fmt::Debug for Staged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Staged({} values)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_values_one_behind_the_other() {
        let count_up = &mut |place: &mut [f32]| {
            (1_u8..)
                .zip(place)
                .for_each(|(number, value)| *value = number.into());
        };
        let staged = InPlace.stage(6, count_up);
        assert_eq!(staged.as_points(), [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]);
        assert_eq!(*Staged::from(vec![[1.0, 2.0, 3.0]]), [1.0, 2.0, 3.0]);
    }
}
