'''What every command shares: its flags, its one-line errors, its exit statuses.

A command is a short module:

    """Counts things."""

    from absl import flags

    from dcign_tf.cli import common

    FLAGS = common.command_flags()
    _COUNT = flags.DEFINE_integer("count", 3, "how many", lower_bound=1, flag_values=FLAGS)

    def main(argv: list[str]) -> None:
        from dcign_tf import counting  # Heavy imports here: --help and mistyped flags answer at once.

        counting.count(_COUNT.value)

    def main_entry() -> None:
        common.run(main, FLAGS)

    if __name__ == "__main__":
        main_entry()

Each command has flag values of its own, not absl's global ones, so that two commands may both have
`--workdir` and one process (a test, a notebook) may still import both. A test calls
`common.execute(train.main, train.FLAGS, ["dcign-train", "--steps=2"])` and gets the exit status.
'''

import contextlib
import difflib
import errno
import importlib.abc
import importlib.machinery
import importlib.util
import os
import pathlib
import re
import sys
import tempfile
import textwrap
import traceback
import types
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn

from absl import flags
from absl import logging as absl_logging

from dcign_tf import errors, processes

Main = Callable[[list[str]], int | None]

_HELP_WIDTH = 100


def command_flags() -> flags.FlagValues:
    """Returns fresh flag values with what every command has: `--debug` and `--flagfile`."""
    values = flags.FlagValues()
    flags.DEFINE_boolean(
        "debug", False, "show the traceback of an error and all log messages", flag_values=values
    )
    # absl acts on --flagfile by itself; defining it puts it into the help.
    flags.DEFINE_string(
        "flagfile",
        "",
        "read flags from this file, one on each line; of two values of a flag, the later one counts",
        flag_values=values,
    )
    return values


def run(
    main: Main,
    flag_values: flags.FlagValues = flags.FLAGS,
    argv: Sequence[str] | None = None,
    allow_arguments: bool = False,
) -> NoReturn:
    """Parses the flags, calls `main`, and ends the process; see `execute`.

    Args:
        main: gets [program, *arguments that are not flags]; its result, if any, is the exit status.
        flag_values: the command's flags, from `command_flags`.
        argv: the program and its arguments; `sys.argv` by default.
        allow_arguments: whether arguments that are not flags make sense to this command.
    """
    argv = sys.argv if argv is None else argv
    status = execute(main, flag_values, argv, allow_arguments)
    try:
        # Here a full disk or a closed pipe can still be told in one line.
        sys.stdout.flush()
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            _complain(program_name(argv[0]), f"standard output: {_describe_os_error(error)}")
        _discard_standard_output()
        status = status or 1
    sys.exit(status)


def execute(
    main: Main,
    flag_values: flags.FlagValues,
    argv: Sequence[str],
    allow_arguments: bool = False,
) -> int:
    """Parses the flags and calls `main`; tells any error in one line on stderr.

    `--help` (or `--helpfull`) prints the docstring of main's module and all flags. `--debug` shows tracebacks.

    Args:
        main: gets [program, *arguments that are not flags]; its result, if any, is the exit status.
        flag_values: the command's flags, from `command_flags`.
        argv: the program and its arguments.
        allow_arguments: whether arguments that are not flags make sense to this command.

    Returns:
        The exit status: 0 or what `main` returned; 2 for a mistake on the command line (`errors.UsageError` and
        absl's flag errors); 1 for any other error.
    """
    program = program_name(argv[0])
    debug = "--debug" in argv  # The best guess until the flags are parsed.
    try:
        _reset(flag_values)
        # Asked for help, answer: the rest of the command line need not make sense yet.
        if any(re.fullmatch("--?help(full|short)?", argument) for argument in argv[1:]):
            print(help_text(program, main, flag_values))
            return 0
        _check_flag_files(argv[1:])
        flag_values.set_gnu_getopt(True)
        remaining = flag_values(list(argv))
        debug = "debug" in flag_values and bool(flag_values["debug"].value)
        _quiet_libraries(debug)
        processes.share_memory_pool()
        if len(remaining) > 1 and not allow_arguments:
            raise errors.UsageError(
                f"unexpected argument {remaining[1]!r}: everything is given by flags (--help lists them)"
            )
        return main(remaining) or 0
    except KeyboardInterrupt:
        _complain(program, "interrupted")
        return 1
    except BrokenPipeError:
        # Whoever read our output has seen enough, as in `dcign-train --help | head -3`.
        _discard_standard_output()
        return 1
    except Exception as error:
        if debug:
            traceback.print_exc()
        message, status = _describe(error, flag_values)
        _complain(program, message)
        return status


