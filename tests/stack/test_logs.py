"""Log lines that are read in rounds, each of them once."""

import unittest

from stack import logs

_GROUP = "/aws/lambda/group"


class Group:
    """A log group, as its client gives it: in the order of time, without ids."""

    def __init__(self) -> None:
        self._events = []

    def store(self, timestamp: int, *messages: str) -> None:
        for message in messages:
            event = {"timestamp": timestamp, "logStreamName": "stream", "message": f"{message}\n"}
            self._events.append(event)
        self._events.sort(key=lambda event: event["timestamp"])

    def get_paginator(self, _name: str):
        return self

    def paginate(self, logGroupName, startTime):
        for event in self._events:
            if event["timestamp"] >= startTime:
                yield {"events": [event]}


class Read(unittest.TestCase):
    def setUp(self):
        self.group, self.reader = Group(), logs.Reader()

    def read(self) -> list[str]:
        with self.reader.unread(self.group, _GROUP) as messages:
            return messages

    def test_a_line_that_is_stored_late_is_read_and_none_twice(self):
        self.assertEqual(self.read(), [])
        self.group.store(99_000, "START RequestId: 1", "first")
        self.assertEqual(self.read(), ["first"])
        self.group.store(99_900, "second")
        self.group.store(96_000, "late")
        self.assertEqual(self.read(), ["late", "second"])
        self.group.store(120_000, "third")
        self.assertEqual([self.read() for _ in range(3)], [["third"], [], []])

    def test_lines_that_are_equal_are_as_many_as_were_written(self):
        self.group.store(99_000, "same", "same")
        self.assertEqual(self.read(), ["same", "same"])
        self.group.store(99_000, "same")
        self.assertEqual([self.read(), self.read()], [["same"], []])

    def test_what_could_not_be_handed_on_is_read_again(self):
        self.group.store(99_000, "first")
        with self.assertRaises(OSError), self.reader.unread(self.group, _GROUP) as messages:
            self.assertEqual(messages, ["first"])
            raise OSError
        self.assertEqual([self.read(), self.read()], [["first"], []])

    def test_what_is_known_is_bounded(self):
        for now in range(100_000, 200_000, 500):
            self.group.store(now, "line")
            self.assertEqual(self.read(), ["line"])
        self.assertLessEqual(len(self.reader._read), 12)


if __name__ == "__main__":
    unittest.main()
