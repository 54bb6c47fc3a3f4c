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
import fcntl
import gc
import importlib
import importlib.machinery
import json
import os
import select
import socket
import sys
import threading

# The second process takes over within so many seconds, or a new interpreter is started.
LIMIT = 2
# Descriptors below this number are left free for those of the program.
LOW = 64
# Exit status of a process in which the program has changed what a module had read already.
UNLIKE = 78


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
    """A low priority that can be taken back, where the system has one: nice, or else batch scheduling."""

    def lower(self):
        try:
            # Who may raise the priority may also lower it for a while.
            os.setpriority(os.PRIO_PROCESS, 0, -1)
            os.setpriority(os.PRIO_PROCESS, 0, 10)
            self.take_back = lambda: os.setpriority(os.PRIO_PROCESS, 0, 0)
        except OSError:
            if hasattr(os, "SCHED_BATCH"):
                self.schedule(os.SCHED_BATCH)
                self.take_back = lambda: self.schedule(os.SCHED_OTHER)

    def schedule(self, policy):
        try:
            os.sched_setscheduler(0, policy, os.sched_param(0))
        except OSError:
            pass

    def take_back(self):
        pass


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

    def adopt(self, environment):
        """Has this process see that environment. False if the modules would have read something else in it."""
        if any(environment.get(name) != value for name, value in self.read.items()):
            return False
        for name in list(os.environ):
            if name not in environment and name not in self.own:
                del os.environ[name]
        os.environ.update({name: value for name, value in environment.items() if name not in self.own})
        return True

    def hold(self):
        """From now on the process ends when one of them changes."""
        kind, names = type(os.environ), self.read
        put, remove = kind.__setitem__, kind.__delitem__

        def check(environment, name, value):
            if name in names and environment.get(name) != value:
                print(f"`{name}` is set after a module has read it", file=sys.stderr, flush=True)
                os._exit(UNLIKE)

        def setitem(environment, name, value):
            check(environment, name, value)
            put(environment, name, value)

        def delitem(environment, name):
            check(environment, name, None)
            remove(environment, name)

        kind.__setitem__, kind.__delitem__ = setitem, delitem


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
    """Imports at low priority, in the order in which the program did; returns what was read of the environment. A
    module that cannot be imported by itself is left to the program."""
    variables, priority = Variables(), Priority()
    if not modules:
        return variables
    priority.lower()
    held = [os.open(os.devnull, os.O_RDONLY)]
    while held[-1] < LOW:
        held.append(os.open(os.devnull, os.O_RDONLY))
    with variables:
        for name in modules:
            if name in sys.modules:
                continue
            try:
                importlib.import_module(name)
            except BaseException:
                # Code of others: it may raise anything, also what ends a program.
                continue
    for number in held:
        os.close(number)
    # What is there now stays: a program that collects its garbage while it starts need not go through all of it.
    gc.collect()
    gc.freeze()
    priority.take_back()
    return variables


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
        say(ours, {"modules": modules, "path": sys.path})

    def end(self):
        """Ends a process that cannot be used."""
        self.channel.close()
        self.channel = None
        try:
            os.kill(self.pid, 9)
            os.waitpid(self.pid, 0)
        except OSError:
            pass

    def stand_in(self, teaches):
        """Takes the place of the next process that the program spawns."""
        import multiprocessing.util as util

        def spawnv_passfds(path, args, passfds):
            words = [os.fsdecode(word) for word in args]
            if "--multiprocessing-fork" not in words or "-c" not in words:
                return self.spawn(path, args, passfds)
            util.spawnv_passfds = self.spawn
            try:
                taken = self.hand_over(os.fsdecode(path), words, list(passfds), teaches)
            except (OSError, ValueError):
                taken = False
            if taken:
                return self.pid
            if self.channel:
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
    sys.path[:] = told["path"]
    with Watch(channel):
        variables = prepare(told["modules"])
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
    if taken or len(high) != len(wanted) or not variables.adopt(order["environment"]):
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
        variables, spawned = prepare([]), Spawned(told, None)
    else:
        with Watch(channel):
            variables = prepare(told["modules"])
            if told["model_modules"] is not None:
                spawned = Spawned(told, told["model_modules"])
    say(channel, "ready")
    order = hear(channel)
    if order is None:
        os._exit(0)
    os.environ.update(order["environment"])
    settle(order["folder"])
    redirect(order["log"], os.O_WRONLY | os.O_APPEND, 1, 2)
    variables.hold()
    sys.argv = [program, *order["args"]]
    with open(program, "rb") as file:
        code = compile(file.read(), program, "exec")
    say(channel, "taken")
    if spawned:
        spawned.stand_in(teaches)
    if teaches:
        teach(channel, lambda: {"modules": modules_now(), "model_modules": spawned.tell()})
    else:
        channel.close()
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
