"""`--debug` and BACKSTAY_DEBUG_LOG: opens the log that was asked for, and says where it is."""

import os
import sys
import time
from collections.abc import Callable

from backstay import __version__
from backstay.cli.run import DEBUG_LOG
from backstay.cli.terminal import harmless
from backstay.errors import BackstayError
from backstay.runtime.config import default_home
from backstay.runtime.trace import Trace, begin, log_path


def debugged(action: str, run: Callable[[Trace | None], int]) -> int:
    """Run with a log; without one, and a line that says why, where it can't be written."""
    trace = _opened()
    if trace is None:
        return run(None)
    trace.supervised()
    begin(trace, __version__, action)
    try:
        code = run(trace)
    except BackstayError as error:
        trace.say("refused", kind=type(error).__name__, reason=str(error))
        raise
    except BaseException as error:
        trace.failure("the command", error)
        raise
    else:
        trace.say("exit", code=code)
        return code
    finally:
        trace.close()


def _opened() -> Trace | None:
    path = os.path.expanduser(os.environ.get(DEBUG_LOG, ""))
    try:
        path = os.path.abspath(path) if path else log_path(default_home(os.environ), time.time())
        trace = Trace(path, _say)
    except OSError as error:
        _say(f"there will be no log: {path or default_home(os.environ)}: {error.strerror}")
        return None
    _say(f"the log is {path}")
    return trace


def _say(line: str) -> None:
    print(f"backstay: {harmless(line)}", file=sys.stderr, flush=True)
