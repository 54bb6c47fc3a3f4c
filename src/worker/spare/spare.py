"""A spare: an interpreter that has imported what a worker program imports, before it is told what to serve.

The hub runs this file in the program's own interpreter, in a process that leads a group of its own. It imports the
modules it is given, has a second process do the same for the program's model process, and waits. Handed a command
line, it becomes the worker by running the program's own file. When the program spawns its model process
(`multiprocessing`, method `spawn`), the second process is handed what a new interpreter would be started with.

Both are fresh processes and no forks: threads and Metal are as in a program that is started by itself. Whatever is
unlike what was expected makes this process end, or leaves the spawning to `multiprocessing` itself.

Messages are JSON behind eight hexadecimal digits, their length in bytes. Python 3.10 or newer, standard library only.
"""

import array
import atexit
import contextlib
import fcntl
import gc
import importlib
import importlib.machinery
import json
import os
import select
import signal
import socket
import sys
import threading
import time

# The second process takes over within so many seconds, or a new interpreter is started.
LIMIT = 2
# Descriptors below this number are left free for those of the program.
LOW = 64
# Exit status of a process in which the program has changed what a module had read already.
UNLIKE = 78
# A load waits for the spare. Where nobody expects this signal, nothing happens.
HURRY = signal.SIGURG


def read(channel, size):
    """So many bytes; none at the end of the channel."""
    data = bytearray()
    while len(data) < size:
        part = channel.recv(size - len(data))
        if not part:
            return b""
        data += part
    return bytes(data)


def hear(channel):
    """A message; None at the end of the channel."""
    size = read(channel, 8)
    return json.loads(read(channel, int(size, 16)) or "null") if size else None


def say(channel, message):
    """Sends a message. Whoever is gone needs none."""
    data = json.dumps(message).encode()
    try:
        channel.sendall(b"%08x" % len(data) + data)
    except OSError:
        pass


def own(number):
    """The socket of a descriptor that this process was started with, out of the way of the program's."""
    high = fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, LOW)
    if number > 2:
        os.close(number)
    return socket.socket(fileno=high)


def is_open(number):
    try:
        os.fstat(number)
        return True
    except OSError:
        return False


def redirect(path, flags, *numbers):
    """Has descriptors of this process be that file."""
    opened = os.open(path, flags)
    for number in numbers:
        os.dup2(opened, number)
    if opened not in numbers:
        os.close(opened)


class Priority:
    """A low priority that this user can take back: macOS's background, or else nice, or else batch scheduling. Nice and
    idle scheduling are for ever where a plain user of Linux asks for them."""

    # PRIO_DARWIN_PROCESS and PRIO_DARWIN_BG of <sys/resource.h>.
    BACKGROUND = 4, 0x1000
    NICE = 19

    is_hurried = False

    def lower(self):
        ways = [self.background] if sys.platform == "darwin" else [self.nice, self.batch]
        for way in [] if self.is_hurried else ways:
            try:
                get, put, low = way()
                usual = get(0)
                put(0, low)
            except (AttributeError, OSError):
                continue
            self.take_back = lambda: self.give_threads(get, put, low, usual)
            return

    def background(self):
        which, low = self.BACKGROUND
        return lambda _: os.getpriority(which, 0) * low, lambda _, value: os.setpriority(which, 0, value), low

    def nice(self):
        get = lambda thread: os.getpriority(os.PRIO_PROCESS, thread)
        put = lambda thread, value: os.setpriority(os.PRIO_PROCESS, thread, value)
        usual = get(0)
        # Who may raise the priority may also lower it for a while.
        put(0, usual - 1)
        put(0, usual)
        return get, put, max(usual, self.NICE)

    def batch(self):
        put = lambda thread, policy: os.sched_setscheduler(thread, policy, os.sched_param(0))
        low = os.SCHED_BATCH if os.sched_getscheduler(0) == os.SCHED_OTHER else os.sched_getscheduler(0)
        return os.sched_getscheduler, put, low

    def give_threads(self, get, put, low, usual):
        """On Linux the threads that modules have begun have the priority of the one that imported them."""
        threads = os.listdir("/proc/self/task") if sys.platform == "linux" else ["0"]
        for thread in map(int, threads):
            # One may have ended meanwhile.
            with contextlib.suppress(OSError):
                if get(thread) == low:
                    put(thread, usual)

    def take_back(self):
        pass

    def hurry(self, *_):
        Priority.is_hurried = True
        self.take_back()


