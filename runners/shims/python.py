"""Runs the invocations of one function for VoltRun, one after the other: reads frames from descriptor 3 and writes frames
to descriptor 4; see frame.go. Between invocations it waits in a blocking read.

Imports that only some runs need (inspect, asyncio, traceback) are made where they are needed: they take longer than
everything else here.
"""
import _signal
import _thread
import io
import json
import os
import sys
import types

REQUEST, ANSWER = 3, 4
HEAD = 21  # four bytes of length, one of kind, sixteen of token
PIECE = 4000  # of a print: with its head, it fits into what a pipe takes in one piece
MAX_TEXT = 1 << 16  # characters of an error, at most
VARARGS = 0x04  # inspect.CO_VARARGS


def keep(codec, *methods):
    """Lets a coder have its methods for itself, so that a handler that patches json cannot break its own answer."""
    for name in methods:
        setattr(codec, name, getattr(codec, name))
    return codec


_encode = keep(json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")), "iterencode", "default").encode
_encode_ascii = keep(json.JSONEncoder(allow_nan=False, separators=(",", ":")), "iterencode", "default").encode
_loads = keep(json.JSONDecoder(), "raw_decode").decode
_read, _write, _exit, _waitid = os.read, os.write, os._exit, getattr(os, "waitid", None)
_threads, _timer = _thread._count, _signal.getitimer
TIMERS = (_signal.ITIMER_REAL, _signal.ITIMER_VIRTUAL, _signal.ITIMER_PROF)

# The stacks of threads count as memory as soon as they are there, 8 MB each if nothing is said. 1 MB holds as many calls
# as Python's own limit on recursion allows.
_thread.stack_size(1 << 20)

token = b""  # of the invocation that runs; what is printed while none does is nobody's
writing = _thread.RLock()  # not a plain lock, because the handler of a signal may print too
forked = False  # by the handler: such a process does not answer, and prints to the descriptors itself

# Given back when the handler has used up all memory, so that there is some to answer with. It is never touched, so it
# takes address space but no RAM.
spare = [bytes(2 << 20)]


class HandlerNotFound(Exception):
    """The entry point names nothing that can be called."""


class OutputInvalid(Exception):
    """What the handler returned is not a JSON value."""


class Printed(io.BufferedIOBase):
    """What sys.stdout or sys.stderr writes to: at once, and in the order of both. In all other respects it is the
    descriptor, which a child process that is given it gets."""

    def __init__(self, name, descriptor, kind):
        self.name, self.mode = name, "wb"
        self._descriptor, self._kind = descriptor, kind

    def writable(self):
        return True

    def fileno(self):
        return self._descriptor

    def write(self, data):
        if self.closed:
            raise ValueError("I/O operation on closed file.")
        if type(data) is not bytes:
            data = memoryview(data).tobytes()
        for start in range(0, len(data), PIECE):
            self._print(data[start : start + PIECE])
        return len(data)

    def _print(self, piece):
        if forked:
            write_whole(self._descriptor, piece)
            return
        with writing:
            if token:
                write_frame(self._kind, piece)


def write_frame(kind, payload):
    write_whole(ANSWER, b"%b%b%b%b" % ((HEAD - 4 + len(payload)).to_bytes(4, "big"), kind, token, payload))


def write_whole(descriptor, data):
    written = patiently(_write, descriptor, data)
    while written < len(data):
        written += patiently(_write, descriptor, data[written : written + (1 << 16)])


def patiently(act, *arguments):
    """Repeats what would block: somebody made the pipe not block."""
    while True:
        try:
            return act(*arguments)
        except BlockingIOError:
            import time

            time.sleep(0.001)


class Context:
    """What a handler may want to know of its run, under the names that AWS Lambda gave them."""

    def __init__(self, init, about):
        self.aws_request_id = about["execution_id"]
        self.function_name = init["function_name"]
        self.function_version = init["function_version"]
        self.memory_limit_in_mb = init["memory_mb"]
        self._deadline_ms = about["deadline_ms"]

    def get_remaining_time_in_millis(self):
        import time

        return max(0, int(self._deadline_ms - time.time() * 1000))


class Function:
    """The code, loaded once, and what it left running then."""

    def __init__(self, init):
        self.init = init
        self.handler = None

    def call(self, about, event):
        if self.handler is None:
            self._load()
        arguments = [event]
        if self._takes_context:
            arguments.append(Context(self.init, about))
        result = self.handler(*arguments)
        if hasattr(result, "__await__"):
            import asyncio

            return asyncio.run(settled(result))
        return result

    def _load(self):
        handler = load(self.init)
        if isinstance(handler, type) and any("__call__" in vars(base) for base in handler.__mro__):
            handler = handler()  # a class whose objects are the handlers
        self._takes_context = takes_context(handler)
        self._threads, self._timers = _threads(), [_timer(timer) for timer in TIMERS]
        self.handler = handler

    def is_clean(self):
        """Whether no work of the last invocation goes on: no thread, timer or child process beyond those of loading."""
        if self.handler is None or _threads() > self._threads:
            return False
        for timer, loaded in zip(TIMERS, self._timers):
            if _timer(timer) != (0.0, 0.0) == loaded:
                return False
        return not has_child()


def has_child():
    if _waitid is None:
        return False
    try:
        _waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def main():
    os.register_at_fork(after_in_child=note_fork)
    for descriptor in (REQUEST, ANSWER):
        os.set_inheritable(descriptor, False)
    sys.stdout = sys.__stdout__ = stream("<stdout>", 1, b"1")
    sys.stderr = sys.__stderr__ = stream("<stderr>", 2, b"2")
    if "stem" in sys.argv:
        preheat()
    write_whole(ANSWER, b"\0\0\0\x11r" + bytes(16))
    function = None
    while True:
        kind, invocation, payload = receive()
        if kind == b"i":
            function = Function(_loads(str(payload, "utf-8")))
        else:
            serve(function, invocation, payload)


def serve(function, invocation, payload):
    global token
    head, _, text = payload.partition(b"\n")
    token = invocation
    try:
        kind, body = outcome(function, _loads(str(head, "utf-8")), text)
    except MemoryError:
        spare.clear()
        kind, body = b"M", b"null"
    flush(sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)
    if forked:
        _exit(0 if kind == b"O" else 1)
    clean = kind in b"OE" and function.is_clean()
    with writing:
        answered, token = token, b""  # from here on, nothing is printed between the parts of a long answer
        length = HEAD - 4 + 1 + len(body)
        write_whole(ANSWER, b"%b%b%b%b%b" % (length.to_bytes(4, "big"), kind, answered, b"+" if clean else b"-", body))
    while not clean:
        receive()  # stands still, until VoltRun ends it


def note_fork():
    global forked
    forked = True


def stream(*about):
    return io.TextIOWrapper(Printed(*about), "utf-8", "backslashreplace", newline="\n", line_buffering=True)


def outcome(function, about, text):
    """Runs the handler and returns the kind and the body of the answer. Raises MemoryError at the memory limit."""
    try:
        return b"O", encode(function.call(about, _loads(str(text, "utf-8"))))
    except MemoryError:
        raise
    except SystemExit as stop:
        return b"X", str(exit_code(stop.code)).encode()
    except (HandlerNotFound, OutputInvalid) as refusal:
        return b"E", error(type(refusal).__name__, str(refusal), "")
    except BaseException as thrown:
        return b"E", error(type(thrown).__name__, text_of(thrown), user_frames(thrown, function.init["display"]))


async def settled(awaitable):
    return await awaitable


def load(init):
    with open(init["file"], encoding="utf-8-sig") as file:
        source = file.read()
    display, name = init["display"], init["export"]
    module = types.ModuleType(module_name(display))
    module.__file__ = init["file"]
    sys.modules[module.__name__] = module
    remember_source(display, source)
    exec(compile(source, display, "exec", dont_inherit=True), module.__dict__)

    handler = getattr(module, name, None)
    if callable(handler):
        return handler
    raise HandlerNotFound(missing(init["entry_point"], name, handler, module))


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
        text = _encode(value)
    except (TypeError, ValueError, RecursionError) as refusal:
        raise OutputInvalid(f"What the handler returned is not a JSON value: {refusal}.") from None
    try:
        return text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which only an escape can carry
        return _encode_ascii(value).encode()


def error(kind, message, stack):
    return _encode_ascii({"type": kind, "message": message[:MAX_TEXT], "stack": stack[:MAX_TEXT]}).encode()


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


inbox = bytearray()


def receive():
    """Returns the next frame's kind, token and payload."""
    while True:
        have = len(inbox)
        end = 4 + int.from_bytes(inbox[:4], "big") if have >= 4 else HEAD
        if have >= end:
            frame = bytes(inbox[:end])
            del inbox[:end]
            return frame[4:5], frame[5:HEAD], frame[HEAD:]
        chunk = patiently(_read, REQUEST, max(1 << 16, end - have))
        if not chunk:
            _exit(0)
        inbox.extend(chunk)


def preheat():
    """Does now what the first invocation would wait for."""
    import linecache, traceback  # noqa: F401

    exec(compile("def handler(event):\n    return event", "index.py", "exec", dont_inherit=True), {})
    encode(_loads('{"a": [1]}'))


main()
