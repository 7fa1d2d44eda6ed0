"""Functions on other machines, with the same handle and the same certainty as in processes of this one.

    cluster = calloff.cluster.local(2)             # or .ssh(["alpha", "beta"]), .commands({...}), .ray(), .dask(client)
    async with cluster:
        op = calloff.start(cluster.process(fn, 1, 2), timeout=60)
        value = await op

An *agent* of calloff's own runs on each node, in a process of its own: an engine or ssh starts it and carries a stream of
bytes to it, and decides nothing. Nothing listens on a port for calloff. What an owner (O) and an agent (A) say to each
other, in frames (a short tuple, a pickle, its large buffers), always in the order in which it was sent:

================================================ ==== ================================================================
frame                                            from means
================================================ ==== ================================================================
``hello, facts, path, clock``                    A    the agent lives: its versions, its machine, the file of its
                                                      lease, its clock
``welcome, until, slots, path, cwd``             O    what it is to be; the lease begins, on the agent's clock, too
``beat, n, until``                               O    the owner lives, and is believed to until then, on the agent's
                                                      clock: the last that it has told, and the lease. So a beat that
                                                      is late grants nothing that the owner does not know of
``beat, n, clock``                               A    heard
``start, token, ref, valid, left, force, stamp`` O    run the call in the pickle, if the clock is not past `valid`;
                                                      `left` seconds to its deadline, `force` to force. A token is one
                                                      attempt, for ever: a second start with it does nothing
``ask, token, kind, text, by, ago, left, force`` O    ask it to end; remembered when it comes before the start
``limit, token, left, force``                    O    the deadline was changed
``force, token``                                 O    kill it and everything below it
``look, token``                                  O    where is it?
``seen, token, stack``                           A    there
``located, refused, progressed, helped, cancel`` A    what any body tells its operation; each with the token
``done, token, kind, reached, survivors``        A    it has ended: the pickle is a value, an error or a cancel
``raised, token, survivors``                     A    its process died: the pickle is the error
``stopped, token, rung, survivors``              A    it was stopped; all of it is dead and reaped but for the
                                                      survivors
``lost, token``                                  A    the lease was over, and it is dead
``refused-start, token, why``                    A    it was not begun
``over``                                         A    the lease was over, everything is dead, and this agent ends
``witness, path, patience``                      O    does anything live of the agent with that file of a lease?
``witnessed, path, gone``                        A    this is what was seen of it
``bye``                                          O    end, as does the end of the stream
================================================ ==== ================================================================
"""

from .._door import lazy

TYPE_CHECKING = bool()  # noqa: UP018  # Jedi would skip what stands behind a plain False
if TYPE_CHECKING:
    from ._cluster import Cluster as Cluster
    from ._cluster import Nodes as Nodes
    from ._cluster import NodeState as NodeState
    from ._dask import dask as dask
    from ._local import local as local
    from ._ray import ray as ray
    from ._ssh import ssh as ssh
    from ._started import commands as commands
    from ._words import Carrier as Carrier
    from ._words import Node as Node
    from ._words import NodeLost as NodeLost
    from ._words import NodeRefused as NodeRefused
    from ._words import Wire as Wire

_HOMES = {
    "_cluster": ("Cluster", "NodeState", "Nodes"),
    "_dask": ("dask",),
    "_local": ("local",),
    "_ray": ("ray",),
    "_ssh": ("ssh",),
    "_started": ("commands",),
    "_words": ("Carrier", "Node", "NodeLost", "NodeRefused", "Wire"),
}

if not TYPE_CHECKING:  # type checkers are to know the names above, and no others
    __all__, __getattr__, __dir__ = lazy(__name__, _HOMES)
