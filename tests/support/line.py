"""A line between two TAP devices, which it makes: it delays frames, loses some, and takes no more than so many.

    line.py TAP TAP MILLISECONDS LOST KILOBYTES

LOST of a hundred frames are lost, in each direction; KILOBYTES pass in a second. It says "up" once both devices
are there, and they go when it ends: when its standard input does.
"""

import collections
import errno
import fcntl
import os
import random
import select
import struct
import sys
import time

TUNSETIFF = 0x400454CA
IFF_TAP = 0x0002
IFF_NO_PI = 0x1000
LONGEST_FRAME = 65536
# Frames that wait; those that come then are lost, as in any router.
WAITING = 1000


def tap(name):
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TAP | IFF_NO_PI))
    return device


class Direction:
    def __init__(self, source, target, delay, lost, speed):
        self.source, self.target = source, target
        self.delay, self.lost, self.speed = delay, lost, speed
        self.waiting = collections.deque()
        self.free = 0.0

    def take(self):
        while True:
            try:
                frame = os.read(self.source, LONGEST_FRAME)
            except BlockingIOError:
                return
            if random.random() < self.lost or len(self.waiting) >= WAITING:
                continue
            self.free = max(self.free, time.monotonic()) + len(frame) / self.speed
            self.waiting.append((self.free + self.delay, frame))

    def give(self):
        """Sends what is due; returns the time of the next frame."""
        while self.waiting:
            due, frame = self.waiting[0]
            if due > time.monotonic():
                return due
            self.waiting.popleft()
            try:
                os.write(self.target, frame)
            except OSError:
                pass  # The device is down: a frame more that is lost.
        return None


def main():
    first, second, milliseconds, lost, kilobytes = sys.argv[1:]
    quality = int(milliseconds) / 1000, int(lost) / 100, int(kilobytes) * 1000
    first, second = tap(first), tap(second)
    directions = [Direction(first, second, *quality), Direction(second, first, *quality)]
    print("up", flush=True)
    while True:
        due = [at for at in [direction.give() for direction in directions] if at is not None]
        limit = max(0.0, min(due) - time.monotonic()) if due else None
        ready, _, _ = select.select([0, first, second], [], [], limit)
        if 0 in ready:
            return
        for direction in directions:
            if direction.source in ready:
                direction.take()


try:
    main()
except OSError as error:
    # The network is gone, and the device with it.
    if error.errno != errno.EBADFD:
        raise
