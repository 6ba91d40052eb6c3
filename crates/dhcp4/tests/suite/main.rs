//! The client against simulated servers, on a virtual clock.

mod properties;
mod scripts;
mod simulation;
mod support;
mod table;
