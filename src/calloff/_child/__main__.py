"""The way in: this folder is run by the path of the interpreter of the owner, isolated and without `site`.

The folder itself must not stay on the path (its modules would hide those of the user), so packages are made of it and
of the one above: `_calloff`, which has calloff's folders and runs none of its code.
"""

import gc
import os
import sys
from types import ModuleType

if __name__ == "__main__":
    gc.disable()  # until all is loaded
    folder = sys.path.pop(0)
    package = ModuleType("_calloff")
    package.__path__ = [os.path.dirname(folder)]
    sys.modules["_calloff"] = package
    if os.getppid() != int(sys.argv[1]):  # the owner is gone already
        os._exit(0)
    from _calloff._child.keeper import main  # type: ignore[import-not-found]  # pyright: ignore

    main()
