"""Attacks on the telemetry link by the thousand in one VM. Run by ``cisterna bench attack``.

On stdin: one JSON object. ``do``: one of ATTACKS; ``seed``; and what that attack takes. Prints one
JSON object a line: results {"n", "runs", "why"}, "" for why when all holds; {"end"} when all was
run. The working directory is the runner's own.
"""

import gc
import json
import sys

import attack_example
import attack_frames
import attack_keys
import attack_orders
import attack_session

_COLLECT_EVERY = 4 << 20  # octets: a heap that is left to fill is full of holes

ATTACKS = {
    "damaged": attack_frames.damaged_frames,
    "fuzz": attack_frames.fuzz,
    "pauses": attack_frames.pauses,
    "roles": attack_session.roles,
    "fresh": attack_session.fresh,
    "keys": attack_keys.keys,
    "flips": attack_session.flips,
    "splices": attack_session.splices,
    "replays": attack_session.replays,
    "tokens": attack_orders.tokens,
    "flood": attack_orders.flood,
    "cuts": attack_orders.cuts,
    "announced": attack_orders.announced,
    "honest": attack_orders.honest,
    "example": attack_example.example,
}


def tell(**values):
    print(json.dumps(values))


def main():
    gc.threshold(_COLLECT_EVERY)
    request = json.loads(sys.stdin.read())
    ATTACKS[request["do"]](request, tell)
    tell(end=True)


if __name__ == "__main__":
    main()
