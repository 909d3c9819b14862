//! Persistent workers, one wake per entry, a barrier.

/// A worker's place in the call that it is running.
pub struct Seat<'a> {
    shared: std::marker::PhantomData<&'a ()>,
}

impl Seat<'_> {
    /// Waits until every worker of the call has come this far.
    pub fn barrier(&self) {}
}
