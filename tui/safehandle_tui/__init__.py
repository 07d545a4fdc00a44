"""`safehandle watch`: a session's handles on the screen, live or long after.

    model     what there is to show, without Textual
    reader    the thread that reads four times a second
    widgets   paint lines and rows
    screens   the watch, a handle's page, the help
    keys      all keys in one table;  palette: all colours
    watch     the app;  app: the door to it

It sees the watched processes only through their recordings, which are files:
watching costs a process nothing, and cannot stop it.
"""

from __future__ import annotations
