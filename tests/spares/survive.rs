//! Loads with spares that are killed, stopped and broken at random moments.
