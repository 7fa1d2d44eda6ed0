"""What runs inside child processes, and the few words that both sides of the wire share.

Read in this order: `keeper` (one per owner, forks), `guard` (one per worker or command, kills), `tree` (how a tree of
processes is killed for sure), `worker` (runs the functions), `inside` (the operation as the function sees it), `wire`
(the messages). Nothing here imports the rest of calloff: the folder is executed by itself, and its modules are known
there as the package ``_calloff_child``. The owner imports `wire` alone.

Who dies with whom::

    owner ── keeper ─┬─ guard ── worker ── whatever the function starts
                     └─ guard ── command ── whatever the command starts

A guard is a child subreaper: every descendant that loses its parent, daemons included, becomes a child of the guard. So
the guard kills its children until it has none, and then it is known that nothing is left. It does so when it is told
to, when its deadline passes, when the work has ended, and when the owner is gone.
"""
