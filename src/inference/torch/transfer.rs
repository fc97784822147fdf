//! Values on their way to a device and back.
//!
//! On CUDA both ways are asynchronous: values lie in pinned memory (`staging`), and an event says when the device has come
//! so far.
//! Queries and mattes have a stream of their own, which goes before the other one: an encode takes tens of milliseconds,
//! in which the conversions before it would wait for a query of one.
//! On a CPU they are where they are needed, and a pass is over when its call returns.

use std::{cell::RefCell, fmt, rc::Rc, sync::Arc, time::Duration};

use metrics::histogram;
use tch::{Device, Kind, TchError, Tensor};

use super::{
    super::{
        backend::UnderWay,
        cuda::{
            event::{Event, Runtime},
            pinned::Pool,
            stream::{Entered, Stream},
        },
        device::DeviceId,
        error::{EngineError, Operation},
        staging::{InPlace, Staging},
    },
    busy::Busy,
    message::classify,
};

/// The ways to and from one device.
pub(super) struct Transfers {
    id: DeviceId,
    pub(super) device: Device,
    cuda: Option<Cuda>,
}

struct Cuda {
    runtime: Runtime,
    /// For short passes.
    urgent: Stream,
    busy: Rc<RefCell<Busy>>,
}

/// A pass while it is put together.
pub(super) struct Departure {
    operation: Operation,
    start: Option<Event>,
    /// Its stream, if that is not the default one.
    entered: Option<Entered>,
}

