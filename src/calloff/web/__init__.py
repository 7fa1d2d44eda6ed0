"""Floor 7: the page of ``calloff serve``, a face of `calloff.control` like ``ps`` and ``top``.

    browser  --  _guard   who may speak at all: Host, Origin, token
             --  _app     the routes: the files of the page, the live stream, cancel
             --  _stream  what is sent each second: the rows that changed
             --  _server  uvicorn on a socket of ours, from its start to its end

The page itself is hand-written (``assets/``): one HTML file, one style sheet and a few small modules of JavaScript that
the browser loads as they are. It gets records and sends requests; it never sees an operation, and neither do we: all
that is known comes over the control sockets of the processes that are watched.

Needs the extra ``serve`` (Starlette and uvicorn). Nothing of this is loaded before somebody calls ``calloff serve``.
"""
