//! The terminal of the person: raw while a command has it, and as it was afterwards.

use std::io;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// Puts the terminal back when dropped.
#[derive(Debug)]
pub(super) struct RawMode {
    before: Termios,
}

/// Hands keys on as they come. `None` if not wanted, or if this is no terminal.
pub(super) fn raw_mode(wanted: bool) -> Option<RawMode> {
    if !wanted {
        return None;
    }
    let before = tcgetattr(io::stdin()).ok()?;
    let mut raw = before.clone();
    raw.make_raw();
    tcsetattr(io::stdin(), OptionalActions::Now, &raw).ok()?;
    Some(RawMode { before })
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // There is nothing to do about a terminal that is gone.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

/// Columns and rows.
pub(super) fn size() -> Option<(u16, u16)> {
    tcgetwinsize(io::stdout()).ok().map(|it| (it.ws_col, it.ws_row))
}