class Code:
    """The files of the modules, and the folders in which they were looked for, as they were at the import: a program that
    is started by itself runs what is there now."""

    def __init__(self):
        self.began, self.noted = time.time_ns(), {}

    def note(self):
        """Returns a file that has changed during the import; None if there is none."""
        paths = []
        for module in list(sys.modules.values()):
            try:
                # Not by getattr: some modules import more then.
                path = object.__getattribute__(module, "__dict__").get("__file__")
            except AttributeError:
                continue
            if isinstance(path, str):
                paths.append(path)
        # A file says more than its folder.
        for path in [*paths, *sys.path]:
            self.noted[path] = looked = self.look(path)
            if looked and looked[-1] >= self.began and not os.path.isdir(path):
                return path
        return None

    def changed(self):
        """A path that is not as it was; None if all are."""
        return next((path for path, noted in self.noted.items() if self.look(path)[:3] != noted[:3]), None)

    @staticmethod
    def look(path):
        try:
            found = os.stat(path)
        except OSError:
            return ()
        return found.st_mtime_ns, found.st_ino, found.st_size, found.st_ctime_ns


class Variables:
    """What modules read of the environment while they are imported, and what they set there. What they have read must
    not change afterwards: in a program that is started by itself they would have read something else."""

    # The hub gives these only with the command line; `settle` sees to what depends on them.
    LATE = ("TMPDIR",)

    def __init__(self):
        self.read, self.own = {}, set()

    def __enter__(self):
        kind = type(os.environ)
        self.kept = get, put = kind.__getitem__, kind.__setitem__

        def getitem(environment, name):
            if name not in self.own and name not in self.read and name not in self.LATE:
                try:
                    self.read[name] = get(environment, name)
                except KeyError:
                    self.read[name] = None
            return get(environment, name)

        def setitem(environment, name, value):
            self.own.add(name)
            put(environment, name, value)

        kind.__getitem__, kind.__setitem__ = getitem, setitem
        return self

    def __exit__(self, *_):
        kind = type(os.environ)
        kind.__getitem__, kind.__setitem__ = self.kept

    def unlike(self, variables):
        """One of these that the modules have read with another value; None if there is none."""
        return next((name for name, value in variables.items() if self.read.get(name, value) != value), None)

    def give(self, variables):
        """Sets these, except for what the modules have set themselves."""
        os.environ.update({name: value for name, value in variables.items() if name not in self.own})

    def adopt(self, environment):
        """Has this process see that environment. False if the modules would have read something else in it."""
        if any(environment.get(name) != value for name, value in self.read.items()):
            return False
        for name in list(os.environ):
            if name not in environment and name not in self.own:
                del os.environ[name]
        self.give(environment)
        return True

    def hold(self, tell=lambda why: None):
        """From now on the process ends when one of them changes, and tells why."""
        kind, names = type(os.environ), self.read
        self.kept = put, remove = kind.__setitem__, kind.__delitem__

        def check(environment, name, value):
            if name in names and environment.get(name) != value:
                why = f"`{name}` is set after a module has read it"
                print(why, file=sys.stderr, flush=True)
                tell(why)
                os._exit(UNLIKE)

        def setitem(environment, name, value):
            check(environment, name, value)
            put(environment, name, value)

        def delitem(environment, name):
            check(environment, name, None)
            remove(environment, name)

        kind.__setitem__, kind.__delitem__ = setitem, delitem

    def release(self):
        """They may change."""
        kind = type(os.environ)
        kind.__setitem__, kind.__delitem__ = self.kept


