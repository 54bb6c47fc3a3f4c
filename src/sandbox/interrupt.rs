//! The count hook: it stops a policy that takes too long, or recurses too deeply, wherever it is.
//!
//! Unsafe, as only the memory probe of macOS is besides. An error that a hook of mlua returns is raised after
//! `lua_settop` in the frame of the running function, which closes its `<close>` variables while hooks are
//! off: a `__close` that never ends would then never be interrupted. Raised with `lua_error` alone, Lua
//! unwinds as from any error, and closes with hooks on.

#![expect(
    unsafe_code,
    reason = "see above; Lua's own interface has no other way"
)]

use std::ffi::{CStr, c_int, c_void};
use std::mem::MaybeUninit;
use std::sync::Arc;

use mlua::{Lua, ffi};

use super::limits::SandboxLimits;

/// Depth of nested calls. Lua's own limit is 200,000, and reporting it takes longer than a hook may.
const DEEPEST: c_int = 8000;

/// Its address is the key under which a Lua state keeps the address of its limits.
static KEY: u8 = 0;

fn key() -> *const c_void {
    (&raw const KEY).cast()
}

/// Checks the clock of `limits` every `every` instructions of `lua`, for as long as it lives.
pub(crate) fn install(lua: &Lua, limits: &Arc<SandboxLimits>, every: c_int) -> mlua::Result<()> {
    // The state shares ownership of the limits that the hook reads.
    lua.set_app_data(Arc::clone(limits));
    let address = Arc::as_ptr(limits);
    // SAFETY: the closure leaves the stack as it found it, and the address stays valid as long as the
    // state: the app data above is dropped after it.
    unsafe {
        lua.exec_raw::<()>((), |state| {
            ffi::lua_pushlightuserdata(state, address.cast_mut().cast());
            ffi::lua_rawsetp(state, ffi::LUA_REGISTRYINDEX, key());
            ffi::lua_sethook(state, Some(look), ffi::LUA_MASKCOUNT, every);
        })
    }
}

/// Removes the count hook.
pub(crate) fn remove(lua: &Lua) -> mlua::Result<()> {
    // SAFETY: this touches no value of the state.
    unsafe { lua.exec_raw::<()>((), |state| ffi::lua_sethook(state, None, 0, 0)) }
}

/// Raises an error when the time is up, or calls are nested too deeply.
unsafe extern "C-unwind" fn look(state: *mut ffi::lua_State, _: *mut ffi::lua_Debug) {
    // SAFETY: Lua calls this with a valid state and room for 20 values (`LUA_MINSTACK`); the address is
    // the one `install` wrote. Nothing here has a destructor that the jump of `lua_error` would skip.
    unsafe {
        ffi::lua_rawgetp(state, ffi::LUA_REGISTRYINDEX, key());
        let limits = ffi::lua_touserdata(state, -1)
            .cast_const()
            .cast::<SandboxLimits>();
        ffi::lua_pop(state, 1);
        if limits.as_ref().is_some_and(SandboxLimits::overruns) {
            // The host replaces this text by its own.
            raise(state, c"it took too long");
        }
        // No longer than there are calls.
        let mut frame = MaybeUninit::<ffi::lua_Debug>::uninit();
        if ffi::lua_getstack(state, DEEPEST, frame.as_mut_ptr()) != 0 {
            raise(state, c"stack overflow: more than 8000 calls in calls");
        }
    }
}

/// Raises an error at the running instruction.
unsafe fn raise(state: *mut ffi::lua_State, text: &CStr) {
    // SAFETY: as in `look`, which calls this.
    unsafe {
        ffi::luaL_where(state, 0);
        ffi::lua_pushstring(state, text.as_ptr());
        ffi::lua_concat(state, 2);
        ffi::lua_error(state);
    }
}
