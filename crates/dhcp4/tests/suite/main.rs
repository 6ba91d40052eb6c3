//! The client against servers that exist only here, on a clock that only the tests move.

mod properties;
mod scripts;
mod simulation;
mod support;
mod table;
