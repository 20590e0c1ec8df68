//! Settings of the controller, as its caller gives them.

/// Settings of the controller.
#[derive(Clone, Debug)]
pub struct Options {}
