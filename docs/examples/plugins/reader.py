#!/usr/bin/env python3
"""A plug-in for Ringway in Python: the readings of a receiver, none of them lost.

Ringway runs it as a sensor (input = "exec", protocol = "json", answers = true), reads lines of JSON from its standard
output and writes answers to its standard input. A reading goes into a queue on disk, in the working directory, before
it is sent, and leaves it when Ringway says that it is safe. Whoever dies in between, it is sent again.

The receiver is made up: a bus that drives north and presses its alarm at each tenth reading. Put yours in its place.
"""

import json
import os
import sqlite3
import sys
import threading
import time

EVERY_S = float(os.environ.get("EVERY_S", "1"))  # from one reading to the next
PATIENCE_S = float(os.environ.get("PATIENCE_S", "10"))  # what is not answered by then is sent again
IN_FLIGHT_MAX = 100  # readings that were sent and are not answered; further ones wait on disk
QUEUE_MAX = 100_000  # readings on disk; when so many wait, no new ones are taken

db = sqlite3.connect("queue.db", check_same_thread=False)
db.execute("CREATE TABLE IF NOT EXISTS queue (id INTEGER PRIMARY KEY AUTOINCREMENT, reading TEXT)")
db.commit()
lock = threading.Lock()  # around db and sent_at
sent_at = {}  # when each reading was sent, by id


def reading(number):
    """What the receiver says, as docs/schema/frame.schema.json has it."""
    return {
        "device": "bus-17",
        "time": int(time.time() * 1000),
        "lat": round(48 + number * 1e-5, 7),
        "lon": 11.5,
        "speed_m_s": 1.1,
        "alarms": ["sos"] if number % 10 == 0 else [],
    }


def keep():
    """Puts a new reading into the queue. Its number is one that no reading had before, also after a restart."""
    with lock:
        if db.execute("SELECT COUNT(*) FROM queue").fetchone()[0] >= QUEUE_MAX:
            return
        number = db.execute("INSERT INTO queue (reading) VALUES ('')").lastrowid
        text = json.dumps({**reading(number), "id": number})
        db.execute("UPDATE queue SET reading = ? WHERE id = ?", (text, number))
        db.commit()  # on disk from here on


def send():
    """Sends what was not sent yet, or not answered for long, oldest first."""
    with lock:
        oldest = db.execute("SELECT id, reading FROM queue ORDER BY id LIMIT ?", (IN_FLIGHT_MAX,)).fetchall()
        now = time.monotonic()
        due = [(number, text) for number, text in oldest if now - sent_at.get(number, -PATIENCE_S) >= PATIENCE_S]
        sent_at.update((number, now) for number, _ in due)
    for _, text in due:
        print(text)
    sys.stdout.flush()  # waits while Ringway has no room


def hear():
    """Takes answers until Ringway closes the pipe."""
    for line in sys.stdin:
        answer = json.loads(line)
        if "refused" in answer:
            # A mistake of ours, which no repetition mends: the log of Ringway is the place for it.
            print("refused:", line.strip(), file=sys.stderr, flush=True)
        number = answer.get("safe", answer.get("refused"))
        if number is not None:  # else {"again": ...}: sent again when its time has come
            with lock:
                db.execute("DELETE FROM queue WHERE id = ?", (number,))
                db.commit()
                sent_at.pop(number, None)
    os._exit(0)


threading.Thread(target=hear, daemon=True).start()
while True:
    keep()
    send()
    time.sleep(EVERY_S)