impl fmt::Debug for Transfers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transfers")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Transfers {
    /// For a device, which becomes the calling thread's.
    ///
    /// # Errors
    /// [`EngineError::DeviceLost`] if the CUDA runtime cannot be called.
    pub(super) fn new(id: DeviceId) -> Result<Self, EngineError> {
        let (device, cuda) = match id {
            DeviceId::Cpu => (Device::Cpu, None),
            DeviceId::Cuda(ordinal) => {
                let runtime = Runtime::new(ordinal).map_err(lost(id))?;
                let origin = runtime.mark(None).map_err(lost(id))?;
                origin.wait().map_err(lost(id))?;
                let cuda = Cuda {
                    urgent: Stream::urgent(&runtime, ordinal).map_err(lost(id))?,
                    runtime,
                    busy: Rc::new(RefCell::new(Busy::since(origin))),
                };
                (Device::Cuda(ordinal), Some(cuda))
            }
        };
        Ok(Self { id, device, cuda })
    }

    /// The device's time in passes that have landed; unknown of a CPU.
    pub(super) fn busy(&self) -> Option<Duration> {
        let seconds = self.cuda.as_ref()?.busy.borrow().seconds();
        Some(Duration::from_secs_f64(seconds))
    }

    /// Begins a pass.
    ///
    /// # Errors
    /// [`EngineError::DeviceLost`].
    pub(super) fn depart(&self, operation: Operation) -> Result<Departure, EngineError> {
        let urgent = self.urgent(operation);
        let entered = urgent.map(Stream::enter).transpose();
        Ok(Departure {
            operation,
            start: self.mark(operation)?,
            entered: entered.map_err(lost(self.id))?,
        })
    }

    fn mark(&self, operation: Operation) -> Result<Option<Event>, EngineError> {
        let mark = |cuda: &Cuda| cuda.runtime.mark(self.urgent(operation));
        let mark = self.cuda.as_ref().map(mark);
        mark.transpose().map_err(lost(self.id))
    }

    /// The stream of short passes, for an operation that is one.
    fn urgent(&self, operation: Operation) -> Option<&Stream> {
        let cuda = self.cuda.as_ref()?;
        operation.is_short().then_some(&cuda.urgent)
    }

    /// Where callers lay values for this device.
    pub(super) fn staging(&self) -> Staging {
        match &self.cuda {
            Some(cuda) => Arc::new(Pool::new(cuda.runtime.clone())),
            None => Arc::new(InPlace),
        }
    }

    /// A float tensor on the device with these stretches of values, one after the other. Those in pinned memory must stay
    /// where they are until the pass has landed; others are copied before this returns.
    ///
    /// # Errors
    /// libtorch's: mostly that memory is short.
    pub(super) fn send(
        &self,
        shape: &[i64],
        stretches: &[Stretch<'_>],
    ) -> Result<Tensor, TchError> {
        if self.cuda.is_none() {
            let mut values = Vec::with_capacity(shape.iter().product::<i64>() as usize);
            for stretch in stretches {
                match *stretch {
                    Stretch::Values(some) => values.extend_from_slice(some),
                    Stretch::Filling { count, with } => values.resize(values.len() + count, with),
                }
            }
            return Tensor::f_from_slice(&values)?.f_view(shape);
        }
        let sent = |stretch: &Stretch<'_>| match *stretch {
            Stretch::Values(values) => {
                lent(values)?.f_internal_to_copy((Kind::Float, self.device), true)
            }
            Stretch::Filling { count, with } => {
                Tensor::f_full([count as i64], f64::from(with), (Kind::Float, self.device))
            }
        };
        let sent: Vec<Tensor> = stretches.iter().map(sent).collect::<Result<_, _>>()?;
        match sent.as_slice() {
            [whole] => whole.f_view(shape),
            parts => Tensor::f_cat(parts, 0)?.f_view(shape),
        }
    }

    /// A copy of a tensor that the processor may read once the pass has landed.
    ///
    /// # Errors
    /// libtorch's.
    pub(super) fn fetch(&self, tensor: &Tensor) -> Result<Tensor, TchError> {
        tensor
            .f_contiguous()?
            .f_internal_to_copy((Kind::Float, Device::Cpu), self.cuda.is_some())
    }

    /// Lets the pass go; `read` gets its results from what was fetched. Where nothing is asynchronous it has landed.
    ///
    /// # Errors
    /// [`EngineError`].
    pub(super) fn let_go<T: 'static>(
        &self,
        departure: Departure,
        read: impl FnOnce() -> Result<T, TchError> + 'static,
    ) -> Result<UnderWay<T>, EngineError> {
        let Departure {
            operation,
            start,
            entered,
        } = departure;
        let id = self.id;
        let total = self.cuda.as_ref().map(|cuda| Rc::clone(&cuda.busy));
        let failed = move |error: TchError| classify(&error.to_string(), id, operation);
        let (Some(start), Some(end)) = (start, self.mark(operation)?) else {
            return read().map(UnderWay::landed).map_err(failed);
        };
        drop(entered);
        let end = Rc::new(end);
        let is_over = {
            let end = Rc::clone(&end);
            move || end.is_over()
        };
        Ok(UnderWay::new(is_over, move || {
            let waited = end.wait().and_then(|()| end.since(&start));
            let took = waited.map_err(lost(id))?;
            histogram!("orfeas_engine_device_seconds", "op" => operation.label()).record(took);
            let counted = total.map(|total| total.borrow_mut().add(&start, &end));
            counted.transpose().map_err(lost(id))?;
            read().map_err(failed)
        }))
    }
}

/// Errors of the runtime stay with the device: no later call can succeed.
fn lost(device: DeviceId) -> impl FnOnce(String) -> EngineError {
    move |reason| EngineError::DeviceLost {
        device,
        reason,
        took_part: true,
    }
}

/// Some of the values of a tensor.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stretch<'a> {
    /// These.
    Values(&'a [f32]),
    /// So many of one value.
    Filling { count: usize, with: f32 },
}

/// A tensor that lies in values which others own. It must not outlive them.
#[expect(unsafe_code, reason = "tch copies slices into tensors of their own")]
fn lent(values: &[f32]) -> Result<Tensor, TchError> {
    // SAFETY: so many floats lie there and are only read; the caller drops the tensor within its statement.
    unsafe {
        Tensor::f_from_blob(
            values.as_ptr().cast(),
            &[values.len() as i64],
            &[1],
            Kind::Float,
            Device::Cpu,
        )
    }
}
