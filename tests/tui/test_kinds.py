"""The numbers of kinds agree with each other."""

from __future__ import annotations

from pathlib import Path

from safehandle_tui.model.feed import Feed, ViewSpec
from safehandle_tui.model.kinds import KindRow
from support_programs import run_program

SERVER = """
    import os, signal, socket
    with socket.create_server(("127.0.0.1", 0)) as server:
        clients, served = [], []
        for _ in range(9):
            clients.append(socket.create_connection(server.getsockname()))
            served.append(server.accept()[0])
        for each in served[:4]:
            each.close()
        number = served.pop().detach()
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_sockets_of_a_server_count_as_sockets(tmp_path: Path) -> None:
    """Also those of accept(), whose object is made for a number that is open,
    and also when they are closed; one that was detached is nobody's."""
    (path,) = run_program(SERVER, tmp_path, level="full,fds=on").recordings
    feed = Feed([str(path)])
    view = feed.poll(ViewSpec(mode="kinds"))
    feed.close()
    assert view is not None
    rows: dict[tuple[str, str], KindRow] = {row.key: row for row in view.rows}
    sockets, raw = rows["socket", "socket"], rows["socket", "raw"]
    assert (sockets.open, sockets.opened, sockets.closed) == (14, 18, 4)
    assert (raw.open, raw.opened, raw.closed) == (1, 1, 0)
    assert all(row.opened == row.open + row.closed for row in rows.values())
