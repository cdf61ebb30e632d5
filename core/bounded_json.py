"""JSON of a user's file, parsed only where it cannot fill the memory.

A list of empty objects takes 3 bytes an object in a file and 70 in memory; how many there can be is
told from the text before it is parsed.
"""

import json
from typing import Any

MOST_OBJECTS = 2_000_000
"""Objects and lists of one file: one for each latent of the widest SAEs."""
MOST_VALUES = 20_000_000


def parse_bounded(text: str, *, most_objects: int = MOST_OBJECTS) -> Any:
    """What `json.loads` gives.

    Raises:
        json.JSONDecodeError: text that is not JSON.
        ValueError: more objects or values than are read, nesting without end, or a number of
            thousands of digits; the message is half a sentence, such as "it is nested too deeply".
    """
    objects = text.count("{") + text.count("[")
    if objects > most_objects:
        raise ValueError(f"it holds {objects:,} objects or lists, and {most_objects:,} are read")
    if text.count(",") > MOST_VALUES:
        raise ValueError(f"it holds more than {MOST_VALUES:,} values")
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
