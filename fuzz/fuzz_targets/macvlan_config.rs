//! A network configuration, as anybody may write it. The program is included by its modules: it is
//! no library.

#![no_main]
#![allow(dead_code, reason = "the modules are the program's, and a target needs a part of each")]

#[path = "../../plugins/macvlan/add.rs"]
mod add;
#[path = "../../plugins/macvlan/addresses.rs"]
mod addresses;
#[path = "../../plugins/macvlan/check.rs"]
mod check;
#[path = "../../plugins/macvlan/codes.rs"]
mod codes;
#[path = "../../plugins/macvlan/config.rs"]
mod config;
#[path = "../../plugins/macvlan/container.rs"]
mod container;
#[path = "../../plugins/macvlan/del.rs"]
mod del;
#[path = "../../plugins/macvlan/diagnosis.rs"]
mod diagnosis;
#[path = "../../plugins/macvlan/fuzz.rs"]
mod fuzz;
#[path = "../../plugins/macvlan/gc.rs"]
mod gc;
#[path = "../../plugins/macvlan/host_access/mod.rs"]
mod host_access;
#[path = "../../plugins/macvlan/keep_routes.rs"]
mod keep_routes;
#[path = "../../plugins/macvlan/make.rs"]
mod make;
#[path = "../../plugins/macvlan/mark.rs"]
mod mark;
#[path = "../../plugins/macvlan/parent/mod.rs"]
mod parent;
#[path = "../../plugins/macvlan/remains.rs"]
mod remains;
#[path = "../../plugins/macvlan/routes.rs"]
mod routes;
#[path = "../../plugins/macvlan/source_routing.rs"]
mod source_routing;
#[path = "../../plugins/macvlan/status.rs"]
mod status;
#[path = "../../plugins/macvlan/testing.rs"]
mod testing;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| fuzz::config(input));
