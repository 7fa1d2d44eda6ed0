"""The kernel's floor: processes, their trees and their inheritance, and numbers of files.

Nothing here imports anything else of calloff, and nothing slow: the package loads in under a millisecond, also by path
in child processes, where the modules of `calloff._child` use it. `proc` reads what `/proc` tells, `reaper` kills trees,
`fds` owns the numbers of files, `inherit` says what a child is to take over.
"""