class Watch:
    """Ends the process with its channel, for as long as nothing else reads there."""

    def __init__(self, channel):
        self.channel, self.over = channel, threading.Event()
        self.watcher = threading.Thread(target=self.watch, daemon=True)

    def __enter__(self):
        self.watcher.start()

    def __exit__(self, *_):
        self.over.set()
        self.watcher.join()

    def watch(self):
        while not self.over.is_set():
            if select.select([self.channel], [], [], 0.05)[0]:
                os._exit(0)


def prepare(modules):
    """Imports at low priority, in the order in which the program did; returns what was read of the environment, and the
    code. A module that cannot be imported by itself is left to the program."""
    variables, priority, code = Variables(), Priority(), Code()
    if not modules:
        return variables, code
    usual = signal.signal(HURRY, priority.hurry)
    priority.lower()
    held = [os.open(os.devnull, os.O_RDONLY)]
    while held[-1] < LOW:
        held.append(os.open(os.devnull, os.O_RDONLY))
    with variables:
        for name in modules:
            if name in sys.modules:
                continue
            # Code of others: it may raise anything, also what ends a program.
            with contextlib.suppress(BaseException):
                importlib.import_module(name)
    for number in held:
        os.close(number)
    changed = code.note()
    if changed:
        raise OSError(f"`{changed}` was changed while it was imported")
    # What is there now stays: a program that collects its garbage while it starts need not go through all of it.
    gc.collect()
    gc.freeze()
    signal.signal(HURRY, usual)
    priority.take_back()
    return variables, code


def modules_now():
    return [name for name in list(sys.modules) if name not in ("__main__", "__mp_main__")]


def settle(folder):
    """Works in that folder, with what depends on it or on the environment as in a process that began there."""
    os.chdir(folder)
    process = sys.modules.get("multiprocessing.process")
    if process:
        process.ORIGINAL_DIR = os.getcwd()
    tempfile = sys.modules.get("tempfile")
    if tempfile:
        tempfile.tempdir = None


def fresh_main(**names):
    """`__main__` as it is before a program runs in it."""
    space = sys.modules["__main__"].__dict__
    builtins = space["__builtins__"]
    space.clear()
    names = {"__loader__": None, **names}
    space.update(__name__="__main__", __doc__=None, __package__=None, __spec__=None, __builtins__=builtins, **names)
    return space


