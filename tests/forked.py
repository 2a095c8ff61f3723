"""Starts commands in processes that have imported the libraries already: for most commands of the
tests that is most of their time. A line of JSON comes in: the command, its arguments, environment,
files for what it prints, the seconds it has; its exit code goes out.
"""

import importlib
import json
import os
import runpy
import signal
import sys
import warnings

if __name__ == "__main__":
    import research.reporting.search_page
    import research.session
    import research.tuning.study  # noqa: F401

    # jax warns of forks: its threads would not be there. Nothing has started them yet.
    warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
    for line in sys.stdin:
        name, arguments, environment, *files, seconds = json.loads(line)
        child = os.fork()
        if not child:
            signal.alarm(seconds)
            os.environ.update(environment)
            importlib.reload(research)  # which adds to them
            for number, file in enumerate((os.devnull, *files)):
                os.dup2(os.open(file, os.O_RDWR | os.O_CREAT), number)
            sys.argv[1:] = arguments
            runpy.run_module(f"research.{name}", run_name="__main__", alter_sys=True)
            sys.exit()
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
