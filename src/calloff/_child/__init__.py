"""What runs inside child processes, and the few words that both sides of the wire share.

Read in this order: `keeper` (the fork server: one per owner), `guard` (the supervisor: one per worker or command),
`standby` (guards of commands that wait for the next one), `lost` (what is done for guards that were killed), `program` and
`worker` (what a guard starts; a worker is set up by `nursery`), `inside` (the operation as the function sees it), `wire`
(how messages are written), `short` (how plain calls and values are). What is said of the kernel is in `calloff._os`.
Nothing here imports the rest of calloff: the folder is executed by itself, and its modules are known there as the package
``_calloff._child``. The owner imports `wire`, `short` and `by_value` alone; its ends are `calloff._places.keeper` and
`kept`, and `keepers`, which knows the one that is used now.

Who dies with whom::

    owner ── keeper ─┬─ guard ── worker ── whatever the function starts
                     └─ guard ── command ── whatever the command starts

A guard is a child subreaper: every descendant that loses its parent, daemons included, becomes a child of the guard. So
the guard kills its children until it has none, and then it is known that nothing is left. It does so when it is told
to, when its deadline passes, when the work has ended, and when the owner is gone.

An owner (O), its keeper (K), the guards (G), a worker (W) say to each other, in letters (`wire`), in this order:

=================================== ======= =============================================================================
letter                              from    means; what its absence means, and within which time
=================================== ======= =============================================================================
``up, pid``                         K to O  the keeper lives. Its end before that, or no word in 5 s: `CalloffError` with
                                            what it wrote
``prepare, details``                O to K  load what workers need; no answer
``worker|command|foreground, n, m`` O to K  fork guard n, with m files: its control socket, then those of the work
``split, 0, m, credentials``        O to K  fork a keeper for an owner that has dropped its privileges
``hold, k, 1``                      O to K  keep that file open until the owner and all that it started have ended
``drop, k, 0``                      O to K  close it before
``lease, 0, 1``                     O to K  guards that are forked from now on kill their work when the lease in that file
                                            is over (`lease`); no answer
``inherit, settings``               O to G  umask, limits, ... that the work is to have
``start, details``                  O to G  start the work
``born, pid, own, at`` (and a pidfd) G to O it runs. As long as that is awaited, O looks 4 times a second after K: one
                                            that is stopped is continued, and killed when that does not help in 0.7 s
``alone, own``                      G to O  K is gone. From then on O looks after G itself, wherever it waits for G
``failed, errno, text``             G to O  it could not be started; the last letter
``limit, n, at, deadline, asking``  O to G  when to kill, what the work is told of its deadline, and how to ask it should
                                            O not come to it. None comes for a job whose limits pass later than those
                                            that came last: when these have passed, G reads on the page what counts now
``allow, seconds, grace, signal``   O to G  the same for a command, from the moment at which it begins
``ask, n, signal, reason``          O to G  ask the work to end
``never``                           O to G  start nothing; without effect when it has begun
``refused, n``                      G to O  the function was asked and went on
``kill``                            O to G  kill it and all that descends from it; so does the end of the socket
``ended, how``                      G to O  all is dead and reaped, but for the `survivors`. An end of the socket without
                                            it: G was killed, and O turns to K
``gone``                            G to O  the survivors are gone, too; the last letter
a byte, on a line of their own      G to K  its command has ended, nothing is left below it, and it is as it was born: the
                                            next one can come. Where none does in 0.05 s, K ends the line, and so G
a byte with files, on that line     K to G  the next ``command``, which has a number and a control socket of its own
``tell, n, 1, pid``                 O to K  guard n is gone: K kills what came to it, reaps, and says ``ended`` (with the
                                            cause ``lost``) and ``gone`` on the socket that comes with this letter. Its end
                                            without that: K was killed, too, and O kills what it can find
=================================== ======= =============================================================================

`how` has the `status` of the work, the `cause` (`itself`, `kill`, `limit`, `lease`, `never` or `lost`), whether it was
`asked`, the last job that a worker had `begun`, the last one that it had `refused`, and the `survivors`. Where the cause is
`lost` it also has the status of the `guard`, and whether the work was `launched`: K reads that on the page which it made
for G. What was not launched O has started again, by another guard; a job that was not begun goes to another worker.

A keeper or a guard that is stopped is continued by the system as soon as a letter comes for it, or the end of its socket:
so also when O is killed while all of them are stopped. As long as nothing comes, K looks after its guards. One that was
stopped before it could ask for that has it from the start: K asks for its guards, timers continue a K that does not look
after O yet, and, a few times a minute, each K: O may have ended just before that was stopped. And O, as long as it waits,
continues the process group of K and its guards, those too that it does not know.

What is called off while nobody has read its ``start`` O takes back: it says ``never``, and the kernel tells that the
``start`` before that is still unread. G reads all there is before it starts anything. Where the ``start`` was read in that
moment, nothing is lost: what G has begun is asked, and has its grace.

A worker that loses G is stopped, not killed: as a subreaper it keeps together what it has started, until K, or else O, has
killed that.

Jobs and results go in frames (`wire`) between O and W, and what the function reports in packets on a socket of its own;
while neither comes, G still says how W ended.
"""
