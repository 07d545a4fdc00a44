"""Switching recording on by environment variable, in programs that know nothing of us.

Data flows `safehandle_debug.pth` (run by `site` at start-up) -> `start` ->
`options` (what the variable says) and `safehandle_debug.session` (where recordings
go); `prune` makes room, `alarm` is what the core calls, `stderr` is how both speak.

All of it runs before the program's first line, so it imports next to nothing
of the standard library: each module that we would load early is start-up time,
and is one that the program could no longer shadow with a file of its own.
"""
