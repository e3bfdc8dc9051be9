"""Runs one handler for VoltRun: reads the request from descriptor 3 and writes one answer to descriptor 4. The answer is
two lines, "<token> <kind>" and a JSON body; see answer.go. What the handler prints is numbered; see printed.go.

Imports that only some runs need (inspect, asyncio, traceback) are made where they are needed: they take longer than
everything else here.
"""
import _thread
import io
import json
import os
import sys
import types

REQUEST, ANSWER, STDOUT, STDERR = 3, 4, 5, 6
MAX_PRINT = 4000  # with its head, it fits into what a pipe takes in one piece
VARARGS = 0x04  # inspect.CO_VARARGS

_dumps, _read, _write, _exit = json.dumps, os.read, os.write, os._exit

# The stacks of threads count as memory as soon as they are there, 8 MB each if nothing is said. 1 MB holds as many calls
# as Python's own limit on recursion allows.
_thread.stack_size(1 << 20)

printed = 0  # how many pieces
printing = _thread.RLock()  # not a plain lock, because the handler of a signal may print too
forked = False  # by the handler: what such a process prints has no order with others, and it does not answer

# Given back when the handler has used up all memory, so that there is some to answer with. It is never touched, so it
# takes address space but no RAM.
spare = [bytes(2 << 20)]


class HandlerNotFound(Exception):
    """The entry point names nothing that can be called."""


class OutputInvalid(Exception):
    """What the handler returned is not a JSON value."""


class Printed(io.BufferedIOBase):
    """What sys.stdout or sys.stderr writes to: at once, and numbered in the order of both. In all other respects it is
    the descriptor, which a child process that is given it gets."""

    def __init__(self, token, name, descriptor, pipe):
        self.name, self.mode = name, "wb"
        self._token, self._descriptor, self._pipe = token.encode(), descriptor, pipe

    def writable(self):
        return True

    def fileno(self):
        return self._descriptor

    def write(self, data):
        if self.closed:
            raise ValueError("I/O operation on closed file.")
        if type(data) is not bytes:
            data = memoryview(data).tobytes()
        if len(data) <= MAX_PRINT:
            self._print(data)
        else:
            for start in range(0, len(data), MAX_PRINT):
                self._print(data[start : start + MAX_PRINT])
        return len(data)

    def _print(self, piece):
        global printed
        if forked:
            write_whole(self._pipe, piece)
            return
        with printing:
            write_whole(self._pipe, b"\0%b %d %d\n%b" % (self._token, printed, len(piece), piece))
            printed += 1


def write_whole(pipe, data):
    """Writes in one piece: a pipe takes it whole or not at all, and does not mix it with what others write."""
    while True:
        try:
            return _write(pipe, data)
        except BlockingIOError:  # a child process made the pipe not block, and it is full
            import time

            time.sleep(0.001)


class Context:
    """What a handler may want to know of its run, under the names that AWS Lambda gave them."""

    def __init__(self, about):
        self.aws_request_id = about["execution_id"]
        self.function_name = about["function_name"]
        self.function_version = about["function_version"]
        self.memory_limit_in_mb = about["memory_mb"]
        self._deadline_ms = about["deadline_ms"]

    def get_remaining_time_in_millis(self):
        import time

        return max(0, int(self._deadline_ms - time.time() * 1000))


def main():
    request = json.loads(read_line())
    os.register_at_fork(after_in_child=note_fork)
    for descriptor in (REQUEST, ANSWER, STDOUT, STDERR):
        os.set_inheritable(descriptor, False)
    token = request["token"]
    sys.stdout = sys.__stdout__ = stream(token, "<stdout>", 1, STDOUT)
    sys.stderr = sys.__stderr__ = stream(token, "<stderr>", 2, STDERR)

    try:
        kind, body = outcome(request)
    except MemoryError:
        spare.clear()
        kind, body = "memory", b"null"
    flush(sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)
    if forked:
        _exit(0 if kind == "output" else 1)
    answer(token, kind, body)


def note_fork():
    global forked
    forked = True


def stream(*about):
    return io.TextIOWrapper(Printed(*about), "utf-8", "backslashreplace", newline="\n", line_buffering=True)


def outcome(request):
    """Runs the handler and returns the kind and the body of the answer. Raises MemoryError at the memory limit."""
    try:
        return "output", encode(run(request))
    except MemoryError:
        raise
    except SystemExit as stop:
        return "exit", str(exit_code(stop.code)).encode()
    except (HandlerNotFound, OutputInvalid) as refusal:
        return "error", error(type(refusal).__name__, str(refusal), "")
    except BaseException as thrown:
        return "error", error(type(thrown).__name__, text_of(thrown), user_frames(thrown, request["display"]))


