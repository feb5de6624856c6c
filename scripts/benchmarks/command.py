"""The command line of `scripts/bench`."""

import argparse
import json
import signal
import sys
from pathlib import Path

from benchmarks import accept, cold, memory, outage, report, stop, system

BENCHMARKS = {module.NAME: module for module in (accept, outage, memory, stop, cold)}
ABOUT = """\
Measures what opshook promises about figures, with the real release binaries as processes of their own on the embedded
engine on disk, and says of each promise whether it holds. All traffic is on 127.0.0.1; nothing is left behind.
"""
TEACHES = """\
benchmarks (all, in this order, where none is named):
  accept   posting events takes at most twice as long while ops is down, stalled or gone (some 8 minutes)
  outage   with 10,000 messages pending ops sees one request a probe interval; when it is back, they drain fast and in
           order (some 3 minutes)
  memory   with 100,000 messages pending emit-retry starts as fast and stays as small as with 1,000 (some 8 minutes)
  stop     SIGTERM with 64 messages in flight: each is finished, or goes on at once in the next process (15 seconds)
  cold     receive as a Lambda answers its first request within milliseconds of its exec (some seconds)

examples:
  scripts/bench                      everything; the binaries are built first
  scripts/bench stop outage          two of them
  scripts/bench accept --rounds 3    faster, and less exact
  scripts/bench cold --binaries target/lambda
                                     what scripts/lambda build made, as it is deployed
  scripts/bench --json > bench.json  for scripts; progress goes to standard error

The figures depend on what else the machine does: leave it alone meanwhile.
exit status: 0 all promises hold, 1 one is missed or could not be measured, 2 usage
"""


def main(arguments):
    """Runs what the arguments ask for. Answers the exit status."""
    options = parse(arguments)
    progress = report.Progress()
    # As Ctrl-C: what was started is ended.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return measure(options, progress)
    except system.Failed as failed:
        progress.clear()
        print(f"scripts/bench: {failed}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        progress.clear()
        print("scripts/bench: interrupted", file=sys.stderr)
        return 130


def parse(arguments):
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description=ABOUT, epilog=TEACHES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("benchmarks", nargs="*", metavar="BENCHMARK", help="accept, outage, memory, stop or cold")
    parser.add_argument("--rounds", type=rounds, default=8, help="rounds of accept for each state of ops (default 8)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON instead of a table")
    parser.add_argument("--binaries", type=Path, metavar="FOLDER", help="build nothing, and take the binaries from there")
    options = parser.parse_args(arguments)
    for name in options.benchmarks:
        if name not in BENCHMARKS:
            parser.error(f"there is no benchmark {name!r}; there are {', '.join(BENCHMARKS)}")
    return options


def rounds(text):
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 1_000:
        raise argparse.ArgumentTypeError("must be a number from 1 to 1000")
    return int(text)


def measure(options, progress):
    binaries = options.binaries
    if binaries is None:
        progress.begin("build", "the release binaries; from nothing that takes some minutes")
        binaries = system.build()
    names = [name for name in BENCHMARKS if name in options.benchmarks or not options.benchmarks]
    before, figures, notes = report.machine(), [], {}
    for name in names:
        benchmark = BENCHMARKS[name]
        progress.begin(name, benchmark.ABOUT)
        with system.Site(binaries.resolve()) as site:
            taken, notes[name] = benchmark.run(site, options, progress)
        figures.extend(taken)
    progress.clear()
    if options.json:
        print(json.dumps(report.as_json(figures, notes, before), indent=2))
    else:
        print("\n" + report.table(figures, notes, before))
    return 0 if all(figure.holds() is not False for figure in figures) else 1
