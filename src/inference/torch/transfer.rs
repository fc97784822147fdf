//! Values on their way to a device and back.
//!
//! On CUDA both ways are asynchronous: values lie in pinned memory, and an event says when the device has come so far.
//! On a CPU they are where they are needed, and a pass is over when its call returns.

use std::{
    cell::{Cell, RefCell},
    fmt,
    rc::Rc,
    time::Duration,
};

use metrics::histogram;
use tch::{Device, Kind, TchError, Tensor};

use super::{
    super::{
        backend::UnderWay,
        cuda::{
            event::{Event, Runtime},
            pinned::Pinned,
        },
        device::DeviceId,
        error::{EngineError, Operation},
    },
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
    /// Pinned memory that no pass uses now: taking it anew takes longer than a pass.
    free: Rc<RefCell<Vec<Pinned>>>,
    /// The device's time in passes that have landed.
    busy: Rc<Cell<Duration>>,
}

/// Pinned memory that a pass reads until it has landed.
struct Loan {
    buffer: Option<Pinned>,
    free: Rc<RefCell<Vec<Pinned>>>,
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.free.borrow_mut().extend(self.buffer.take());
    }
}

/// A pass while it is put together.
pub(super) struct Departure {
    operation: Operation,
    start: Option<Event>,
    loan: Option<Loan>,
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
                let cuda = Cuda {
                    runtime,
                    free: Rc::default(),
                    busy: Rc::default(),
                };
                (Device::Cuda(ordinal), Some(cuda))
            }
        };
        Ok(Self { id, device, cuda })
    }

    /// The device's time in passes that have landed; unknown of a CPU.
    pub(super) fn busy(&self) -> Option<Duration> {
        self.cuda.as_ref().map(|cuda| cuda.busy.get())
    }

    /// Begins a pass.
    ///
    /// # Errors
    /// [`EngineError::DeviceLost`].
    pub(super) fn depart(&self, operation: Operation) -> Result<Departure, EngineError> {
        Ok(Departure {
            operation,
            start: self.mark()?,
            loan: None,
        })
    }

    fn mark(&self) -> Result<Option<Event>, EngineError> {
        let mark = self.cuda.as_ref().map(|cuda| cuda.runtime.mark());
        mark.transpose().map_err(lost(self.id))
    }

    /// A float tensor on the device with the values that `fill` writes. Once in a pass.
    ///
    /// # Errors
    /// libtorch's: mostly that memory is short.
    pub(super) fn send(
        &self,
        departure: &mut Departure,
        shape: &[i64],
        fill: impl FnOnce(&mut [f32]),
    ) -> Result<Tensor, TchError> {
        let count = shape.iter().product::<i64>() as usize;
        let Some(cuda) = &self.cuda else {
            let mut values = vec![0.0; count];
            fill(&mut values);
            return Tensor::f_from_slice(&values)?.f_view(shape);
        };
        let spare = cuda.free.borrow_mut().pop();
        let mut buffer = match spare {
            Some(buffer) if buffer.room() >= count => buffer,
            _ => Pinned::new(&cuda.runtime, count).map_err(TchError::Torch)?,
        };
        let values = &mut buffer.values()[..count];
        fill(values);
        let sent = lent(values, shape)?.f_internal_to_copy((Kind::Float, self.device), true)?;
        departure.loan = Some(Loan {
            buffer: Some(buffer),
            free: Rc::clone(&cuda.free),
        });
        Ok(sent)
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
            loan,
        } = departure;
        let id = self.id;
        let total = self.cuda.as_ref().map(|cuda| Rc::clone(&cuda.busy));
        let failed = move |error: TchError| classify(&error.to_string(), id, operation);
        let (Some(start), Some(end)) = (start, self.mark()?) else {
            return read().map(UnderWay::landed).map_err(failed);
        };
        Ok(UnderWay::new(move || {
            let waited = end.wait().and_then(|()| end.since(&start));
            // Only now may its memory be written anew.
            drop(loan);
            let busy = waited.map_err(lost(id))?;
            histogram!("orfeas_engine_device_seconds", "op" => operation.label()).record(busy);
            total.inspect(|total| total.set(total.get() + busy));
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

/// A tensor that lies in values which others own. It must not outlive them.
#[expect(unsafe_code, reason = "tch copies slices into tensors of their own")]
fn lent(values: &mut [f32], shape: &[i64]) -> Result<Tensor, TchError> {
    let strides: Vec<i64> = (1..=shape.len())
        .map(|after| shape[after..].iter().product())
        .collect();
    // SAFETY: so many floats lie there, one behind the other; the caller drops the tensor within its statement.
    unsafe {
        Tensor::f_from_blob(
            values.as_ptr().cast(),
            shape,
            &strides,
            Kind::Float,
            Device::Cpu,
        )
    }
}
