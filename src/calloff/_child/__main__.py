"""The way in: this folder is run by the path of the interpreter of the owner, isolated and without `site`.

The folder itself must not stay on the path (its modules would hide those of the user), so a package is made of it.
"""

import sys
from types import ModuleType

if __name__ == "__main__":
    package = ModuleType("_calloff_child")
    package.__path__ = [sys.path.pop(0)]
    sys.modules["_calloff_child"] = package
    from _calloff_child.keeper import main  # type: ignore[import-not-found]  # pyright: ignore

    main()
