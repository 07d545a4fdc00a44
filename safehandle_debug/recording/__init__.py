"""Reads recordings: any process's, live or long dead, without its help.

A Recording maps one file read-only; it never takes a lock that the recorded
process could wait for.  `sessions` finds the files.  Everything that can be
wrong with a file is a RecordingError of one sentence.
"""

from safehandle_debug.errors import RecordingError as RecordingError
from safehandle_debug.recording.format import Header as Header
from safehandle_debug.recording.reader import Recording as Recording
from safehandle_debug.recording.reader import open_recording as open_recording
from safehandle_debug.recording.records import Frame as Frame
from safehandle_debug.recording.records import RawEvent as RawEvent
from safehandle_debug.recording.records import RawLive as RawLive
from safehandle_debug.recording.records import ThreadInfo as ThreadInfo
from safehandle_debug.recording.records import TypeInfo as TypeInfo
from safehandle_debug.recording.sessions import Session as Session
from safehandle_debug.recording.sessions import resolve as resolve
from safehandle_debug.recording.sessions import root as root
from safehandle_debug.recording.sessions import sessions as sessions

__all__ = [
    "Frame",
    "Header",
    "RawEvent",
    "RawLive",
    "Recording",
    "RecordingError",
    "Session",
    "ThreadInfo",
    "TypeInfo",
    "open_recording",
    "resolve",
    "root",
    "sessions",
]
