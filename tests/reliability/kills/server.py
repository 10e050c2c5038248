"""Starts runs that are to be killed: imports everything once, and forks a child for each run.

A child of a process that has used OpenMP would hang. So this process only imports, and checks that it has one thread.
It reads requests, a line of JSON each, and answers each with a line of JSON:

- `{"task": NAME, "words": [...], "folder": PATH, "log": PATH, "environment": {...}, "at": N, "fate": F, "after": S}`
  forks a child, the leader of a process group of its own, and gives its `pid`. The fate befalls it when it sets about
  the N-th change below the folder, so that a slow machine makes no difference to what it has done by then: it is
  "killed" after S more seconds, the disk is "full", the file system is "read-only" from then on, or it gets the signal
  that is named, such as "SIGTERM".
- `{"pid": PID}` gives the `status` of a child, or null while it runs: the exit code, or minus the number of the signal.
"""

import errno
import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

# Events of Python's audit hooks that change the disk, and the positions of the paths in their arguments.
CHANGES = {
    "os.rename": (0, 1),
    "os.remove": (0,),
    "os.mkdir": (0,),
    "os.rmdir": (0,),
    "os.truncate": (0,),
    "shutil.rmtree": (0,),
}
_WRITES = os.O_WRONLY | os.O_RDWR


def sparsecode(words: list[str]) -> None:
    """Run a command."""
    from sparsecode_pl.cli import main

    sys.argv = [str(Path(sys.executable).with_name("sparsecode")), *words]  # which other processes are started with
    main(words)


def save_dictionary(words: list[str]) -> None:
    """Save the dictionary of one folder over that of another."""
    from sparsecode_pl import Dictionary

    made, folder = words
    Dictionary.from_pretrained(made).save_pretrained(folder)


TASKS: dict[str, Callable[[list[str]], None]] = {"sparsecode": sparsecode, "save_dictionary": save_dictionary}


def befall(folder: str, number: int | None, fate: str, after: float) -> Callable[[], int]:
    """Let something befall this process at one of the changes that it makes below a folder.

    Args:
        folder: its path, absolute.
        number: of the change, from 1; nothing befalls it if None.
        fate: "killed", "full", "read-only", or the name of a signal.
        after: seconds to live where it is killed; with 0 the change is not made.

    Returns:
        Tells how many changes were made so far.
    """
    made = 0

    def inside(path: Any) -> bool:
        return isinstance(path, str | os.PathLike) and os.path.abspath(path).startswith(folder + os.sep)  # noqa: PTH100

    def hook(event: str, args: tuple[Any, ...]) -> None:
        nonlocal made
        if event == "open":
            path, _, flags = args
            paths = [path] if isinstance(flags, int) and flags & _WRITES else []
        else:
            paths = [args[place] for place in CHANGES.get(event, ())]
        if not any(map(inside, paths)):
            return
        made += 1
        if fate == "read-only" and number is not None and made >= number:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(paths[0]))
        if made == number:
            if fate == "full":
                fill(folder)
            elif fate.startswith("SIG"):
                os.kill(os.getpid(), signal.Signals[fate])
            elif after == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            else:
                signal.setitimer(signal.ITIMER_REAL, after)  # the system ends the process, as SIGKILL would

    sys.addaudithook(hook)
    return lambda: made


def fill(folder: str) -> None:
    """Take all the room that is left."""
    ballast = os.open(f"{folder}-ballast", os.O_WRONLY | os.O_CREAT)
    with suppress(OSError):
        while os.write(ballast, bytes(4096)):
            pass
    os.close(ballast)


def run(request: dict[str, Any]) -> None:
    """Do what is asked in a child, which never returns."""
    os.setsid()
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.environ.update(request["environment"])
    folder = request["folder"]
    os.chdir(folder)
    made = befall(folder, request["at"], request["fate"], request["after"])
    status = 0
    try:
        TASKS[request["task"]](request["words"])
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)  # noqa: T201
    except BaseException:
        import traceback

        traceback.print_exc()
        status = 70
    finally:
        print(f"changes: {made()}", flush=True)  # noqa: T201
        sys.stderr.flush()
    # What was registered to run at the exit of a process does, but nothing is waited for that the parent had begun.
    import atexit

    atexit._run_exitfuncs()
    os._exit(status)


def serve() -> None:
    """Import, and answer requests until the input ends."""
    import joblib  # noqa: F401
    import matplotlib.backends.backend_agg  # noqa: F401
    import torch._dynamo  # the optimiser imports it at the first step
    import torch.utils.tensorboard  # noqa: F401
    from matplotlib.figure import Figure

    import sparsecode_pl.cli
    import sparsecode_pl.coding.greedy_numba  # noqa: F401
    from sparsecode_pl.callbacks import tensorboard_figures
    from sparsecode_pl.data import import_plugins

    import_plugins()
    for name in ("coefficient_figure", "frequency_figure"):  # drawing them is most of a short fit
        setattr(tensorboard_figures, name, lambda *_: Figure(figsize=(1, 1)))
    threads = len(list(Path("/proc/self/task").iterdir()))
    print(json.dumps({"threads": threads}), flush=True)  # noqa: T201
    for line in sys.stdin:
        request = json.loads(line)
        if "pid" in request:
            pid, status = os.waitpid(request["pid"], os.WNOHANG)
            answer = {"status": os.waitstatus_to_exitcode(status) if pid else None}
        else:
            pid = os.fork()
            if pid == 0:
                run(request)
            answer = {"pid": pid}
        print(json.dumps(answer), flush=True)  # noqa: T201


if __name__ == "__main__":
    serve()
