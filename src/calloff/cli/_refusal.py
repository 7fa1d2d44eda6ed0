"""What the command line can't do, said in one sentence before anything is started."""

__all__ = ["Refused"]


class Refused(Exception):
    """Bad input. Its text is the sentence for people, which `calloff.cli.main` prints; `status` is the exit status."""

    def __init__(self, text: str, status: int = 2) -> None:
        super().__init__(text)
        self.status = status