def program_name(path: str) -> str:
    """The command's name however it was started: `dcign-train` for `.../dcign_tf/cli/train.py`, too."""
    stem = re.sub(r"(-script)?\.pyw?$|\.exe$", "", pathlib.PurePath(path).name)
    return stem if stem.startswith("dcign-") else f"dcign-{stem}"


def help_text(program: str, main: Main, flag_values: flags.FlagValues) -> str:
    """What `--help` prints: the docstring of main's module, then every flag with its default."""
    docstring = getattr(sys.modules.get(main.__module__), "__doc__", None) or program
    lines = [docstring.strip(), "", f"flags of {program}:"]
    for name in sorted(flag_values):
        flag = flag_values[name]
        if flag.name != name:  # A one-letter name is a second entry of the same flag.
            continue
        names = f"  --[no]{name}" if flag.boolean else f"  --{name}"
        lines.append(f"{names}, -{flag.short_name}" if flag.short_name else names)
        default = (flag.default_as_str or "").strip("'")
        default = f" (default: {default})" if default else ""
        text = " ".join(f"{flag.help}{default}".split())
        lines += textwrap.wrap(text, _HELP_WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return "\n".join(lines)


def _reset(flag_values: flags.FlagValues) -> None:
    """Forgets an earlier parse, for callers who run commands inside one process."""
    flag_values.unparse_flags()
    for name in flag_values:
        flag_values[name].unparse()


def _check_flag_files(arguments: Sequence[str]) -> None:
    """Raises UsageError for a flag file that absl would stumble over, or for files that include each other.

    absl itself only warns of a circle, and of a file that is no text tells neither name nor reason.
    """
    for position, argument in enumerate(arguments):
        if argument == "--":
            return
        if argument in ("--flagfile", "-flagfile"):
            if position + 1 == len(arguments):
                raise errors.UsageError("--flagfile: got nothing; it takes the name of a file")
            _check_flag_file(arguments[position + 1], ())
        elif match := re.match("--?flagfile=(.*)", argument):
            _check_flag_file(match[1], ())


def _check_flag_file(name: str, including: tuple[str, ...]) -> None:
    path = os.path.expanduser(name.strip())
    trail = "".join(f" (included by {file})" for file in reversed(including))
    if not path:
        raise errors.UsageError(f"--flagfile: got an empty name{trail}")
    if path in including:
        raise errors.UsageError(f"--flagfile: {path} includes itself{trail}")
    try:
        text = pathlib.Path(path).read_text()
    except OSError as error:
        raise errors.UsageError(f"--flagfile: {_describe_os_error(error)}{trail}") from error
    except UnicodeDecodeError as error:
        raise errors.UsageError(f"--flagfile: {path} is not a text file{trail}") from error
    for line in text.splitlines():
        line = line.strip()
        if match := re.match("--?flagfile=(.*)", line):
            _check_flag_file(match[1], (*including, path))
        elif line and not line.startswith(("-", "#", "//")):
            raise errors.UsageError(
                f"--flagfile: {path}: got the line {line!r}; each line is --flag=value or a # comment{trail}"
            )


def _describe(error: Exception, flag_values: flags.FlagValues) -> tuple[str, int]:
    """Returns what to tell the user of an error, and the exit status."""
    match error:
        case errors.DcignError():
            return str(error), error.exit_status
        case flags.UnrecognizedFlagError():
            near = difflib.get_close_matches(error.flagname, list(flag_values), n=1)
            hint = f"did you mean --{near[0]}?" if near else "--help lists the flags"
            return f"unknown flag --{error.flagname}; {hint}", 2
        case flags.Error():
            text = str(error)
            if parts := re.fullmatch(r"flag --(\w+)=(.*?): (.*)", text, re.DOTALL):
                reason = parts[3]
                if (
                    "invalid literal" in reason or "could not convert" in reason
                ):  # Python's words, not a user's.
                    reason = f"it takes {flag_values[parts[1]].parser.syntactic_help or 'a number'}"
                text = f"--{parts[1]}: got {parts[2]}; {reason}"
            return text, 2
        case MemoryError():
            return f"out of memory: {error}".rstrip(": "), 1
        case ModuleNotFoundError() if not (error.name or "").startswith("dcign_tf"):
            return (
                f"the Python package {error.name} is missing: install dcign_tf with its dependencies",
                1,
            )
        case OSError():
            return _describe_os_error(error), 1
    from_tensorflow = _describe_tensorflow_error(error)
    if from_tensorflow is not None:
        return from_tensorflow, 1
    unexpected = f"{type(error).__name__}: {error}"[:1000]
    return f"a defect of dcign_tf, please report it: {unexpected} (--debug shows the traceback)", 1


def _describe_os_error(error: OSError) -> str:
    names = [
        os.fsdecode(name)
        for name in (error.filename, error.filename2)
        if isinstance(name, str | bytes)
    ]
    reason = "no space left on the disk" if error.errno == errno.ENOSPC else error.strerror
    return f"{' -> '.join(names)}: {reason}" if names and reason else reason or str(error)


def _describe_tensorflow_error(error: Exception) -> str | None:
    """Returns a line for those of TensorFlow's errors that are no defect: disks, permissions, memory."""
    kinds = {
        kind.__name__ for kind in type(error).__mro__ if kind.__module__.startswith("tensorflow.")
    }
    if "OpError" not in kinds:
        return None
    first_line = errors.first_line(error)
    if "No space left on device" in str(error):
        return f"no space left on the disk: {first_line}"
    if "ResourceExhaustedError" in kinds:
        return f"out of memory: {first_line}"
    if kinds & {"NotFoundError", "PermissionDeniedError"}:
        return first_line
    return None


def _complain(program: str, message: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # stderr itself may be closed or on a full disk.
        print(f"{program}: error: {' '.join(message.split())}", file=sys.stderr, flush=True)


def _discard_standard_output() -> None:
    """Keeps Python from complaining, at its end, that it could not flush what nobody reads."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _quiet_libraries(debug: bool) -> None:
    """Keeps start-up messages of TensorFlow off stderr, where they would bury our one line, unless debugging."""
    if debug:
        absl_logging.set_verbosity(absl_logging.INFO)
        return
    absl_logging.set_verbosity(absl_logging.ERROR)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if "tensorflow" not in sys.modules and not any(
        isinstance(f, _QuietImport) for f in sys.meta_path
    ):
        sys.meta_path.insert(0, _QuietImport())


class _QuietImport(importlib.abc.MetaPathFinder):
    """Withholds what TensorFlow writes to stderr while it is being imported, unless the import fails.

    Its C++ parts log before they read TF_CPP_MIN_LOG_LEVEL, hence this detour; importing TensorFlow here at once
    would be simpler but make every command, and every mistyped flag, wait for it.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != "tensorflow":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            execute_module = spec.loader.exec_module

            def execute_quietly(module: types.ModuleType) -> None:
                with _standard_error_withheld():
                    execute_module(module)

            setattr(spec.loader, "exec_module", execute_quietly)  # noqa: B010 - mypy forbids the plain assignment.
        return spec


@contextlib.contextmanager
def _standard_error_withheld() -> Iterator[None]:
    """Sends file descriptor 2 to a file, and gives back what was written if the block raises."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as withheld:
        saved = os.dup(2)
        try:
            os.dup2(withheld.fileno(), 2)
            yield
        except Exception:  # Not KeyboardInterrupt: who presses Ctrl-C knows why.
            os.dup2(saved, 2)
            withheld.seek(0)
            os.write(2, withheld.read())
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)