def run(request):
    handler = load(request)
    arguments = [request["input"]]
    if isinstance(handler, type) and any("__call__" in vars(base) for base in handler.__mro__):
        handler = handler()  # a class whose objects are the handlers
    if takes_context(handler):
        arguments.append(Context(request["context"]))
    result = handler(*arguments)
    if hasattr(result, "__await__"):
        import asyncio

        return asyncio.run(settled(result))
    return result


async def settled(awaitable):
    return await awaitable


def load(request):
    with open(request["file"], encoding="utf-8-sig") as file:
        source = file.read()
    display, name = request["display"], request["export"]
    module = types.ModuleType(module_name(display))
    module.__file__ = request["file"]
    sys.modules[module.__name__] = module
    remember_source(display, source)
    exec(compile(source, display, "exec", dont_inherit=True), module.__dict__)

    handler = getattr(module, name, None)
    if callable(handler):
        return handler
    raise HandlerNotFound(missing(request["entry_point"], name, handler, module))


def module_name(display):
    """The file's name, as an import would give it, unless that would hide a module that somebody imports."""
    stem = display[: -len(".py")]
    standard = getattr(sys, "stdlib_module_names", sys.builtin_module_names)
    return "function_" + stem if stem in sys.modules or stem in standard else stem


def remember_source(display, source):
    """Lets tracebacks show the lines of a file that Python itself cannot find under its short name."""
    import linecache

    linecache.cache[display] = (len(source), None, source.splitlines(True), display)


def missing(entry_point, name, found, module):
    if found is not None:
        return f'The entry point {entry_point} names no function: "{name}" is a {type(found).__name__}.'
    functions = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
    have = "it defines " + ", ".join(functions) if functions else "it defines no function"
    return f'The entry point {entry_point} was not found: the code does not define "{name}", {have}.'


def takes_context(handler):
    """Whether to call handler(event, context): when it demands a second argument, takes any number, or has one that is
    called context. An optional second argument of another name is the handler's own."""
    if isinstance(handler, types.FunctionType) and not hasattr(handler, "__wrapped__"):
        code, defaults = handler.__code__, handler.__defaults__ or ()
        names = code.co_varnames[: code.co_argcount]
        return second_is_context(names, len(names) - len(defaults), bool(code.co_flags & VARARGS))
    import inspect

    try:
        parameters = inspect.signature(handler).parameters.values()
    except (TypeError, ValueError):
        return False  # built in, with no signature to ask
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = [p for p in positional if p.default is p.empty]
    variable = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    return second_is_context([p.name for p in positional], len(required), variable)


def second_is_context(names, required, variable):
    if len(names) < 2:
        return variable
    return required >= 2 or names[1].strip("_") in ("context", "ctx")


def encode(value):
    try:
        text = _dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as refusal:
        raise OutputInvalid(f"What the handler returned is not a JSON value: {refusal}.") from None
    try:
        return text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which only an escape can carry
        return _dumps(value, allow_nan=False, separators=(",", ":")).encode()


def error(kind, message, stack):
    return _dumps({"type": kind, "message": message, "stack": stack}).encode()


def text_of(thrown):
    try:
        return str(thrown) or type(thrown).__name__
    except BaseException:
        return type(thrown).__name__


def user_frames(thrown, display):
    """The traceback without the frames of anything but the function's own code."""
    import traceback

    try:
        report = traceback.TracebackException.from_exception(thrown)
        keep_frames(report, display)
        return "".join(report.format()).rstrip()
    except BaseException:
        return ""


def keep_frames(report, display):
    if report is None:
        return
    report.stack = type(report.stack).from_list([frame for frame in report.stack if frame.filename == display])
    for linked in (report.__cause__, report.__context__, *(getattr(report, "exceptions", None) or ())):
        keep_frames(linked, display)


def exit_code(code):
    if code is None:
        return 0
    if isinstance(code, int):
        return code
    print(text_of(code), file=sys.stderr)
    return 1


def flush(*streams):
    for stream in streams:
        try:
            stream.flush()
        except BaseException:
            pass  # closed, or replaced by something that cannot be flushed: nothing is waiting in it


def answer(token, kind, body):
    """Writes the one answer and then stands still: VoltRun reads the peak memory of the living process and kills it."""
    view = memoryview(b"%s %s\n%s\n" % (token.encode(), kind.encode(), body))
    while view:
        view = view[_write(ANSWER, view) :]
    _read(REQUEST, 1)
    _exit(0)


def read_line():
    chunks = []
    while True:
        chunk = _read(REQUEST, 1 << 16)
        chunks.append(chunk)
        if not chunk or chunk.endswith(b"\n"):
            return b"".join(chunks)


main()
