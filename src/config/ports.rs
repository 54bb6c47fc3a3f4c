//! Gives every model its port. Only the daemon probes; a model keeps its port across reloads.
