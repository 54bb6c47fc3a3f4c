"""Tests of `src/worker/spare/spare.py` by itself, with any Python that a worker may have: `spare_test.py SPARE.PY`."""

import importlib.util
import os
import pathlib
import socket
import sys
import tempfile
import threading
import unittest
from unittest import mock

FILE = sys.argv.pop(1)
# What is imported for the tests stays as it is for the whole run.
spec = importlib.util.spec_from_file_location("spare", FILE)
spare = importlib.util.module_from_spec(spec)
spec.loader.exec_module(spare)


def in_child(work):
    """What `work` returns in a process of its own, as text."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writer, repr(work()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as said:
        text = said.read().decode()
    os.waitpid(pid, 0)
    return text


class Messages(unittest.TestCase):
    def test_what_is_said_is_heard_and_the_end_is_none(self):
        ours, theirs = socket.socketpair()
        for message in ("ready", {"failed": "ä" * 5000}, {}):
            spare.say(ours, message)
            self.assertEqual(spare.hear(theirs), message)
        ours.close()
        self.assertIsNone(spare.hear(theirs))
        theirs.close()


class Environment(unittest.TestCase):
    def setUp(self):
        patched = mock.patch.dict(os.environ, {"SEEN": "1", "UNSEEN": "1", "TMPDIR": "/a"})
        patched.start()
        self.addCleanup(patched.stop)

    def test_a_variable_that_was_read_with_another_value_is_told(self):
        variables = spare.Variables()
        with variables:
            os.environ.get("SEEN"), os.environ.get("MISSING"), os.environ.get("TMPDIR")
            os.environ["OWN"] = "module"
        self.assertIsNone(variables.unlike({"SEEN": "1", "UNSEEN": "2", "TMPDIR": "/b", "OWN": "x"}))
        self.assertEqual(variables.unlike({"SEEN": "2"}), "SEEN")
        self.assertEqual(variables.unlike({"MISSING": ""}), "MISSING")

    def test_what_a_module_has_set_stays_as_in_a_program_that_is_given_it_before(self):
        variables = spare.Variables()
        with variables:
            os.environ["OWN"] = "module"
        variables.give({"OWN": "given", "UNSEEN": "given"})
        self.assertEqual((os.environ["OWN"], os.environ["UNSEEN"]), ("module", "given"))


class Files(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.file = self.folder / "spare_test_module.py"
        self.file.write_text("A = 1\n")
        patched = mock.patch.object(sys, "path", [*sys.path, folder.name])
        patched.start()
        self.addCleanup(patched.stop)
        self.addCleanup(sys.modules.pop, "spare_test_module", None)

    def imported(self):
        code = spare.Code()
        # Later than any clock of files says now.
        code.began += 10**9
        __import__("spare_test_module")
        self.assertIsNone(code.note())
        self.assertIsNone(code.changed())
        return code

    def replace(self, path, text):
        other = self.folder.parent / f"{self.folder.name}.new"
        other.write_text(text)
        # As files of another version that was unpacked long ago.
        os.utime(other, ns=(1, 1))
        other.replace(path)

    def test_a_module_that_is_replaced_is_told(self):
        code = self.imported()
        self.replace(self.file, "A = 2\n")
        self.assertEqual(code.changed(), str(self.file))

    def test_a_module_that_is_written_in_place_or_gone_is_told(self):
        code = self.imported()
        self.file.write_text("A = 22\n")
        self.assertEqual(code.changed(), str(self.file))
        self.file.unlink()
        self.assertIsNotNone(code.changed())

    def test_a_module_that_comes_is_told_by_its_folder(self):
        code = self.imported()
        self.replace(self.folder / "optional.py", "")
        self.assertEqual(code.changed(), str(self.folder))

    def test_a_module_that_changes_during_the_import_is_told(self):
        code = spare.Code()
        __import__("spare_test_module")
        self.replace(self.file, "A = 2\n")
        code.began = self.file.stat().st_ctime_ns
        self.assertEqual(code.note(), str(self.file))


def lowered_and_taken_back(look):
    """What `look` says before, while the priority is low, of a thread that began then, and afterwards."""
    priority, begun, over = spare.Priority(), threading.Event(), threading.Event()
    seen, of_thread = [look()], []

    def other():
        begun.wait()
        of_thread.append(look())

    priority.lower()
    seen.append(look())
    thread = threading.Thread(target=other)
    thread.start()
    priority.take_back()
    begun.set()
    thread.join()
    over.set()
    return [*seen, *of_thread, look()]


def nice():
    return os.getpriority(os.PRIO_PROCESS, 0)


@unittest.skipUnless(sys.platform == "linux", "of Linux")
class PriorityOnLinux(unittest.TestCase):
    def test_who_may_raise_it_has_nice_for_a_while_with_all_threads(self):
        try:
            os.setpriority(os.PRIO_PROCESS, 0, nice() - 1)
        except OSError:
            self.skipTest("this user may not raise priorities")
        os.setpriority(os.PRIO_PROCESS, 0, nice() + 1)

        def work():
            os.setpriority(os.PRIO_PROCESS, 0, 3)
            return lowered_and_taken_back(nice)

        self.assertEqual(in_child(work), "[3, 19, 3, 3]")

    def test_a_plain_user_has_batch_scheduling_for_a_while_with_all_threads(self):
        def work():
            if os.getuid() == 0:
                os.setuid(65534)
            return lowered_and_taken_back(lambda: (nice(), os.sched_getscheduler(0)))

        usual, batch = (nice(), os.SCHED_OTHER), (nice(), os.SCHED_BATCH)
        self.assertEqual(in_child(work), repr([usual, batch, usual, usual]))

    def test_a_load_that_waits_has_it_taken_back_and_not_lowered_again(self):
        def work():
            priority = spare.Priority()
            spare.signal.signal(spare.HURRY, priority.hurry)
            look = lambda: (nice(), os.sched_getscheduler(0))
            seen = [look()]
            priority.lower()
            seen.append(look())
            os.kill(os.getpid(), spare.HURRY)
            seen.append(look())
            spare.Priority().lower()
            return [one == seen[0] for one in [*seen, look()]]

        self.assertEqual(in_child(work), "[True, False, True, True]")

    def test_one_that_is_low_already_stays_as_it_is(self):
        def work():
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
            if os.getuid() == 0:
                os.setuid(65534)
            return lowered_and_taken_back(lambda: os.sched_getscheduler(0))

        self.assertEqual(in_child(work), repr([os.SCHED_IDLE] * 4))


class PriorityOnMacOs(unittest.TestCase):
    def test_it_is_the_background_for_a_while(self):
        calls, state = [], {"background": 0}

        def setpriority(*words):
            calls.append(words)
            state["background"] = int(words[2] != 0)

        def getpriority(which, who):
            self.assertEqual((which, who), (4, 0))
            return state["background"]

        with mock.patch.multiple(os, setpriority=setpriority, getpriority=getpriority):
            with mock.patch.object(sys, "platform", "darwin"):
                priority = spare.Priority()
                priority.lower()
                self.assertEqual(calls, [(4, 0, 0x1000)])
                priority.take_back()
                self.assertEqual(calls, [(4, 0, 0x1000), (4, 0, 0)])

    @unittest.skipUnless(sys.platform == "darwin", "of macOS")
    def test_a_plain_user_can_take_it_back(self):
        work = lambda: lowered_and_taken_back(lambda: os.getpriority(4, 0))
        self.assertEqual(in_child(work), "[0, 1, 0, 0]")


if __name__ == "__main__":
    unittest.main()
