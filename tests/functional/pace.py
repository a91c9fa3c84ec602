"""How fast this machine is now, so that a bound in seconds holds on a slow or busy one as well.

A bound is for an idle machine of ordinary speed. What is compared is processor time, in units of a fixed piece of work
of which such a machine does one a second; the work is done next to what is measured, so that both are slowed alike.
"""

import json
import subprocess
import sys

# Generous: what it stops is a hang. Everything that is measured here takes less than a second on an idle machine.
HANG = 60

# In a process of its own: what a child has used at most begins with what its parent had when it was made. The work is
# the interpreter's, since what a hash takes differs tenfold between processors with and without instructions for it.
MEASURE = '''
import json, os, subprocess, sys, time
def work():
    began = time.process_time()
    sum(number * number for number in range(5_000_000))
    return time.process_time() - began
before = work()
with subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
seconds = usage.ru_utime + usage.ru_stime
print(json.dumps([process.returncode, seconds / (before + work()), usage.ru_maxrss]))
'''


def measured(*words, below=None):
    """
    (exit status, processor time in seconds of an idle machine, most resident memory in KiB) of one command. What shares
    the caches with it slows it too: it is run up to three times until it takes less than below.
    """
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", MEASURE, *map(str, words)], capture_output=True, text=True,
                              check=True, timeout=HANG)
        status, seconds, kib = json.loads(done.stdout)
        if below is None or seconds < below:
            break
    return status, seconds, kib