class Spawned:
    """The second process, in the server's eyes: it becomes the model process of the program."""

    def __init__(self, begun, modules):
        import multiprocessing.util as util

        self.spawn, self.begun, self.pid, self.channel = util.spawnv_passfds, begun, None, None
        self.taken = False
        if modules is not None:
            self.start(modules)
            if hear(self.channel) != "ready":
                self.end()

    def start(self, modules):
        # The flags of this interpreter, as `multiprocessing` passes them on.
        import subprocess

        ours, theirs = socket.socketpair()
        self.options = subprocess._args_from_interpreter_flags()
        boot, name = self.begun["boot"], self.begun["name"]
        source = self.begun["source"].encode()
        words = ["-c", boot, str(theirs.fileno()), str(len(source)), name]
        words = [os.fsencode(word) for word in [sys.executable, *self.options, *words]]
        self.pid = self.spawn(words[0], words, [theirs.fileno()])
        theirs.close()
        self.channel = ours
        ours.sendall(source)
        say(ours, {"modules": modules, "path": sys.path, "is_hurried": Priority.is_hurried})

    def end(self):
        """Ends a process that cannot be used."""
        self.channel.close()
        self.channel = None
        with contextlib.suppress(OSError):
            os.kill(self.pid, 9)
            os.waitpid(self.pid, 0)

    def stand_in(self, teaches):
        """Takes the place of the next process that the program spawns."""
        import multiprocessing.util as util

        def spawnv_passfds(path, args, passfds):
            words = [os.fsdecode(word) for word in args]
            if "--multiprocessing-fork" not in words or "-c" not in words:
                return self.spawn(path, args, passfds)
            util.spawnv_passfds = self.spawn
            with contextlib.suppress(OSError, ValueError):
                self.taken = self.hand_over(os.fsdecode(path), words, list(passfds), teaches)
            if self.taken:
                return self.pid
            if self.channel:
                # A sign of life: what comes now takes as long as without a spare.
                print("a spare model process has not taken over: another one is started", file=sys.stderr, flush=True)
                self.end()
            return self.spawn(path, args, passfds)

        util.spawnv_passfds = spawnv_passfds

    def hand_over(self, path, words, numbers, teaches):
        if self.channel is None:
            if not teaches:
                return False
            self.start([])
            hear(self.channel)
        at = words.index("-c")
        if path != sys.executable or words[1:at] != list(self.options):
            return False
        mask = os.umask(0)
        os.umask(mask)
        numbers += [0, 1, 2]
        files = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", numbers))
        order = {"code": words[at + 1], "args": words[at + 2 :], "numbers": numbers, "folder": os.getcwd()}
        order.update(umask=mask, environment=dict(os.environ), teaches=teaches)
        self.channel.settimeout(LIMIT)
        self.channel.sendmsg([b"."], [files])
        say(self.channel, order)
        if hear(self.channel) != "taken":
            return False
        self.channel.settimeout(None)
        if not teaches:
            self.channel.close()
            self.channel = None
        return True

    def tell(self):
        """The modules of the model process; None if the program has none."""
        if self.channel is None:
            return None
        say(self.channel, {})
        self.channel.settimeout(LIMIT)
        return (hear(self.channel) or {}).get("modules")


class Start:
    """The program between its command line and its port. The hub is told when it listens; if it ends before that, the
    hub is told what ended it, unless it was the program itself: only then would it have gone as well without a spare.
    """

    # What a program raises that finds its modules in another state than it expects.
    STRANGE = (AttributeError, ImportError, NameError)

    def __init__(self, channel, variables, spawned):
        self.channel, self.variables, self.spawned = channel, variables, spawned
        self.ends_it, self.status = False, None

    def watch(self, over):
        """Looks on until the program listens, and calls `over` then."""
        own, waitpid, kill, listen = os.getpid(), os.waitpid, os.kill, socket.socket.listen

        def watched_waitpid(pid, options, /):
            found = waitpid(pid, options)
            if not self.ends_it and self.is_spawned(found[0]):
                self.status = found[1]
            return found

        def watched_kill(pid, signal, /):
            self.ends_it = self.ends_it or (signal != 0 and self.is_spawned(pid))
            return kill(pid, signal)

        def watched_listen(listener, *backlog):
            listen(listener, *backlog)
            if listener.family in (socket.AF_INET, socket.AF_INET6) and os.getpid() == own:
                os.waitpid, os.kill = waitpid, kill
                del socket.socket.listen
                atexit.unregister(ended)
                self.variables.release()
                say(self.channel, "listening")
                over()

        def ended():
            cause = self.cause() if os.getpid() == own else None
            if cause:
                say(self.channel, cause)

        os.waitpid, os.kill, socket.socket.listen = watched_waitpid, watched_kill, watched_listen
        atexit.register(ended)

    def is_spawned(self, pid):
        return self.spawned is not None and self.spawned.taken and pid == self.spawned.pid

    def cause(self):
        """What ended the program, if it was not the program itself."""
        if self.status is not None and os.WIFSIGNALED(self.status):
            return {"killed": f"its model process was ended by signal {os.WTERMSIG(self.status)}"}
        if self.status is not None and os.WEXITSTATUS(self.status) == UNLIKE:
            return {"failed": "its model process set a variable after a module had read it"}
        error = getattr(sys, "last_value", None)
        if isinstance(error, self.STRANGE):
            return {"failed": f"{type(error).__name__}: {error}"}
        return None


