//! The supervisor: owns every shared object, starts, watches and ends the children.