def teach(channel, answer):
    """Says on a thread which modules there are, as often as that is asked."""

    def wait():
        try:
            while hear(channel) is not None:
                say(channel, answer())
        except (OSError, ValueError):
            pass
        channel.close()

    threading.Thread(target=wait, daemon=True).start()


def model_process(channel, told):
    """Becomes what `multiprocessing` would have started; the code to run, and where."""
    sys.path[:], Priority.is_hurried = told["path"], told["is_hurried"]
    with Watch(channel):
        variables, imported = prepare(told["modules"])
    say(channel, "ready")
    _, files, _, _ = channel.recvmsg(1, socket.CMSG_SPACE(1024))
    order = hear(channel) if files else None
    if order is None:
        os._exit(0)
    received = array.array("i")
    received.frombytes(files[0][2])
    high = [fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 2 * LOW) for number in received]
    for number in received:
        os.close(number)
    wanted = order["numbers"]
    taken = any(is_open(number) for number in wanted if number > 2)
    is_unlike = imported.changed() or not variables.adopt(order["environment"])
    if taken or len(high) != len(wanted) or is_unlike:
        os._exit(0)
    for number, place in zip(high, wanted):
        os.dup2(number, place)
        os.close(number)
    os.umask(order["umask"])
    settle(order["folder"])
    variables.hold()
    sys.argv = ["-c", *order["args"]]
    say(channel, "taken")
    if order["teaches"]:
        teach(channel, lambda: {"modules": modules_now()})
    else:
        channel.close()
    return compile(order["code"], "<string>", "exec"), fresh_main()


def server_process(channel, told):
    """Becomes the worker; the code of its program, and where to run it."""
    program = told["program"]
    if sys.path and sys.path[0] == "":
        sys.path[0] = os.path.dirname(os.path.realpath(program))
    redirect(os.devnull, os.O_RDONLY, 0)
    teaches, spawned = told["teaches"], None
    if teaches:
        # The command line has been sent already.
        (variables, imported), spawned = prepare([]), Spawned(told, None)
    else:
        with Watch(channel):
            variables, imported = prepare(told["modules"])
            if told["model_modules"] is not None:
                spawned = Spawned(told, told["model_modules"])
    say(channel, "ready")
    order = hear(channel)
    if order is None:
        os._exit(0)
    changed = imported.changed()
    if changed:
        say(channel, {"changed": f"`{changed}` is not as it was when a spare process imported it"})
        os._exit(0)
    unlike = variables.unlike(order["environment"])
    if unlike:
        say(channel, {"failed": f"`{unlike}` is given after a module has read it"})
        os._exit(UNLIKE)
    variables.give(order["environment"])
    settle(order["folder"])
    redirect(order["log"], os.O_WRONLY | os.O_APPEND, 1, 2)
    variables.hold(lambda why: say(channel, {"failed": why}))
    sys.argv = [program, *order["args"]]
    with open(program, "rb") as file:
        code = compile(file.read(), program, "exec")
    say(channel, "taken")
    if spawned:
        spawned.stand_in(teaches)
    start = Start(channel, variables, spawned)
    if teaches:
        teach(channel, lambda: {"told": {"modules": modules_now(), "model_modules": spawned.tell()}})
        start.watch(lambda: None)
    else:
        start.watch(channel.close)
    loader = importlib.machinery.SourceFileLoader("__main__", program)
    return code, fresh_main(__file__=program, __cached__=None, __loader__=loader)


def begin(number):
    """Becomes what the process at the other end of that descriptor says: the code to run, and where."""
    channel = own(number)
    told = hear(channel)
    if told is None:
        os._exit(0)
    try:
        return (server_process if "program" in told else model_process)(channel, told)
    except OSError as error:
        say(channel, {"failed": str(error)})
        os._exit(1)
